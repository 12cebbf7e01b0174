"""Models on the Hugging Face hub: what goes there, in which files, and what comes back. Nothing here needs a network."""

import json
import random
import shutil
from pathlib import Path

import gymnasium as gym
import huggingface_hub
import numpy as np
import pytest
import rl_zoo3
import torch
import yaml
from huggingface_hub import HfApi, ModelCard
from huggingface_hub.errors import HTTPError, RemoteEntryNotFoundError
from matplotlib.figure import Figure
from PIL import Image
from stable_baselines3 import PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize
from toys import IMPLICIT, ITERATION, SMALL, SMALL_AWR, TINY_NET, implicit_learner, vec_env

from sb3_tare import AWR, LIRPG, TAREAWR, TAREPPO, RewardLearner
from sb3_tare.__main__ import main
from sb3_tare.analysis import command, load_model, make_env
from sb3_tare.analysis.loading import trained_behind_vec_normalize
from sb3_tare.hub import load_from_hub, package, packing, push_to_hub
from sb3_tare.hub.naming import algorithm_and_env, model_name
from sb3_tare.utils.vec_normalize import find_statistics
from sb3_tare.zoo import main as zoo
from sb3_tare.zoo import register

CHAIN, REPO = "sb3_tare/Chain-v0", "me/tare_ppo-sb3_tare-Chain-v0"
ALWAYS = {"README.md", "config.json", "results.json", "args.yml", "config.yml", "env_kwargs.yml", "train_eval_metrics.zip"}


@pytest.fixture(scope="module")
def model():
    return TAREPPO("MlpPolicy", CHAIN, reward_kwargs=IMPLICIT, **SMALL).learn(ITERATION)


@pytest.fixture(scope="module")
def packed(model, tmp_path_factory):
    """File of a TAREPPO in a folder for the hub."""
    return package(model, tmp_path_factory.mktemp("hub") / "folder", REPO, n_eval_episodes=3)


@pytest.fixture(scope="module")
def behind_statistics(tmp_path_factory):
    """File of a TAREPPO that was trained behind VecNormalize, in a folder for the hub."""
    env = VecNormalize(vec_env(1, lambda: gym.make("CartPole-v1")))
    model = TAREPPO("MlpPolicy", env, reward_kwargs=IMPLICIT, **SMALL).learn(ITERATION)
    return package(model, tmp_path_factory.mktemp("hub") / "cart", "me/tare_ppo-CartPole-v1", "CartPole-v1", n_eval_episodes=1)


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures with nothing in them, for tests that look at other files."""
    monkeypatch.setattr(packing, "timeline", lambda *_: Figure())


@pytest.fixture
def hub(monkeypatch):
    """A folder by the name of each repository, in place of the hub."""
    folders: dict[str, Path] = {}

    def download(repo_id, filename, **kwargs):
        if not (folders[repo_id] / filename).exists():
            raise RemoteEntryNotFoundError.__new__(RemoteEntryNotFoundError)
        return str(folders[repo_id] / filename)

    monkeypatch.setenv("TRUST_REMOTE_CODE", "True")
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(HfApi, "list_repo_files", lambda self, repo_id: [file.name for file in folders[repo_id].iterdir()])
    return folders


@pytest.fixture
def sent(monkeypatch, tmp_path):
    """All uploads, whose folders are kept."""
    uploads: list[dict] = []

    def upload(self, **kwargs):
        kept = tmp_path / f"upload_{len(uploads)}"
        shutil.copytree(kwargs["folder_path"], kept)
        uploads.append({**kwargs, "kept": kept, "token": self.token})

    monkeypatch.setattr(HfApi, "upload_folder", upload)
    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, private, exist_ok: f"https://hub.test/{repo_id}")
    return uploads


def refused(capsys, *arguments):
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_files_are_named_by_the_conventions_of_huggingface_sb3(packed):
    assert {file.name for file in packed.parent.iterdir()} == {*ALWAYS, packed.name, "timeline.png"}
    assert packed.name == "tare_ppo-sb3_tare-Chain-v0.zip"


def test_what_is_packed_is_what_is_loaded(model, packed):
    loaded = TAREPPO.load(packed)
    for name, parameter in model.get_parameters()["policy"].items():
        assert torch.equal(parameter, loaded.get_parameters()["policy"][name])
    assert loaded.reward_learner.settings == model.reward_learner.settings


def test_the_results_are_those_of_sb3s_evaluation_of_the_environments_own_reward(model, packed):
    env = make_env(CHAIN, model)
    env.seed(0)
    mean, std = evaluate_policy(model, env, 3, deterministic=True)
    results = json.loads((packed.parent / "results.json").read_text())
    assert (results["mean_reward"], results["std_reward"]) == (mean, std)
    assert (results["n_eval_episodes"], results["is_deterministic"]) == (3, True)


def test_the_cards_metadata_is_read_by_the_hubs_own_library(packed):
    card = ModelCard.load(packed.parent / "README.md")
    (result,) = card.data.eval_results
    written = json.loads((packed.parent / "results.json").read_text())
    assert result.metric_value == f"{written['mean_reward']:.2f} +/- {written['std_reward']:.2f}"
    assert (result.metric_type, result.dataset_name, result.task_type) == ("mean_reward", CHAIN, "reinforcement-learning")
    assert card.data.library_name == "stable-baselines3"
    assert {CHAIN, "reinforcement-learning", "stable-baselines3", "sb3-tare", "reward-learning"} <= set(card.data.tags)


def test_the_card_tells_settings_results_versions_and_how_to_load_it_and_warns_of_pickles(model, packed):
    card = (packed.parent / "README.md").read_text()
    assert f'model = TAREPPO.load(load_from_hub("{REPO}"))' in card
    settings = eval(card.partition("reward_kwargs = ")[2].partition("```")[0])
    assert settings == model.reward_learner.settings.flat()
    assert "Load models only from people whom you trust" in card
    assert f"| PyTorch | {torch.__version__} |" in card
    assert f"| `{CHAIN}` | deterministic | 3 |" in card
    assert "![Extrinsic and learned rewards" in card
    with Image.open(packed.parent / "timeline.png") as picture:
        assert picture.width > 1000


def test_the_configuration_is_the_models_own_and_the_systems(model, packed):
    config = json.loads((packed.parent / "config.json").read_text())
    assert config["num_timesteps"] == model.num_timesteps
    assert config["system_info"]["PyTorch"] == torch.__version__


def test_packing_leaves_no_trace_in_training(model, undrawn, tmp_path):
    def drawn():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = drawn()
    package(model, tmp_path / "folder", REPO, n_eval_episodes=1, deterministic=False)
    assert drawn() == before
    assert "| stochastic | 1 |" in (tmp_path / "folder/README.md").read_text()


@pytest.mark.parametrize(
    ("model_class", "arguments"),
    [(LIRPG, {**SMALL, "reward_kwargs": {}}), (TAREAWR, {**SMALL_AWR, "reward_kwargs": IMPLICIT})],
    ids=["LIRPG", "TAREAWR"],
)
def test_the_other_algorithms_that_learn_a_reward_go_there_too(model_class, arguments, undrawn, tmp_path):
    trained = model_class("MlpPolicy", CHAIN, **arguments).learn(ITERATION)
    file = package(trained, tmp_path / "folder", REPO, n_eval_episodes=1)
    assert isinstance(load_model(file), model_class)
    assert (file.parent / "timeline.png").exists()


def test_awr_has_no_learned_reward_and_its_card_tells_of_none(tmp_path):
    file = package(AWR("MlpPolicy", CHAIN, **SMALL_AWR).learn(ITERATION), tmp_path / "folder", REPO, n_eval_episodes=1)
    assert {each.name for each in file.parent.iterdir()} == {*ALWAYS, "awr-sb3_tare-Chain-v0.zip"}
    card = (file.parent / "README.md").read_text()
    assert "timeline.png" not in card
    assert "reward_kwargs" not in card
    assert "learned" not in card.partition("## Versions")[0].replace("reward-learning", "")


def test_the_reward_of_a_plain_model_goes_beside_it(undrawn, tmp_path):
    learner = implicit_learner(zero_head=False)
    trained = PPO("MlpPolicy", CHAIN, **SMALL).learn(ITERATION, callback=learner)
    file = package(trained, tmp_path / "folder", "me/ppo-Chain", learner=learner, n_eval_episodes=1)
    loaded = RewardLearner.load(file)
    loaded.attach(PPO.load(file))
    network, expected = loaded.trainer.reward_model.network, learner.trainer.reward_model.network
    assert all(map(torch.equal, network.state_dict().values(), expected.state_dict().values()))
    card = (file.parent / "README.md").read_text()
    assert "from stable_baselines3 import PPO" in card
    assert "ppo-sb3_tare-Chain-v0.reward.zip" in card


def test_the_reward_of_an_off_policy_model_is_drawn_too(tmp_path):
    learner = RewardLearner()
    trained = SAC("MlpPolicy", "Pendulum-v1", learning_starts=400, seed=0, policy_kwargs=dict(TINY_NET)).learn(
        410, callback=learner
    )
    file = package(trained, tmp_path / "folder", "me/sac", learner=learner, n_eval_episodes=1)
    assert {"timeline.png", "sac-Pendulum-v1.reward.zip"} <= {each.name for each in file.parent.iterdir()}


def test_statistics_go_along_and_are_found_again(behind_statistics):
    folder = behind_statistics.parent
    was_used = trained_behind_vec_normalize(behind_statistics)
    assert find_statistics(behind_statistics, was_used, "by name") == folder / "vec_normalize.pkl"
    assert "`VecNormalize`" in (folder / "README.md").read_text()
    assert yaml.safe_load((folder / "config.yml").read_text())["normalize"] is True


def test_a_model_that_was_trained_behind_statistics_is_not_packed_without_them(behind_statistics, tmp_path):
    with pytest.raises(ValueError, match="trained behind VecNormalize, and its statistics lie neither"):
        package(TAREPPO.load(behind_statistics), tmp_path / "folder", REPO, "CartPole-v1")
    assert not (tmp_path / "folder").exists()


def test_arguments_that_cannot_work_are_named(model, packed, tmp_path):
    with pytest.raises(ValueError, match=r"repo_id must be the owner and a name, such as .* got 'mine'"):
        package(model, tmp_path / "folder", "mine")
    with pytest.raises(ValueError, match="alphanumeric"):
        push_to_hub(model, "me/my model")
    with pytest.raises(ValueError, match="folder must be new or empty"):
        package(model, packed.parent, REPO)
    with pytest.raises(ValueError, match="n_eval_episodes must be"):
        package(model, tmp_path / "folder", REPO, n_eval_episodes=0)
    with pytest.raises(ValueError, match="env_id must be named: this TAREPPO has no environment"):
        package(TAREPPO.load(packed), tmp_path / "folder", REPO)
    with pytest.raises(ValueError, match="learns a reward of its own"):
        package(model, tmp_path / "folder", REPO, learner=RewardLearner())
    assert not (tmp_path / "folder").exists()


def test_pushing_is_one_upload_which_takes_away_what_was_there_of_another_model(model, sent, undrawn):
    assert push_to_hub(model, REPO, commit_message="Better", token="secret", n_eval_episodes=1) == f"https://hub.test/{REPO}"
    (upload,) = sent
    assert (upload["repo_id"], upload["commit_message"], upload["token"]) == (REPO, "Better", "secret")
    assert {"vec_normalize.pkl", "tare_ppo-sb3_tare-Chain-v0.reward.zip"} <= set(upload["delete_patterns"])
    assert (upload["kept"] / "tare_ppo-sb3_tare-Chain-v0.zip").exists()


def test_what_was_pushed_is_loaded_in_one_line(packed, hub):
    hub[REPO] = packed.parent
    assert TAREPPO.load(load_from_hub(REPO)).num_timesteps == ITERATION


def test_huggingface_sb3_loads_it_too(packed, hub):
    hub[REPO] = packed.parent
    from huggingface_sb3 import load_from_hub as theirs

    assert TAREPPO.load(theirs(REPO, packed.name)).num_timesteps == ITERATION


def test_nothing_comes_from_people_who_are_not_trusted(packed, hub, monkeypatch):
    hub[REPO] = packed.parent
    monkeypatch.delenv("TRUST_REMOTE_CODE")
    with pytest.raises(ValueError, match="TRUST_REMOTE_CODE"):
        load_from_hub(REPO)


def test_the_only_model_of_a_repository_of_another_name_is_found_and_of_several_one_is_to_be_named(packed, hub, tmp_path):
    shutil.copytree(packed.parent, tmp_path / "there")
    hub["me/mine"] = tmp_path / "there"
    assert load_from_hub("me/mine").name == packed.name
    shutil.copyfile(packed, tmp_path / "there/best.zip")
    with pytest.raises(ValueError, match=r"filename must name a model of me/mine; there are .*best\.zip"):
        load_from_hub("me/mine")
    assert load_from_hub("me/mine", filename="best.zip").name == "best.zip"
    with pytest.raises(ValueError, match=r"filename 'no\.zip' must name a model"):
        load_from_hub("me/mine", filename="no.zip")
    with pytest.raises(ValueError, match=r"best\.zip is not named after an algorithm and an environment"):
        load_from_hub("me/mine", tmp_path / "logs", "best.zip")


@pytest.mark.parametrize("file", ["..-Chain.zip", "ppo-...zip", "ppo.zip", "ppo-.zip", "ppo-Chain.pkl"])
def test_no_folder_is_made_of_names_that_lead_elsewhere(file):
    with pytest.raises(ValueError, match="is not named after an algorithm and an environment"):
        algorithm_and_env(file)


def test_a_loaded_folder_is_a_run_that_enjoy_runs_and_analysis_looks_at(behind_statistics, hub, tmp_path, monkeypatch, capsys):
    repo = "me/tare_ppo-CartPole-v1"
    hub[repo] = behind_statistics.parent
    monkeypatch.chdir(tmp_path)
    for number in (1, 2):
        assert main(["load", "--repo", repo, "--out", "logs"]) == 0
        assert capsys.readouterr().out.strip() == f"logs/tare_ppo/CartPole-v1_{number}/CartPole-v1.zip"
    main(["enjoy", "--algo", "tare_ppo", "--env", "CartPole-v1", "-f", "logs", "--no-render", "-n", "20"])
    assert "Loading running average" in capsys.readouterr().out
    for picture in ("timeline", "histogram"):
        monkeypatch.setattr(command, picture, lambda *_: Figure())
    arguments = ("--env", "CartPole-v1", "--episodes", "1", "--video", "none", "--out", "seen")
    assert main(["analysis", "logs/tare_ppo/CartPole-v1_1/CartPole-v1.zip", *arguments]) == 0
    assert "VecNormalize as in" in capsys.readouterr().out


@pytest.mark.parametrize("has_statistics", [False, True])
def test_rl_zoo3_loads_it_too(has_statistics, packed, behind_statistics, hub, tmp_path, monkeypatch, capsys):
    file = behind_statistics if has_statistics else packed
    _, env = algorithm_and_env(file.name)
    hub[f"me/tare_ppo-{env}"] = file.parent
    monkeypatch.chdir(tmp_path)
    zoo("load_from_hub", ["--algo", "tare_ppo", "--env", env, "-orga", "me", "-f", "logs"])
    run = Path(f"logs/tare_ppo/{env}_1")
    assert (run / f"{env}.zip").read_bytes() == file.read_bytes()
    assert (run / env / "vecnormalize.pkl").exists() == has_statistics
    assert ("No normalization file" in capsys.readouterr().out) != has_statistics


def test_rl_zoo3_pushes_a_model_with_the_reward_that_a_callback_learned(sent, hub, undrawn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(HfApi, "create_repo", lambda self, repo_id, **kwargs: f"https://hub.test/{repo_id}")
    monkeypatch.setattr(HfApi, "snapshot_download", lambda self, repo_id, local_dir: local_dir.mkdir(parents=True))
    Path("mine.yml").write_text("CartPole-v1: {n_timesteps: 64, policy: MlpPolicy, n_steps: 64, normalize: true}")
    chosen = ("--algo", "ppo", "--env", "CartPole-v1")
    callback = "callback:{'sb3_tare.RewardLearner':{'preset':'implicit','reward_every':0}}"
    zoo("train", [*chosen, "-conf", "mine.yml", "--eval-freq", "-1", "-params", callback])
    zoo("push_to_hub", [*chosen, "-f", "logs", "-orga", "me", "--no-render"])
    (upload,) = sent
    file = upload["kept"] / "ppo-CartPole-v1.zip"
    assert RewardLearner.load(file).settings.schedule.reward_every == 0
    assert ModelCard.load(file.parent / "README.md").data.eval_results[0].metric_type == "mean_reward"
    assert main(["push", "logs/ppo/CartPole-v1_1/CartPole-v1.zip", *chosen[2:], "--repo", "me/ppo", "--algorithm", "PPO"]) == 0
    ours = sent[1]["kept"]
    assert {"vec_normalize.pkl", "ppo-CartPole-v1.reward.zip"} <= {each.name for each in ours.iterdir()}
    assert yaml.unsafe_load((ours / "config.yml").read_text())["n_steps"] == 64


def test_push_writes_a_folder_and_sends_nothing_where_one_is_named(packed, sent, undrawn, tmp_path, capsys):
    folder = tmp_path / "folder"
    arguments = ("--env", CHAIN, "--repo", REPO, "--episodes", "1", "--folder", str(folder))
    assert main(["push", str(packed), *arguments]) == 0
    assert capsys.readouterr().out.strip() == str(folder / packed.name)
    assert (folder / "README.md").exists()
    assert not sent


def test_the_commands_answer_wrong_arguments_in_one_sentence(packed, hub, tmp_path, capsys):
    there = ("--env", CHAIN, "--repo", REPO, "--folder", str(tmp_path / "folder"))
    assert "No such file" in refused(capsys, "push", "nothing.zip", *there)
    assert "repo_id must be the owner and a name" in refused(capsys, "push", str(packed), *there[:3], "mine")
    assert "`Nowhere` doesn't exist" in refused(capsys, "push", str(packed), "--env", "Nowhere-v0", *there[2:])
    assert "n_eval_episodes must be" in refused(capsys, "push", str(packed), *there, "--episodes", "0")
    assert "required: --out" in refused(capsys, "load", "--repo", REPO)
    assert "repo_id must be the owner and a name" in refused(capsys, "load", "--repo", "mine", "--out", "logs")


def test_a_hub_that_does_not_answer_is_one_sentence_too(monkeypatch, capsys):
    def unreachable(*_):
        raise HTTPError("Name or service not known")

    monkeypatch.setattr(HfApi, "list_repo_files", unreachable)
    assert refused(capsys, "load", "--repo", REPO, "--out", "logs").endswith("error: Name or service not known\n")


NAMES = ("tare_ppo", "tare_awr", "lirpg", "awr", "ppo", "a2c", "sac", "td3", "ddpg", "dqn", "trpo", "tqc")


@pytest.mark.parametrize("name", NAMES)
def test_algorithms_are_named_as_in_rl_zoo3s_tables(name):
    register()
    algorithm = rl_zoo3.ALGOS[name]
    assert model_name(algorithm.__new__(algorithm), CHAIN) == f"{name}-sb3_tare-Chain-v0"

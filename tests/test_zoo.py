"""rl-zoo3's commands with this package's algorithms, each with tiny settings."""

import os
import pickle
import shutil
import subprocess
import sys
from inspect import signature
from pathlib import Path

import gymnasium as gym
import huggingface_hub
import matplotlib.pyplot as plt
import numpy as np
import optuna
import pytest
import rl_zoo3.exp_manager
import yaml
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.save_util import load_from_pkl
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_tare import AWR, LIRPG, TAREAWR, TAREPPO, LearnedReplayBuffer, RewardLearner
from sb3_tare.envs import MUJOCO_TASKS
from sb3_tare.experiments.variants import AWR_TASKS, variant_on
from sb3_tare.utils.checks import check_count
from sb3_tare.zoo import COMMANDS, hyperparams_file, main, register
from sb3_tare.zoo.search import awr_space, lirpg_space, tare_awr_space, tare_ppo_space

ROOT = Path(__file__).parents[1]
HOPPER = ("--algo", "tare_ppo", "--env", "Hopper-v5")
CHAIN = ("--algo", "tare_ppo", "--env", "sb3_tare/Chain-v0")
TINY = ("--eval-freq", "-1", "-n", "64", "-params", "n_steps:64")
ALGORITHMS = ("ppo", "tare_ppo", "lirpg", "awr", "tare_awr")
SPACES = {
    "tare_ppo": (TAREPPO, tare_ppo_space),
    "lirpg": (LIRPG, lirpg_space),
    "awr": (AWR, awr_space),
    "tare_awr": (TAREAWR, tare_awr_space),
}


def hyperparams(algorithm: str) -> dict[str, dict]:
    return yaml.safe_load(hyperparams_file(algorithm).read_text())


def command_line(*arguments: str, cwd: Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """Where a TAREPPO was trained by ``train`` for 768 steps, with three evaluations and checkpoints."""
    folder = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        evaluations = ("--eval-freq", "256", "--eval-episodes", "2", "--save-freq", "256", "-tb", "tensorboard")
        main("train", [*HOPPER, *evaluations, "-n", "600", "--seed", "0", "-params", "n_steps:256", "n_epochs:1"])
    return folder


@pytest.fixture
def in_trained(trained, monkeypatch) -> Path:
    """The same, as the current directory; the run's own folder."""
    monkeypatch.chdir(trained)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    return trained / "logs" / "tare_ppo" / "Hopper-v5_1"


def test_train_leaves_what_rl_zoo3_leaves(in_trained):
    files = {"best_model.zip", "evaluations.npz", "Hopper-v5.zip", "0.monitor.csv"}
    files |= {f"Hopper-v5/{name}" for name in ("vecnormalize.pkl", "config.yml", "args.yml", "command.txt")}
    assert all((in_trained / name).is_file() for name in files)
    assert list(Path("tensorboard").rglob("TAREPPO_1/events*"))


def test_train_takes_our_hyperparameters_and_what_the_command_line_says(in_trained):
    used = dict(yaml.load((in_trained / "Hopper-v5/config.yml").read_text(), Loader=yaml.UnsafeLoader))
    assert used == {**hyperparams("tare_ppo")["Hopper-v5"], "n_steps": 256, "n_epochs": 1}


def test_a_named_file_of_hyperparameters_replaces_ours(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("mine.yml").write_text(
        "Pendulum-v1: {n_timesteps: 64, policy: MlpPolicy, n_steps: 64, reward_kwargs: {preset: paper}}"
    )
    main("train", ["--algo", "tare_ppo", "--env", "Pendulum-v1", *TINY[:4], "-conf", "mine.yml"])
    assert "Loading hyperparameters from: mine.yml" in capsys.readouterr().out
    model = TAREPPO.load("logs/tare_ppo/Pendulum-v1_1/Pendulum-v1.zip")
    assert model.reward_learner.settings.advantage.reward_mode == "replace"


def test_our_own_arguments_may_be_text_as_those_of_rl_zoo3_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yml").write_text(
        "Pendulum-v1: {n_timesteps: 64, policy: MlpPolicy, train_freq: 64, buffer_size: 256, critic_learning_rate: lin_0.02, "
        "reward_kwargs: \"dict(decomposition_learning_rate='lin_0.01', decomposition_updates=2)\"}"
    )
    main("train", ["--algo", "tare_awr", "--env", "Pendulum-v1", *TINY[:4], "-conf", "mine.yml"])
    model = TAREAWR.load("logs/tare_awr/Pendulum-v1_1/Pendulum-v1.zip")
    assert model.critic_lr_schedule(0.5) == pytest.approx(0.01)
    assert model.reward_learner.settings.decomposition.decomposition_learning_rate == "lin_0.01_0.0_1.0"


def test_enjoy_runs_what_was_trained(trained):
    output = command_line("-m", "sb3_tare.zoo", "enjoy", *HOPPER, "-f", "logs", "--no-render", "-n", "1000", cwd=trained)
    assert "Loading running average" in output
    assert "Mean reward" in output


@pytest.mark.parametrize("which", [("--load-best",), ("--load-checkpoint", "512"), ("--load-last-checkpoint",)])
def test_enjoy_runs_the_best_model_and_checkpoints_too(which, in_trained, capsys):
    main("enjoy", [*HOPPER, "-f", "logs", "--no-render", "-n", "1000", *which])
    output = capsys.readouterr().out
    assert "Mean reward" in output
    file = {"--load-best": "best_model", "--load-checkpoint": "rl_model_512_steps"}.get(which[0], "rl_model_768_steps")
    assert f"Loading logs/tare_ppo/Hopper-v5_1/{file}.zip" in output


def test_an_environment_with_a_slash_in_its_id_is_trained_filmed_and_evaluated(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main("train", [*CHAIN, *TINY])
    main("record_video", [*CHAIN, "-f", "logs", "-n", "20"])
    (video,) = Path("logs/tare_ppo/sb3_tare-Chain-v0_1/videos").glob("*.mp4")
    assert video.stat().st_size > 1000
    main("benchmark", ["--log-dir", "logs", "--benchmark-dir", "bench", "--no-hub", "-n", "100"])
    assert "|tare_ppo|sb3_tare-Chain-v0|" in Path("bench/benchmark.md").read_text()


def test_training_goes_on_from_a_checkpoint_with_its_own_normalisation(in_trained, tmp_path):
    checkpoint = in_trained / "rl_model_256_steps.zip"
    main("train", [*HOPPER, *TINY, "n_epochs:1", "-i", str(checkpoint), "-f", str(tmp_path)])
    before, after = (
        VecNormalize.load(str(file), DummyVecEnv([lambda: gym.make("Hopper-v5")])).obs_rms.count
        for file in (
            in_trained / "rl_model_vecnormalize_256_steps.pkl",
            tmp_path / "tare_ppo/Hopper-v5_1/Hopper-v5/vecnormalize.pkl",
        )
    )
    assert after - before == pytest.approx(64, abs=1)


def test_training_goes_on_from_a_final_model_with_the_normalisation_of_its_folder(in_trained, tmp_path, capsys):
    main("train", [*HOPPER, *TINY, "n_epochs:1", "-i", str(in_trained / "Hopper-v5.zip"), "-f", str(tmp_path)])
    output = capsys.readouterr().out
    assert "Loading pretrained agent" in output
    assert "Loading saved VecNormalize stats" in output


@pytest.mark.parametrize("evaluated", [True, False])
def test_a_reward_learned_by_a_callback_lies_beside_the_final_the_best_and_every_saved_model(evaluated, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("mine.yml").write_text("Pendulum-v1: {n_timesteps: 128, policy: MlpPolicy, n_steps: 64}")
    saved = ("--eval-freq", "50", "--eval-episodes", "1", "--save-freq", "50") if evaluated else ("--eval-freq", "-1")
    callback = "callback:{'sb3_tare.RewardLearner':{'preset':'implicit','reward_every':0}}"
    main("train", ["--algo", "ppo", "--env", "Pendulum-v1", "-conf", "mine.yml", *saved, "-params", callback])
    folder = tmp_path / "logs/ppo/Pendulum-v1_1"
    models = {"Pendulum-v1"} | ({"best_model", "rl_model_50_steps", "rl_model_100_steps"} if evaluated else set())
    assert {path.name for path in folder.glob("*.zip")} == {
        f"{name}{end}" for name in models for end in (".zip", ".reward.zip")
    }
    assert all(RewardLearner.load(folder / name).settings.schedule.reward_every == 0 for name in models)


def test_benchmark_evaluates_what_was_trained(in_trained):
    main("benchmark", ["--log-dir", "logs", "--benchmark-dir", "bench", "--no-hub", "--test-mode", "-n", "100"])
    assert "|tare_ppo|Hopper-v5|" in Path("bench/benchmark.md").read_text()


def test_evaluations_are_gathered_and_plotted(in_trained, tmp_path, monkeypatch):
    for run in ("Hopper-v5_1", "Hopper-v5_2"):
        shutil.copytree(in_trained, tmp_path / "logs/tare_ppo" / run)
    monkeypatch.chdir(tmp_path)
    main("plots.all_plots", ["-a", "tare_ppo", "-e", "Hopper-v5", "-f", "logs", "-o", "gathered", "--no-display"])
    with plt.ioff():
        main("plots.plot_from_file", ["-i", "gathered.pkl", "--skip-timesteps", "-o", "figure", "--format", "png"])
        main("plots.plot_train", ["-a", "tare_ppo", "-e", "Hopper-v5", "-f", "logs", "-w", "5"])
    plt.close("all")
    gathered = pickle.loads(Path("gathered.pkl").read_bytes())
    assert gathered["Hopper-v5"]["TARE_PPO-logs"]["timesteps"].tolist() == [256, 512, 768]


def test_a_model_goes_to_the_hub(in_trained, monkeypatch):
    uploads = []
    monkeypatch.setattr(
        huggingface_hub.HfApi, "snapshot_download", lambda self, repo_id, local_dir: local_dir.mkdir(parents=True)
    )
    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", lambda *args, **kwargs: "https://hub.test/me/hopper")
    monkeypatch.setattr(huggingface_hub.HfApi, "upload_folder", lambda self, **kwargs: uploads.append(kwargs["folder_path"]))
    main("push_to_hub", [*HOPPER, "-f", "logs", "-orga", "me", "--no-render"])
    (folder,) = uploads
    assert (Path(folder) / "tare_ppo-Hopper-v5.zip").exists()
    assert "TAREPPO" in (Path(folder) / "README.md").read_text()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as exit_:
        main(command, ["--help"])
    assert exit_.value.code == 0
    assert "usage" in capsys.readouterr().out


def test_enjoy_says_what_works_where_there_is_no_screen(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(SystemExit, match=r"there is no screen .* --no-render .* record_video"):
        main("enjoy", [*HOPPER, "-f", "logs"])


LEARNER = "callback:'sb3_tare.RewardLearner'"
WRONG = {
    "an argument": ("tare_ppo", "n_step:64", "did you mean 'n_steps'"),
    "a setting": (
        "tare_ppo",
        "reward_kwargs:dict(presett='paper')",
        "reward setting 'presett'; did you mean 'preset'",
    ),
    "a preset": ("tare_ppo", "reward_kwargs:dict(preset='papr')", "preset must be one of"),
    "a setting of a callback": ("ppo", "callback:{'sb3_tare.RewardLearner':{'presett':'paper'}}", "did you mean 'preset'"),
    "a callback of AWR": ("awr", LEARNER, "AWR"),
    "a callback of an algorithm that has one": ("tare_ppo", LEARNER, "TAREPPO learns a reward of its own"),
    "the implicit gradient off-policy": ("dqn", "callback:{'sb3_tare.RewardLearner':{'preset':'implicit'}}", "DQN"),
}


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_argument_is_one_sentence_before_training_starts(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    algorithm, argument, told = WRONG[name]
    monkeypatch.setattr(ExperimentManager, "learn", lambda self, model: pytest.fail("training has started"))
    with pytest.raises(SystemExit, match=f"^train: error: .*{told}"):
        main("train", ["--algo", algorithm, "--env", "CartPole-v1", "--eval-freq", "-1", "-n", "64", "-params", argument])


@pytest.mark.parametrize("written", ["n_steps=64", "callback:RewardLearner", "n_steps:"])
def test_a_value_that_is_not_python_is_named_and_shown_how_to_write(written, capsys):
    with pytest.raises(SystemExit):
        main("train", [*CHAIN, "-params", "n_epochs:1", written])
    assert f"argument -params/--hyperparams: n_epochs:1 {written}: " in (told := capsys.readouterr().err)
    assert "write a name, a colon and a value as Python writes it, such as n_steps:64" in told


def test_an_error_that_is_not_of_arguments_keeps_its_traceback(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ExperimentManager, "learn", lambda self, model: check_count("steps", -1, least=0))
    with pytest.raises(ValueError, match="steps must be"):
        main("train", [*CHAIN, *TINY])


def test_an_unknown_command_lists_those_that_exist(capsys):
    with pytest.raises(SystemExit):
        main(arguments=["trian"])
    assert "'trian' (choose from 'train', 'enjoy'," in capsys.readouterr().err
    with pytest.raises(ValueError, match="no command 'trian'; there are train, enjoy,"):
        main("trian")


def test_an_unknown_algorithm_lists_those_that_exist(capsys):
    for command in ("train", "enjoy", "record_video"):
        with pytest.raises(SystemExit):
            main(command, ["--algo", "tare_dqn", *(["--no-render"] if command == "enjoy" else [])])
        assert "'ppo', 'sac'" in (error := capsys.readouterr().err)
        assert "'tare_ppo'" in error
    with pytest.raises(SystemExit):
        main("hyperparams", ["--algo", "dqn"])
    assert "there are for awr, lirpg, ppo, ppo_tuned, sac, tare_awr, tare_ppo" in capsys.readouterr().err


def test_rl_zoo3s_own_algorithms_go_through_unchanged(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    main("train", ["--algo", "ppo", "--env", "Hopper-v4", *TINY, "--save-freq", "64"])
    own = Path(rl_zoo3.exp_manager.__file__).parent / "hyperparams/ppo.yml"
    assert f"Loading hyperparameters from: {own}" in capsys.readouterr().out
    assert [file.name for file in Path("logs/ppo/Hopper-v4_1").glob("rl_model*")] == ["rl_model_64_steps.zip"]


def test_what_a_command_changes_is_put_back():
    before = rl_zoo3.exp_manager.ExperimentManager, subprocess.call, list(sys.argv)
    with pytest.raises(SystemExit):
        main("train", [*HOPPER, "--help"])
    assert (rl_zoo3.exp_manager.ExperimentManager, subprocess.call, sys.argv) == before
    assert before[0] is ExperimentManager


def test_the_unchanged_zoo_takes_the_learner_as_a_callback(tmp_path):
    callback = "callback:{'sb3_tare.RewardLearner':{}}"
    arguments = ("--algo", "ppo", "--env", "Hopper-v5", "-n", "256", "--eval-freq", "128", "--eval-episodes", "1")
    output = command_line("-m", "rl_zoo3.train", *arguments, "-params", callback, "n_steps:128", cwd=tmp_path)
    assert "reward/" in output
    assert "decomposition_episodes" in output
    assert (tmp_path / "logs/ppo/Hopper-v5_1/best_model.zip").exists()


def test_sac_takes_the_learner_from_its_file_of_hyperparameters(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chosen = ("--algo", "sac", "--env", "sb3_tare/EpisodicHopper-v5", "--conf-file", str(hyperparams_file("sac")))
    small = ("-params", "learning_starts:80", "buffer_size:1000", "batch_size:16")
    main("train", [*chosen, "--eval-freq", "-1", "-n", "150", "--seed", "0", "--save-replay-buffer", *small])
    folder = Path("logs/sac/sb3_tare-EpisodicHopper-v5_1")
    assert (folder / "sb3_tare-EpisodicHopper-v5.zip").is_file()
    assert isinstance(load_from_pkl(folder / "replay_buffer.pkl"), LearnedReplayBuffer)


@pytest.mark.parametrize("task", hyperparams("sac"))
def test_sac_is_that_of_rl_zoo3_but_for_the_callback(task):
    own = yaml.safe_load((Path(rl_zoo3.exp_manager.__file__).parent / "hyperparams/sac.yml").read_text())
    settings = hyperparams("sac")[task]
    (callback,) = settings.pop("callback")
    RewardLearner(**callback["sb3_tare.RewardLearner"])
    if task != "default":
        assert settings == own["HalfCheetah-v4"]


def test_the_three_line_script_trains_in_processes(tmp_path):
    subproc = ("--vec-env", "subproc", "-params", "n_envs:2", "n_steps:32")
    arguments = ("--eval-freq", "-1", "-n", "64", *subproc)
    command_line(str(ROOT / "examples/train.py"), *CHAIN, *arguments, cwd=tmp_path)
    assert (tmp_path / "logs/tare_ppo/sb3_tare-Chain-v0_1/sb3_tare-Chain-v0.zip").exists()


def test_two_workers_search_in_one_storage_which_is_gone_on_from(tmp_path, monkeypatch):
    storage = ("--storage", "search.log", "--study-name", "study")
    search = ("-m", "sb3_tare.zoo", "train", *CHAIN, "-n", "64", "-optimize", *storage, "--no-optim-plots")
    search += ("--n-evaluations", "1", "--eval-episodes", "1", "--pruner", "none")
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    workers = [
        subprocess.Popen([sys.executable, *search, "--n-trials", "1", "--seed", seed], cwd=tmp_path, env=environment)
        for seed in ("6", "15")  # both draw short rollouts
    ]
    assert [worker.wait() for worker in workers] == [0, 0]

    backend = optuna.storages.journal.JournalFileBackend(str(tmp_path / "search.log"))
    study = optuna.load_study(study_name="study", storage=optuna.storages.JournalStorage(backend))
    assert [trial.state.name for trial in study.trials] == ["COMPLETE", "COMPLETE"]
    assert study.trials[0].params != study.trials[1].params

    monkeypatch.chdir(tmp_path)
    main("train", [*search[3:], "--max-total-trials", "2"])
    assert len(study.get_trials()) == 2
    main("train", [*CHAIN, *TINY[:4], *storage, "--trial-id", "1"])
    (config,) = Path().glob("logs/tare_ppo/*/*/config.yml")
    used = dict(yaml.load(config.read_text(), Loader=yaml.UnsafeLoader))
    expected = tare_ppo_space.convert(study.trials[1].params)
    assert {name: used[name] for name in expected} == expected


@pytest.mark.parametrize("n_actions", [0, 3])
@pytest.mark.parametrize("name", SPACES)
def test_what_is_sampled_fits_the_algorithm(name, n_actions):
    model, space = SPACES[name]
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    for _ in range(20):
        trial = study.ask()
        sampled = space.sample(trial, n_actions, 1, {})
        assert sampled == space.convert(trial.params)
        assert not [name for name in sampled if name.startswith(("one_minus", "reward_n")) or name.endswith("_pow")]
        assert ("reward_kwargs" in sampled) == (name != "awr")
        if issubclass(model, AWR):
            assert ("action_std" in sampled) == (n_actions > 0)
        batch_size = min(sampled.pop("batch_size"), 32)  # PPO warns of one that is no factor of the rollout's size
        model("MlpPolicy", "CartPole-v1", device="cpu", batch_size=batch_size, _init_setup_model=False, **sampled)


def test_register_adds_to_the_tables_that_all_commands_share():
    register()
    assert rl_zoo3.exp_manager.ALGOS["tare_ppo"] is rl_zoo3.ALGOS["tare_ppo"] is TAREPPO
    assert rl_zoo3.exp_manager.HYPERPARAMS_SAMPLER["tare_ppo"] == tare_ppo_space.sample
    assert rl_zoo3.exp_manager.HYPERPARAMS_CONVERTER["tare_ppo"] == tare_ppo_space.convert


REWARDS = ("sb3_tare/Delayed", "sb3_tare/Episodic", "sb3_tare/Noisy")


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_task_has_hyperparameters(algorithm):
    tasks = {f"{variant}{task}" for variant in ("", *REWARDS) for task in MUJOCO_TASKS}
    tasks |= {"sb3_tare/Chain-v0", "CartPole-v1", "Pendulum-v1", "LunarLander-v3", "default"}
    tasks |= {"MiniGrid-Empty-8x8-v0", "MiniGrid-DoorKey-5x5-v0"}
    assert hyperparams(algorithm).keys() == tasks
    for settings in hyperparams(algorithm).values():
        assert settings["policy"] == "MlpPolicy"
        assert not [name for name, value in settings.items() if isinstance(value, str) and value[:1].isdigit()]
        if "reward_kwargs" in settings:
            SPACES[algorithm][0].learner_class.settings_class(**settings["reward_kwargs"])


@pytest.mark.parametrize(("host", "learner"), [("ppo", "tare_ppo"), ("ppo", "lirpg"), ("awr", "tare_awr")])
def test_the_hosts_settings_are_the_same_with_and_without_a_learned_reward(host, learner):
    without_reward = {
        task: {name: value for name, value in settings.items() if name != "reward_kwargs"}
        for task, settings in hyperparams(learner).items()
    }
    assert without_reward == hyperparams(host)


@pytest.mark.parametrize("task", AWR_TASKS)
def test_studies_and_command_line_give_awr_the_same_settings(task):
    settings, chosen = hyperparams("awr")[task], variant_on("awr", task).kwargs
    defaults = {name: parameter.default for name, parameter in signature(AWR).parameters.items()}
    assert chosen.items() <= settings.items()
    for name in settings.keys() & defaults.keys() - chosen.keys() - {"policy", "train_freq"}:
        assert settings[name] == defaults[name], name


@pytest.mark.parametrize("task", ["CartPole-v1", "Pendulum-v1", "LunarLander-v3"])
def test_where_rl_zoo3_has_tuned_ppo_its_settings_are_ours(task):
    own = yaml.safe_load((Path(rl_zoo3.exp_manager.__file__).parent / "hyperparams/ppo.yml").read_text())
    assert hyperparams("ppo")[task] == own[task]


@pytest.mark.parametrize("task", MUJOCO_TASKS)
def test_the_tuned_block_is_rl_zoo3s_of_the_same_task_and_pays_at_the_end_with_the_same(task):
    own = yaml.safe_load((Path(rl_zoo3.exp_manager.__file__).parent / "hyperparams/ppo.yml").read_text())

    def plain(settings: dict[str, object]) -> dict[str, str]:
        return {name: "".join(str(value).split()) for name, value in settings.items()}

    tuned = hyperparams("ppo_tuned")
    assert plain(tuned[task]) == plain(own[task.replace("-v5", "-v4")])
    assert tuned[f"sb3_tare/Episodic{task}"] == tuned[task]


def test_tareppo_trains_with_the_tuned_block(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = ("--conf-file", str(hyperparams_file("ppo_tuned")), "-n", "512", "-params", "n_epochs:1")
    main("train", ["--algo", "tare_ppo", "--env", "Hopper-v5", "--eval-freq", "-1", *settings])
    model = TAREPPO.load(next(Path("logs/tare_ppo").glob("Hopper-v5_1/Hopper-v5.zip")))
    assert (model.gamma, model.batch_size, model.policy.net_arch["pi"]) == (0.999, 32, [256, 256])


def test_a_file_of_hyperparameters_is_found_by_its_algorithm(capsys):
    main("hyperparams", ["--algo", "ppo"])
    assert capsys.readouterr().out.strip() == str(ROOT / "hyperparams/ppo.yml")
    assert np.isclose(hyperparams("ppo")["Hopper-v5"]["learning_rate"], 3e-4)


@pytest.mark.parametrize("algorithm", ["lirpg", "awr", "tare_awr"])
def test_the_other_algorithms_train_and_act(algorithm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = {"lirpg": ("n_steps:64", "n_epochs:1")}.get(algorithm, ("train_freq:64", "actor_steps:64", "critic_steps:64"))
    chosen = ("--algo", algorithm, "--env", "Hopper-v5", "--seed", "0")
    main("train", [*chosen, "--eval-freq", "64", "--eval-episodes", "1", "-n", "128", "-params", *small])
    run = Path("logs") / algorithm / "Hopper-v5_1"
    assert all((run / name).is_file() for name in ("best_model.zip", "evaluations.npz", "Hopper-v5/config.yml"))
    main("enjoy", ["--algo", algorithm, "--env", "Hopper-v5", "-f", "logs", "--no-render", "-n", "20"])


def test_a_checkpoint_goes_on_with_its_own_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    chosen = ("--algo", "awr", "--env", "Pendulum-v1", "--eval-freq", "-1", "--seed", "0")
    small = ("-params", "train_freq:64", "actor_steps:64", "critic_steps:64")
    main("train", [*chosen, "-n", "128", "--save-freq", "64", "--save-replay-buffer", *small])
    folder = Path("logs/awr/Pendulum-v1_1")
    assert (folder / "rl_model_replay_buffer_64_steps.pkl").is_file()
    loaded = []
    load = AWR.load_replay_buffer
    monkeypatch.setattr(
        AWR, "load_replay_buffer", lambda self, path, **rest: (loaded.append(path), load(self, path, **rest))[1]
    )
    main("train", [*chosen, "-n", "64", "-i", str(folder / "rl_model_64_steps.zip"), *small])
    assert Path(loaded[-1]).name == "rl_model_replay_buffer_64_steps.pkl"

"""Runs of rl-zoo3's with the callback that go on from their files (``-i``)."""

import pickle
import shutil
from pathlib import Path

import pytest
import yaml
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.save_util import load_from_pkl
from toys import differences, snapshot

from sb3_tare import LearnedReplayBuffer, RewardLearner
from sb3_tare.zoo import main

HOSTS = {
    "ppo": {"n_steps": 64, "n_epochs": 1},
    "sac": {"learning_starts": 100, "train_freq": 50, "buffer_size": 400, "policy_kwargs": {"net_arch": [8]}},
}
REWARD = {"preset": "decomposition", "decomposition_updates": 2, "architecture_kwargs": {"hidden_size": 8}}
STEPS, CHECKPOINT = 450, "rl_model_210_steps"
PPO_ALONE = pytest.mark.parametrize("run", ["ppo"], indirect=True)


def settings(host: str, **reward: object) -> str:
    """A file of hyperparameters in the current folder."""
    learner = [{"sb3_tare.RewardLearner": {**REWARD, **reward}}]
    task = {"policy": "MlpPolicy", "n_timesteps": STEPS, "normalize": True, "callback": learner, **HOSTS[host]}
    Path("mine.yml").write_text(yaml.safe_dump({"Pendulum-v1": task}))
    return "mine.yml"


def train(host: str, *arguments: str, **reward: object) -> None:
    chosen = ("--algo", host, "--env", "Pendulum-v1", "--eval-freq", "-1", "--seed", "0", "-conf", settings(host, **reward))
    main("train", [*chosen, *arguments])


@pytest.fixture(scope="module", params=HOSTS)
def run(request, tmp_path_factory) -> tuple[str, Path]:
    """A host, and the folder of a run of it behind ``VecNormalize``, with checkpoints."""
    folder = tmp_path_factory.mktemp("zoo")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        train(request.param, "--save-freq", "210", "--save-replay-buffer")
    return request.param, folder / "logs" / request.param / "Pendulum-v1_1"


@pytest.fixture
def begun(monkeypatch, tmp_path) -> list:
    """Callbacks and models with which training would begin; it does not."""
    seen: list = []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ExperimentManager, "learn", lambda self, model: seen.append((self.callbacks, model)))
    return seen


@pytest.mark.parametrize("name", [CHECKPOINT, "Pendulum-v1"])
def test_a_callback_goes_on_with_the_reward_beside_the_model(run, name, begun):
    host, folder = run
    train(host, "-i", str(folder / f"{name}.zip"))
    ((callbacks, model),) = begun
    (learner,) = callbacks
    assert not differences(snapshot(learner.state_dict()), snapshot(RewardLearner.load(folder / name)._loaded.state))
    assert learner._attached.model is model


def test_a_checkpoint_holds_statistics_and_memory_of_its_step(run, begun):
    host, folder = run
    train(host, "-i", str(folder / f"{CHECKPOINT}.zip"))
    ((_, model),) = begun
    saved = pickle.loads((folder / "rl_model_vecnormalize_210_steps.pkl").read_bytes())
    assert model.get_vec_normalize_env().obs_rms.count == saved.obs_rms.count
    assert saved.obs_rms.count < pickle.loads((folder / "Pendulum-v1/vecnormalize.pkl").read_bytes()).obs_rms.count
    if host == "sac":
        assert isinstance(model.replay_buffer, LearnedReplayBuffer)
        own, final = (load_from_pkl(folder / name) for name in ("rl_model_replay_buffer_210_steps.pkl", "replay_buffer.pkl"))
        assert model.replay_buffer.size() == own.size() < final.size()


@PPO_ALONE
def test_the_settings_of_the_yaml_hold_for_the_reward_that_goes_on(run, begun):
    host, folder = run
    train(host, "-i", str(folder / f"{CHECKPOINT}.zip"), decomposition_updates=7)
    assert begun[0][0][0].settings.decomposition.decomposition_updates == 7


@PPO_ALONE
def test_settings_of_another_network_than_that_beside_the_model_are_refused(run, begun):
    host, folder = run
    with pytest.raises(SystemExit, match=rf"{CHECKPOINT}\.reward\.zip holds a reward that does not fit the callback's"):
        train(host, "-i", str(folder / f"{CHECKPOINT}.zip"), architecture_kwargs={"hidden_size": 4})
    assert not begun


@PPO_ALONE
def test_a_learned_reward_in_place_of_a_model_is_refused(run, begun):
    host, folder = run
    with pytest.raises(SystemExit, match="is a learned reward: give the model beside it"):
        train(host, "-i", str(folder / "Pendulum-v1.reward.zip"))
    assert not begun


@PPO_ALONE
def test_a_model_without_a_reward_beside_it_begins_a_new_one(run, begun, tmp_path):
    host, folder = run
    shutil.copy(folder / "Pendulum-v1.zip", tmp_path / "model.zip")
    shutil.copytree(folder / "Pendulum-v1", tmp_path / "Pendulum-v1")
    train(host, "-i", "model.zip")
    assert begun[0][0][0]._loaded is None


@PPO_ALONE
def test_statistics_that_are_missing_are_told_of(run, begun, tmp_path):
    host, folder = run
    shutil.copy(folder / "Pendulum-v1.zip", tmp_path / "model.zip")
    with pytest.raises(SystemExit, match=r"no statistics for it: copy those that it was trained with to Pendulum-v1/vecnorm"):
        train(host, "-i", "model.zip")
    assert not begun


def test_a_run_goes_on_to_its_end(run, tmp_path, monkeypatch):
    host, folder = run
    monkeypatch.chdir(tmp_path)
    train(host, "-n", "128", "-i", str(folder / f"{CHECKPOINT}.zip"))
    assert (tmp_path / "logs" / host / "Pendulum-v1_1/Pendulum-v1.reward.zip").exists()


def test_a_learner_that_could_not_start_may_be_ended_as_rl_zoo3_does_it_after_any_error():
    RewardLearner().on_training_end()

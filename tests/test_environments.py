"""Environments made again as a model had them, from what Gymnasium or a run of rl-zoo3's knows of them."""

import json
from pathlib import Path

import gymnasium as gym
import pytest
import yaml
from gymnasium.wrappers import ClipReward, TimeAwareObservation, TimeLimit, TransformReward
from matplotlib.figure import Figure
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize
from toys import IMPLICIT, ITERATION, SMALL, Toy, vec_env

from sb3_tare import TAREPPO
from sb3_tare.__main__ import main
from sb3_tare.analysis import command, make_env
from sb3_tare.analysis.environments import MONITOR, Environment, Wrapper, environment_of
from sb3_tare.analysis.zoo_runs import named
from sb3_tare.envs import DelayedReward
from sb3_tare.hub import package, packing
from sb3_tare.zoo import main as zoo

CHAIN, LAKE, REPO = "sb3_tare/Chain-v0", "FrozenLake-v1", "me/tare_ppo-FrozenLake-v1"
GRID = "MiniGrid-Empty-8x8-v0"
DELAYED = Wrapper("sb3_tare.envs.delayed.DelayedReward", {"delay": 3})


class Untold(gym.Wrapper):
    """Does not tell Gymnasium how it was made."""


def lake(**kwargs):
    return gym.make(LAKE, is_slippery=False, **kwargs)


def model_in(env):
    return PPO("MlpPolicy", env, **SMALL)


def environment_in(env):
    return environment_of(model_in(env))


@pytest.fixture
def undrawn(monkeypatch):
    """Pictures with nothing in them, for tests that look at other files."""
    monkeypatch.setattr(packing, "timeline", lambda *_: Figure())
    for picture in ("timeline", "histogram", "agreement"):
        monkeypatch.setattr(command, picture, lambda *_: Figure())


@pytest.fixture
def run_of_zoo(tmp_path, monkeypatch):
    """Train TAREPPO with rl-zoo3, and give its model's file."""

    def train(env, hyperparameters, *arguments):
        monkeypatch.chdir(tmp_path)
        known = {"n_timesteps": 64, "policy": "MlpPolicy", "n_steps": 64, "reward_kwargs": {"reward_every": 0}}
        Path("mine.yml").write_text(yaml.safe_dump({env: {**known, **hyperparameters}}))
        zoo("train", ["--algo", "tare_ppo", "--env", env, "-conf", "mine.yml", "--eval-freq", "-1", *arguments])
        return Path(f"logs/tare_ppo/{env}_1/{env}.zip")

    return train


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        (lambda: gym.make(LAKE), Environment(LAKE, {}, (MONITOR,))),
        (lake, Environment(LAKE, {"is_slippery": False}, (MONITOR,))),
        (lambda: lake(render_mode="rgb_array"), Environment(LAKE, {"is_slippery": False}, (MONITOR,))),
        (lambda: TimeLimit(gym.make(LAKE), 7), Environment(LAKE, {"max_episode_steps": 7}, (MONITOR,))),
        (lambda: gym.make(LAKE, max_episode_steps=-1), Environment(LAKE, {"max_episode_steps": -1}, (MONITOR,))),
        (lambda: DelayedReward(Monitor(lake()), 3), Environment(LAKE, {"is_slippery": False}, (MONITOR, DELAYED))),
        (lambda: gym.make("sb3_tare/EpisodicCorridor-v0"), Environment("sb3_tare/EpisodicCorridor-v0", {}, (MONITOR,))),
        (lambda: VecNormalize(vec_env(2, lambda: DelayedReward(lake(), 3)), norm_obs=False), None),
    ],
    ids=["as registered", "arguments", "rendered", "time limit", "no time limit", "wrapper", "registered wrapper", "copies"],
)
def test_an_environment_is_known_by_what_differs_from_its_id_and_is_the_same_when_it_is_made_again(env, expected):
    found = environment_in(env())
    assert found == (expected or Environment(LAKE, {"is_slippery": False}, (DELAYED, MONITOR)))
    assert environment_in(found.make()) == found


def test_monitors_stay_where_they_were_so_that_returns_are_those_that_training_has_logged():
    model = model_in(make_vec_env(LAKE, wrapper_class=ClipReward, wrapper_kwargs={"max_reward": 0.5}))
    env = make_env(environment_of(model), model)
    assert isinstance(env.envs[0], ClipReward)
    assert isinstance(env.envs[0].env, Monitor)
    assert isinstance(make_env(LAKE, model).envs[0], Monitor)


@pytest.mark.parametrize(
    ("env", "sentence"),
    [
        (lambda: Untold(lake()), r"the wrapper test_environments.Untold cannot be made again.*RecordConstructorArgs"),
        (lambda: TransformReward(lake(), abs), "arguments of FrozenLake-v1 or of its wrappers are not plain data"),
        (lambda: VecFrameStack(vec_env(1, lambda: gym.make("CartPole-v1")), 2), "environment is in VecFrameStack"),
    ],
)
def test_what_cannot_be_made_again_is_refused_with_what_would_work(env, sentence, tmp_path):
    with pytest.raises(ValueError, match=rf"{sentence}.*: register the environment under an id of its own"):
        package(model_in(env()), tmp_path / "folder", "me/ppo")
    assert not (tmp_path / "folder").exists()


def test_an_environment_without_an_id_is_to_be_named(tmp_path):
    with pytest.raises(ValueError, match="env_id must be named: this PPO has no environment that knows its id"):
        environment_in(Toy())
    with pytest.raises(
        ValueError, match=r"env_kwargs are of the environment that env_id names, .* got \{'is_slippery': False\}"
    ):
        package(model_in(lake()), tmp_path / "folder", "me/ppo", env_kwargs={"is_slippery": False})


def test_results_are_of_the_models_own_environment_and_the_files_tell_how_it_is_made(tmp_path):
    model = model_in(DelayedReward(lake(), 3))
    way = {0: 1, 4: 1, 8: 2, 9: 1, 13: 2, 14: 2}
    model.predict = lambda observation, *_, **__: ([way[int(observation[0])]], None)  # type: ignore[method-assign]
    file = package(model, tmp_path / "folder", "me/ppo", n_eval_episodes=20)
    read = {name: yaml.safe_load((file.parent / f"{name}.yml").read_text()) for name in ("args", "config", "env_kwargs")}
    assert json.loads((file.parent / "results.json").read_text())["mean_reward"] == 1.0
    assert read["args"]["env_kwargs"] == read["env_kwargs"] == {"is_slippery": False}
    assert read["config"]["env_wrapper"] == [{DELAYED.name: DELAYED.kwargs}]
    told = f"`{LAKE}` with `is_slippery=False` in `{DELAYED.name}(delay=3)`"
    assert told in (file.parent / "README.md").read_text()
    assert named(LAKE, None, file.parent) == Environment(LAKE, {"is_slippery": False}, (MONITOR, DELAYED))
    assert named("Taxi-v3", None, file.parent) == Environment("Taxi-v3")


def test_wrapped_observations_are_seen_again(undrawn, tmp_path):
    model = TAREPPO("MlpPolicy", TimeAwareObservation(gym.make("CartPole-v1")), reward_kwargs=IMPLICIT, **SMALL)
    file = package(model.learn(ITERATION), tmp_path / "folder", "me/tare_ppo-CartPole-v1", n_eval_episodes=1)
    arguments = ("--env", "CartPole-v1", "--episodes", "1", "--video", "none", "--out", str(tmp_path / "seen"))
    assert main(["analysis", str(file), *arguments]) == 0
    assert main(["push", str(file), *arguments[:4], "--repo", REPO, "--folder", str(tmp_path / "again")]) == 0
    assert "TimeAwareObservation" in (tmp_path / "again/config.yml").read_text()


def test_a_run_of_rl_zoo3_is_pushed_and_looked_at_with_its_own_arguments_and_wrappers(run_of_zoo, undrawn, tmp_path):
    wrappers = ["minigrid.wrappers.ImgObsWrapper", {"gymnasium.wrappers.FlattenObservation": {}}]
    settings = {"env_wrapper": wrappers, "env_kwargs": {"max_steps": 9}}
    file = run_of_zoo(GRID, settings, "--gym-packages", "minigrid", "--env-kwargs", "max_steps:5")
    expected = tuple(Wrapper(name, {}) for name in (wrappers[0], "gymnasium.wrappers.FlattenObservation"))
    assert named(GRID, None, file.parent) == Environment(GRID, {"max_steps": 5}, (MONITOR, *expected))
    assert main(["push", str(file), "--env", GRID, "--repo", "me/it", "--folder", "sent", "--episodes", "1"]) == 0
    assert yaml.safe_load(Path("sent/env_kwargs.yml").read_text()) == {"max_steps": 5}
    assert "`max_steps=5`" in Path("sent/README.md").read_text()
    arguments = ("--episodes", "1", "--video", "none", "--out", "seen", "--env-kwargs", "max_steps:4")
    assert main(["analysis", str(file), "--env", GRID, *arguments]) == 0


def test_arguments_of_the_command_come_before_those_of_the_run(run_of_zoo, undrawn, capsys):
    file = run_of_zoo(LAKE, {}, "--env-kwargs", "is_slippery:False", "map_name:'8x8'")
    told = ["push", str(file), "--env", LAKE, "--repo", REPO, "--folder", "sent", "--episodes", "1", "--env-kwargs"]
    assert main([*told, "is_slippery:True"]) == 0
    assert yaml.safe_load(Path("sent/env_kwargs.yml").read_text()) == {"is_slippery": True, "map_name": "8x8"}
    with pytest.raises(SystemExit):
        main([*told, "map_name:8x8"])
    assert "'map_name:8x8' must be a key, a colon and a value as Python writes it" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("{frame_stack: 4}", "has frame_stack, around all copies of an environment: register"),
        ("[1, 2]", "must hold settings by their names, got list"),
        ("{a: [}", "cannot be read"),
    ],
)
def test_settings_that_cannot_be_followed_are_named(content, sentence, tmp_path):
    (tmp_path / "args.yml").write_text("env: FrozenLake-v1")
    (tmp_path / "config.yml").write_text(content)
    with pytest.raises(ValueError, match=rf"config\.yml {sentence}"):
        named(LAKE, None, tmp_path)


def test_a_wrapper_that_is_not_there_is_named():
    with pytest.raises(ValueError, match=r"the wrapper nowhere.Gone cannot be imported .*: register the environment"):
        Environment(LAKE, {}, (Wrapper("nowhere.Gone", {}),)).make()

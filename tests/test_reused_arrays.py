"""Environments that write all that they return into the same arrays each time are taken as those that return new ones."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper
from toys import BOX, OBSERVATION, Toy, all_of, awr_of, differences, draw, tare, tare_awr, vec_env

from sb3_tare import LearnedReward, LearnedRewardWrapper, VecLearnedReward
from sb3_tare.data.recorder import Recorder

DICTIONARY = spaces.Dict({"position": OBSERVATION, "speed": spaces.Box(-np.inf, np.inf, (2,), np.float32)})


def written(kept: Any, values: Any) -> Any:
    """``kept`` with ``values`` written into it."""
    if isinstance(values, dict):
        return {key: written(kept[key], value) for key, value in values.items()}
    kept[...] = values
    return kept


def copies(values: Any) -> Any:
    return {key: copies(value) for key, value in values.items()} if isinstance(values, dict) else np.array(values)


class Reusing(VecEnvWrapper):
    """A batched simulator with one array for what ends an episode and one for rewards, and one dictionary of infos a copy."""

    def __init__(self, venv: Any) -> None:
        super().__init__(venv)
        self.rewards = np.zeros(self.num_envs, dtype=np.float32)
        self.terminal: list[Any] = [None] * self.num_envs
        self.infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        for env, info in enumerate(infos):
            self.infos[env].clear()
            self.infos[env].update(info)
            if "terminal_observation" in info:
                self.terminal[env] = self.terminal[env] or [copies(info["terminal_observation"])]
                self.infos[env]["terminal_observation"] = written(self.terminal[env][0], info["terminal_observation"])
        return observations, written(self.rewards, rewards), dones, self.infos


class ReusingEnv(gym.Wrapper):
    """An environment that writes each observation into the array of the one before."""

    def reset(self, **kwargs: Any) -> Any:
        observation, info = self.env.reset(**kwargs)
        self.kept = copies(observation)
        return self.kept, info

    def step(self, action: Any) -> Any:
        observation, *others = self.env.step(action)
        return written(self.kept, observation), *others


def toys(space: spaces.Space) -> DummyVecEnv:
    return vec_env(2, lambda: Toy(space, BOX, horizon=7, p_end=0.05))


@pytest.mark.parametrize("validation", ["split", "next_rollout"])
@pytest.mark.parametrize("space", [OBSERVATION, DICTIONARY], ids=lambda space: type(space).__name__)
def test_a_simulator_that_reuses_its_arrays_teaches_the_same(space, validation):
    policy = "MultiInputPolicy" if isinstance(space, spaces.Dict) else "MlpPolicy"
    models = [tare(env, policy, validation=validation).learn(3 * 128) for env in (toys(space), Reusing(toys(space)))]
    assert not differences(*map(all_of, models))


def test_tareawr_remembers_what_a_simulator_overwrites():
    models = [tare_awr(env).learn(3 * 128) for env in (toys(OBSERVATION), Reusing(toys(OBSERVATION)))]
    assert not differences(*map(awr_of, models))


def test_the_recorder_keeps_copies():
    recorder = Recorder(1)
    recorder.begin(np.array([True]))
    observation = {"position": np.zeros((1, 3))}
    rewards, original, dones = np.array([1.0]), np.array([10.0]), np.array([True])
    infos = [{"terminal_observation": {"position": np.ones(3)}, "TimeLimit.truncated": True}]
    recorder.add(rewards, dones, infos, observation, original)
    for array in (observation["position"], infos[0]["terminal_observation"]["position"], rewards, original):
        array[...] = -1.0
    dones[...] = False
    record = recorder.record()
    assert (record.rewards.item(), record.original_rewards.item(), record.dones.item()) == (1.0, 10.0, True)
    assert not record.last_observations["position"].any()
    assert record.terminal_observations[0, 0]["position"].all()


@pytest.fixture(scope="module", params=["StateAction", "LSTMf"])
def rewards(request: pytest.FixtureRequest) -> dict[str, LearnedReward]:
    """Of a network that looks at a step, and of one that looks at what lies before it too; by the kind of observation."""
    settings = {"architecture": request.param, "zero_head": False}
    policies = {"Box": ("MlpPolicy", OBSERVATION), "Dict": ("MultiInputPolicy", DICTIONARY)}
    return {kind: LearnedReward.of(tare(toys(space), policy, **settings)) for kind, (policy, space) in policies.items()}


def paid(env: gym.Env) -> list[float]:
    env.reset(seed=0)
    generator = np.random.default_rng(0)
    steps = []
    for _ in range(20):
        _, reward, terminated, truncated, _ = env.step(draw(BOX, generator))
        steps.append(reward)
        if terminated or truncated:
            env.reset()
    return steps


@pytest.mark.parametrize("kind", ["Box", "Dict"])
def test_a_step_is_paid_for_the_state_in_which_it_was_taken(rewards, kind):
    space = {"Box": OBSERVATION, "Dict": DICTIONARY}[kind]
    fresh, reusing = (
        LearnedRewardWrapper(make(Toy(space, BOX, horizon=7)), rewards[kind]) for make in (lambda env: env, ReusingEnv)
    )
    assert paid(fresh) == paid(reusing)
    assert len({*paid(fresh)}) == 20


class ReusingObservations(VecEnvWrapper):
    """A batched simulator with one array for observations, which takes its actions at once."""

    def step_async(self, actions: Any) -> None:
        self.venv.step_async(np.copy(actions))

    def reset(self) -> Any:
        self.kept = copies(self.venv.reset())
        return self.kept

    def step_wait(self) -> Any:
        observations, *others = self.venv.step_wait()
        return written(self.kept, observations), *others


@pytest.mark.parametrize("kind", ["Box", "Dict"])
def test_copies_of_an_environment_are_paid_for_the_states_and_actions_of_their_step(rewards, kind):
    space = {"Box": OBSERVATION, "Dict": DICTIONARY}[kind]

    def paid_to(make: Any) -> list[Any]:
        env = VecLearnedReward(make(toys(space)), rewards[kind])
        env.seed(0)
        env.reset()
        generator, actions, steps = np.random.default_rng(0), np.zeros((2, 2), dtype=np.float32), []
        for _ in range(20):
            actions[...] = generator.normal(size=(2, 2))
            env.step_async(actions)
            if make is ReusingObservations:
                actions[...] = 0.0
            steps.append(env.step_wait()[1].tolist())
        return steps

    assert paid_to(lambda env: env) == paid_to(ReusingObservations)

"""Toy environments whose whole state can be copied, tiny models of them, and comparisons to the last bit."""

import os
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from sb3_tare import AWR, TAREAWR, TAREPPO, RewardInputs, RewardLearner

# Tests are of the CPU, but for those of a GPU, which are run alone: SB3_TARE_GPU=1 pytest tests/test_cuda.py
if "SB3_TARE_GPU" not in os.environ:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
torch.set_num_threads(1)
# SB3 makes a folder for each call of learn() in the temporary folder otherwise.
os.environ.setdefault("SB3_LOGDIR", os.path.join(tempfile.gettempdir(), "sb3_tare_tests"))

BOX = spaces.Box(-1.0, 1.0, (2,), dtype=np.float32)
OBSERVATION = spaces.Box(-np.inf, np.inf, (3,), dtype=np.float32)
TINY_NET = {"net_arch": [16]}
"""``policy_kwargs``; A2C writes its optimiser into them, so that it must be given a copy."""
IMPLICIT = {"preset": "implicit", "reward_every": 0}
"""Reward learning by the implicit gradient alone, which most laws are about, with a phase for each of the toys' rollouts."""
AS_HOST = {**IMPLICIT, "validation": "next_rollout", "n_reward_updates": 0}
"""The whole rollout trains the policy, on a learned reward that is and stays zero."""

SMALL = {"n_steps": 64, "batch_size": 32, "n_epochs": 2, "seed": 0, "policy_kwargs": TINY_NET}
"""Arguments of a PPO that learns from a rollout in a few milliseconds."""
ITERATION = SMALL["n_steps"]

SMALL_AWR = {
    "train_freq": 64,
    "buffer_size": 256,
    "batch_size": 32,
    "critic_steps": 128,  # for every 2,048 steps collected, so that an iteration has 4
    "actor_steps": 96,  # and 3
    "learning_rate": 1e-2,
    "seed": 0,
    "policy_kwargs": TINY_NET,
}
"""Arguments of an AWR that collects as much and learns from it as fast."""


class Toy(gym.Env):
    """Random observations of any space; actions near the observation's mean pay.

    :param observation_space: any that SB3 takes
    :param action_space: likewise
    :param horizon: steps after which the episode is truncated
    :param p_end: probability that a step ends its episode for good
    """

    def __init__(
        self,
        observation_space: spaces.Space = OBSERVATION,
        action_space: spaces.Space = BOX,
        horizon: int = 20,
        p_end: float = 0.0,
    ) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.horizon, self.p_end = horizon, p_end
        self.time = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return self._observe(), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        reward = float(np.mean(action)) + 0.3 * self.np_random.normal()
        terminated = bool(self.np_random.random() < self.p_end)
        return self._observe(), reward, terminated, self.time >= self.horizon, {}

    def _observe(self) -> Any:
        return draw(self.observation_space, self.np_random)


class Delayed(Toy):
    """Each step earns the first entry of its observation, and all that was earned is paid every ``delay`` steps."""

    def __init__(self, delay: int = 8, horizon: int = 32) -> None:
        super().__init__(horizon=horizon)
        self.delay = delay
        self.owed = 0.0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        self.owed = 0.0
        self.seen, info = super().reset(seed=seed, options=options)
        return self.seen, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.owed += float(self.seen[0])
        self.seen, _, terminated, truncated, info = super().step(action)
        paid = 0.0
        if self.time % self.delay == 0:
            paid, self.owed = self.owed, 0.0
        return self.seen, paid, terminated, truncated, info


class Broken(Toy):
    """Returns ``reward`` and ``observation`` in place of its own from step ``at`` of its life on."""

    def __init__(self, at: int, reward: float | None = None, observation: Any = None) -> None:
        super().__init__()
        self.at, self.broken_reward, self.broken_observation = at, reward, observation
        self.life = 0

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, reward, terminated, truncated, info = super().step(action)
        self.life += 1
        if self.life >= self.at:
            reward = reward if self.broken_reward is None else self.broken_reward
            observation = observation if self.broken_observation is None else self.broken_observation
        return observation, reward, terminated, truncated, info


def draw(space: spaces.Space, generator: np.random.Generator) -> Any:
    """An element of ``space`` that depends on nothing but the generator's state."""
    if isinstance(space, spaces.Dict):
        return {key: draw(part, generator) for key, part in space.items()}
    if isinstance(space, spaces.Discrete):
        return int(generator.integers(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return generator.integers(space.nvec)
    if isinstance(space, spaces.MultiBinary):
        return generator.integers(2, size=space.shape).astype(np.int8)
    assert isinstance(space, spaces.Box)
    if space.dtype == np.uint8:
        return generator.integers(256, size=space.shape, dtype=np.uint8)
    return generator.normal(size=space.shape).astype(space.dtype)


def vec_env(n_envs: int = 1, make: Callable[[], gym.Env] = Toy) -> DummyVecEnv:
    """``n_envs`` monitored toys, as SB3 wraps a single one."""
    return DummyVecEnv([lambda: Monitor(make()) for _ in range(n_envs)])


def tare(env: Any = None, policy: Any = "MlpPolicy", host: Mapping[str, Any] = SMALL, **reward_kwargs: Any) -> TAREPPO:
    """A tiny TAREPPO, which learns by the implicit gradient unless told otherwise.

    :param host: arguments of PPO that differ from ``SMALL``
    :param reward_kwargs: settings of its reward learner
    """
    reward_kwargs = {**IMPLICIT, **reward_kwargs}
    return TAREPPO(policy, vec_env() if env is None else env, reward_kwargs=reward_kwargs, **{**SMALL, **host})


def ppo(env: Any = None, policy: Any = "MlpPolicy", **host: Any) -> PPO:
    """The PPO that :func:`tare` builds upon."""
    return PPO(policy, vec_env() if env is None else env, **{**SMALL, **host})


def awr(env: Any = None, policy: Any = "MlpPolicy", **host: Any) -> AWR:
    """A tiny AWR.

    :param host: arguments that differ from ``SMALL_AWR``
    """
    return AWR(policy, vec_env() if env is None else env, **{**SMALL_AWR, **host})


def implicit_learner(**reward_kwargs: Any) -> RewardLearner:
    """A callback that learns by the implicit gradient unless told otherwise."""
    return RewardLearner(**{**IMPLICIT, **reward_kwargs})


def tare_awr(env: Any = None, policy: Any = "MlpPolicy", host: Mapping[str, Any] = SMALL_AWR, **reward_kwargs: Any) -> TAREAWR:
    """The TAREAWR built upon :func:`awr`, which learns by the implicit gradient unless told otherwise.

    :param host: arguments of AWR that differ from ``SMALL_AWR``
    :param reward_kwargs: settings of its reward learner
    """
    reward_kwargs = {**IMPLICIT, **reward_kwargs}
    return TAREAWR(policy, vec_env() if env is None else env, reward_kwargs=reward_kwargs, **{**SMALL_AWR, **host})


class TinyCNN(BaseFeaturesExtractor):
    """A convolution that is over before it is noticed."""

    def __init__(self, observation_space: spaces.Box, features_dim: int = 8) -> None:
        super().__init__(observation_space, features_dim)
        self.layers = nn.Sequential(
            nn.Conv2d(observation_space.shape[0], 2, kernel_size=4, stride=4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(8, features_dim),
        )

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layers(observations)


class NormDropoutExtractor(BaseFeaturesExtractor):
    """Batch normalisation and dropout, which behave differently in training."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, observation_space.shape[0])
        self.layers = nn.Sequential(nn.BatchNorm1d(self.features_dim), nn.Dropout(0.5))

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.layers(observations)


class LinearReward(nn.Module):
    """A reward network of a user's own that follows all of the conventions."""

    sees_reward = False

    def __init__(self, observation_dim: int, action_dim: int, scale: float = 1.0) -> None:
        super().__init__()
        self.head = nn.Linear(observation_dim + action_dim, 1)
        self.scale = scale

    def forward(self, inputs: RewardInputs) -> torch.Tensor:
        return self.scale * self.head(inputs.state_action).squeeze(1)


class Headless(nn.Module):
    """A reward network whose last layer has another name."""

    def __init__(self, observation_dim: int, action_dim: int) -> None:
        super().__init__()
        self.output = nn.Linear(observation_dim + action_dim, 1)

    def forward(self, inputs: RewardInputs) -> torch.Tensor:
        return self.output(inputs.state_action).squeeze(1)


class WrongShape(Headless):
    """One column too many."""

    def forward(self, inputs: RewardInputs) -> torch.Tensor:
        return self.output(inputs.state_action)


class NotANumber(Headless):
    """Diverged."""

    def forward(self, inputs: RewardInputs) -> torch.Tensor:
        return super().forward(inputs) * float("nan")


class Watch(BaseCallback):
    """Calls functions of the model where SB3 calls callbacks."""

    def __init__(self, **hooks: Callable[[Any], Any]) -> None:
        super().__init__()
        self.hooks = hooks

    def _call(self, name: str) -> bool:
        return self.hooks.get(name, lambda _: None)(self) is not False

    def _on_training_start(self) -> None:
        self._call("training_start")

    def _on_rollout_start(self) -> None:
        self._call("rollout_start")

    def _on_step(self) -> bool:
        return self._call("step")

    def _on_rollout_end(self) -> None:
        self._call("rollout_end")

    def _on_training_end(self) -> None:
        self._call("training_end")


def flat(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Leaves of nested dictionaries, lists and tuples, by path."""
    if isinstance(value, Mapping):
        for key, item in value.items():
            yield from flat(item, f"{name}/{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            yield from flat(item, f"{name}/{index}")
    else:
        yield name, value


def snapshot(value: Any) -> dict[str, Any]:
    """The leaves of a state, as copies: state dictionaries of torch refer to tensors that go on changing."""
    return {name: leaf.clone() if isinstance(leaf, torch.Tensor) else leaf for name, leaf in flat(value)}


def policy_of(model: Any) -> dict[str, Any]:
    """The policy's weights, batch-norm statistics and optimiser."""
    return snapshot({"policy": model.policy.state_dict(), "optimiser": model.policy.optimizer.state_dict()})


def all_of(model: Any, learner: Any = None) -> dict[str, Any]:
    """Everything that is learned, and all that the reward learner remembers."""
    learner = model.reward_learner if learner is None else learner
    return {**policy_of(model), **snapshot({"reward_learner": learner.state_dict()})}


def awr_of(model: AWR) -> dict[str, Any]:
    """Everything that AWR learns: weights, statistics, both optimisers, and the reward learner if there is one."""
    policy, learner = model.policy, getattr(model, "reward_learner", None)
    state = {
        "policy": policy.state_dict(),
        "actor_optimiser": policy.actor_optimizer.state_dict(),
        "critic_optimiser": policy.critic_optimizer.state_dict(),
    }
    return snapshot(state if learner is None else {**state, "reward_learner": learner.state_dict()})


def differences(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    """Paths at which two snapshots are not equal to the last bit."""
    return [
        name
        for name in sorted({*first, *second})
        if name not in first or name not in second or not _equal(first[name], second[name])
    ]


def _equal(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and first.dtype == second.dtype and torch.equal(first.cpu(), second.cpu())
    return type(first) is type(second) and first == second


def not_finite(state: Mapping[str, Any]) -> list[str]:
    """Paths of floating-point leaves of a snapshot that hold NaN or infinity; a memory that is not full has no threshold."""
    return [
        name
        for name, leaf in state.items()
        if not torch.isfinite(torch.as_tensor(leaf if _is_number(leaf) else 0.0)).all()
        and not name.endswith("memory/threshold")
    ]


def _is_number(leaf: Any) -> bool:
    return isinstance(leaf, (float, torch.Tensor))


def recorded_rollouts(learner: Any) -> list[Any]:
    """A list to which each rollout will be added as the learner reads it."""
    trainer, rollouts = learner.trainer, []
    read = trainer.read

    def read_and_keep(*args: Any) -> Any:
        rollouts.append(read(*args))
        return rollouts[-1]

    trainer.read = read_and_keep
    return rollouts


def generators() -> tuple[Any, ...]:
    """States of the global random generators."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    return random.getstate(), np.random.get_state(), torch.get_rng_state(), cuda  # noqa: NPY002


def set_generators(states: tuple[Any, ...]) -> None:
    """Put the global random generators back."""
    random.setstate(states[0])
    np.random.set_state(states[1])  # noqa: NPY002
    torch.set_rng_state(states[2])
    if states[3]:
        torch.cuda.set_rng_state_all(states[3])

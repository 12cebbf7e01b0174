"""Toy environments, pairs of PPO and LeanPPO on them, and comparisons to the last bit where kernels allow it."""

from __future__ import annotations

import copy
import os
import tempfile
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter, Logger
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import DummyVecEnv
from torch import nn

from sb3_tare.lean import LeanPPO

torch.set_num_threads(1)
os.environ.setdefault("SB3_LOGDIR", os.path.join(tempfile.gettempdir(), "sb3_tare_tests"))

STEPS = 32
SMALL = {"n_steps": STEPS, "batch_size": 16, "n_epochs": 2, "seed": 0, "policy_kwargs": {"net_arch": [8, 8]}, "device": "cpu"}
"""Arguments of a PPO whose iteration takes a few milliseconds."""
ARRAYS = ("observations", "actions", "rewards", "values", "log_probs", "advantages", "returns", "episode_starts")


def box(*shape: int, dtype: Any = np.float32, bound: float = np.inf) -> spaces.Box:
    return spaces.Box(-bound, bound, shape, dtype=dtype)


class Toy(gym.Env):
    """Random observations of any space; large actions pay.

    :param horizon: steps after which the episode is truncated
    :param p_end: probability that a step ends its episode for good
    """

    def __init__(
        self, observation_space: spaces.Space, action_space: spaces.Space, horizon: int = 11, p_end: float = 0.1
    ) -> None:
        self.observation_space, self.action_space = observation_space, action_space
        self.horizon, self.p_end, self.time = horizon, p_end, 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        super().reset(seed=seed)
        self.time = 0
        return _draw(self.observation_space, self.np_random), {}

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        self.time += 1
        reward = float(np.mean(action)) + 0.3 * self.np_random.normal()
        terminated = bool(self.np_random.random() < self.p_end)
        return _draw(self.observation_space, self.np_random), reward, terminated, self.time >= self.horizon, {}


def _draw(space: spaces.Space, generator: np.random.Generator) -> Any:
    if isinstance(space, spaces.Dict):
        return {key: _draw(part, generator) for key, part in space.items()}
    if isinstance(space, spaces.Discrete):
        return int(generator.integers(space.n))
    if isinstance(space, spaces.MultiDiscrete):
        return generator.integers(space.nvec)
    if space.dtype == np.uint8:
        return generator.integers(256, size=space.shape, dtype=np.uint8)
    return generator.normal(size=space.shape).astype(space.dtype)


def toys(
    n_envs: int = 1,
    observations: spaces.Space | None = None,
    actions: spaces.Space | None = None,
    vec_env: Callable[[list[Callable[[], gym.Env]]], Any] = DummyVecEnv,
    **toy: Any,
) -> Any:
    """Monitored toys, as SB3 wraps them.

    :param toy: arguments of :class:`Toy`
    """
    make = partial(_monitored, observations or box(3), actions or box(2, bound=1.0), **toy)
    return vec_env([make] * n_envs)


def _monitored(*spaces_: spaces.Space, **toy: Any) -> gym.Env:
    return Monitor(Toy(*spaces_, **toy))


class TinyCNN(BaseFeaturesExtractor):
    """A convolution with a dropout-free, shared head."""

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, 8)
        self.layers = nn.Sequential(nn.Conv2d(observation_space.shape[0], 2, 8, stride=8), nn.ReLU(), nn.Flatten())
        self.head = nn.Linear(2 * (observation_space.shape[1] // 8) ** 2, 8)

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return self.head(self.layers(observations))


class Scalars(KVWriter):
    """Keeps what is logged."""

    def __init__(self) -> None:
        self.dumps: list[dict[str, Any]] = []

    def write(self, key_values: dict[str, Any], key_excluded: dict[str, Any], step: int = 0) -> None:
        self.dumps.append(dict(key_values))

    def close(self) -> None:
        pass


class Watch(BaseCallback):
    """Calls a function of the callback at each hook that is named."""

    def __init__(self, **hooks: Callable[[Any], Any]) -> None:
        super().__init__()
        self.hooks = hooks

    def _call(self, name: str) -> bool:
        return self.hooks.get(name, lambda _: None)(self) is not False

    def _on_rollout_start(self) -> None:
        self._call("rollout_start")

    def _on_step(self) -> bool:
        return self._call("step")

    def _on_rollout_end(self) -> None:
        self._call("rollout_end")


def made(algorithm: type[PPO], env: Any = None, policy: str = "MlpPolicy", **arguments: Any) -> PPO:
    """A tiny ``algorithm``, whose ``scalars`` keep its log."""
    model = algorithm(policy, toys() if env is None else env, **{**SMALL, **arguments})
    scalars = Scalars()
    model.set_logger(Logger(None, [scalars]))
    model.scalars = scalars
    return model


def learned(algorithm: type[PPO], env: Any = None, n_rollouts: int = 3, callback: Any = None, **arguments: Any) -> PPO:
    """A tiny ``algorithm`` after some rollouts, and its scalars after the last update among ``scalars.dumps``."""
    model = made(algorithm, env, **arguments)
    model.learn(n_rollouts * model.n_steps * model.n_envs, callback=callback)
    model.logger.dump(model.num_timesteps)
    return model


def pair(make_env: Callable[[], Any] = toys, **arguments: Any) -> tuple[PPO, LeanPPO]:
    """PPO and LeanPPO, each after :func:`learned` in environments of its own."""
    models = []
    for algorithm in (PPO, LeanPPO):
        models.append(learned(algorithm, make_env(), **arguments))
        models[-1].env.close()
    return models[0], models[1]


def assert_same(first: Any, second: Any, name: str = "") -> None:
    """Equal nested dictionaries, lists, arrays and tensors: to the last bit where :func:`kernels_are_exact`."""
    if isinstance(first, Mapping):
        assert first.keys() == second.keys(), name
        for key in first:
            assert_same(first[key], second[key], f"{name}/{key}")
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second), name
        for index, (one, other) in enumerate(zip(first, second, strict=True)):
            assert_same(one, other, f"{name}/{index}")
    elif isinstance(first, (torch.Tensor, np.ndarray)):
        one, other = np.asarray(first), np.asarray(second)
        assert one.dtype == other.dtype, name
        assert one.shape == other.shape, name
        if kernels_are_exact():
            assert np.array_equal(one, other, equal_nan=True), f"{name} differs by {np.abs(one - other).max()}"
        else:
            np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5, err_msg=name)
    else:
        assert first == second, name


def state_of(model: PPO) -> dict[str, Any]:
    """Parameters, optimiser, rollout buffer and estimates of values."""
    buffer = model.rollout_buffer
    with torch.no_grad():
        values = model.policy.predict_values(model.policy.obs_to_tensor(model._last_obs)[0])
    return {**model.get_parameters(), "buffer": {name: getattr(buffer, name) for name in ARRAYS}, "values": values}


@cache
def kernels_are_exact() -> bool:
    """Whether this machine's kernels give the same bits wherever in memory their aligned operands lie.

    SB3's tensors lie each on its own, some of those of the lean loops side by side or in numpy's memory; a BLAS or a vector
    unit may take another way through either.
    """
    generator = torch.Generator().manual_seed(0)

    def shifted(tensor: torch.Tensor, by: int) -> torch.Tensor:
        memory = torch.empty(tensor.numel() + by)
        memory[by:] = tensor.flatten()
        return memory[by:].view(tensor.shape)

    for n, k, m in ((1, 3, 8), (3, 17, 64), (7, 5, 1), (16, 8, 8), (31, 8, 2), (64, 64, 64), (64, 17, 6)):
        x, w, b, g = (torch.randn(*shape, generator=generator) for shape in ((n, k), (m, k), (m,), (n, m)))
        for by in (4, 8, 16):  # numpy's memory starts at multiples of 16 bytes, torch's at multiples of 64
            y, v = shifted(x, by), shifted(w, by)
            products = (torch.addmm(b, x, w.t()), torch.mm(g.t(), x), torch.mm(g, w), g.sum(0), g.sum(1), w.log_softmax(-1))
            others = (torch.addmm(b, y, v.t()), torch.mm(g.t(), y), torch.mm(g, v), shifted(g, by).sum(0))
            others = (*others, shifted(g, by).sum(1), v.log_softmax(-1))
            if not all(torch.equal(one, other) for one, other in zip(products, others, strict=True)):
                return False
    whole = torch.randn(203, generator=generator)
    parts = [part.clone() for part in whole.split([1, 2, 17, 64, 100, 19])]
    for kernel in (torch.exp, torch.tanh, torch.sqrt, lambda x: x.lerp(x * 3, 0.1), lambda x: x.addcmul(x, x, value=0.001)):
        if not torch.equal(kernel(whole.abs()), torch.cat([kernel(part.abs()) for part in parts])):
            return False
    return True


def assert_logs_agree(first: Any, second: Any, least: int, atol: float) -> None:
    """All that was logged, ``least`` times or more, but for what the clock says."""
    assert len(first.scalars.dumps) == len(second.scalars.dumps) >= least
    for one, other in zip(first.scalars.dumps, second.scalars.dumps, strict=True):
        assert one.keys() == other.keys()
        names = [name for name in one if not name.startswith("time/") or name == "time/total_timesteps"]
        np.testing.assert_allclose([one[name] for name in names], [other[name] for name in names], rtol=1e-5, atol=atol)


# What callbacks may do to a model


def change_parameters(model: Any) -> None:
    with torch.no_grad():
        for parameter in model.policy.parameters():
            parameter.mul_(0.9)


def replace_data(model: Any) -> None:
    for parameter in model.policy.parameters():
        parameter.data = parameter.data * 0.9


def set_parameters(model: Any) -> None:
    model.set_parameters(copy.deepcopy(model.get_parameters()))

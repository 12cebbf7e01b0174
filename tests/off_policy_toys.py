"""Tiny off-policy algorithms, and tasks whose rewards a network of state and action can tell."""

from typing import Any

import numpy as np
from gymnasium import spaces
from sb3_contrib import QRDQN, TQC, CrossQ
from stable_baselines3 import DDPG, DQN, SAC, TD3
from stable_baselines3.common.base_class import BaseAlgorithm
from toys import BOX, OBSERVATION, Toy, Watch, draw, vec_env

CONTINUOUS: tuple[type[BaseAlgorithm], ...] = (SAC, TD3, DDPG, TQC, CrossQ)
DISCRETE: tuple[type[BaseAlgorithm], ...] = (DQN, QRDQN)
ALL = (*CONTINUOUS, *DISCRETE)
FAST = {"preset": "decomposition", "architecture_kwargs": {"hidden_size": 16}, "decomposition_episodes": 8}
STEPS = 160


class Seen(Toy):
    """Pays the first number of the observation before the step, all of it at the end where rewards are not dense.

    :param paid: what that number is multiplied with
    """

    def __init__(
        self, dense: bool = True, horizon: int = 15, p_end: float = 0.02, paid: float = 1.0, **spaces_of: Any
    ) -> None:
        super().__init__(horizon=horizon, p_end=p_end, **spaces_of)
        self.dense, self.paid, self.owed = dense, paid, 0.0

    def _observe(self) -> Any:
        self.seen, self.now = getattr(self, "now", None), draw(self.observation_space, self.np_random)
        return self.now

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.owed = 0.0
        return super().reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, _ = super().step(action)
        seen = self.seen["position"] if isinstance(self.seen, dict) else self.seen
        earned = self.paid * float(seen[0])
        self.owed += earned
        paid = self.owed if terminated or truncated else 0.0
        return observation, earned if self.dense else paid, terminated, truncated, {"undelayed_reward": earned}


DICT = spaces.Dict({"position": OBSERVATION, "mode": spaces.Discrete(3)})


def seen(n_envs: int = 2, **kwargs: Any) -> Any:
    return vec_env(n_envs, lambda: Seen(**kwargs))


def tiny(algorithm: type[BaseAlgorithm], env: Any = None, policy: str = "MlpPolicy", **kwargs: Any) -> Any:
    """A tiny algorithm on two environments whose reward comes at the end, that learns from early on."""
    if env is None:
        env = seen(dense=False, action_space=spaces.Discrete(3) if algorithm in DISCRETE else BOX)
    small: dict[str, Any] = {"learning_starts": 20, "batch_size": 16, "buffer_size": 1_000, "seed": 0, "device": "cpu"}
    small |= {"train_freq": 1, "gradient_steps": 1, "policy_kwargs": {"net_arch": [16]}}
    return algorithm(policy, env, **{**small, **kwargs})


def logged(model: Any) -> dict[str, float]:
    return {name.removeprefix("reward/"): value for name, value in model.logger.name_to_value.items()}


def rewards_of(model: Any) -> np.ndarray:
    """Rewards in the replay buffer, ``[rows, n_envs]``."""
    buffer = model.replay_buffer
    return buffer.rewards[: buffer.size()]


class Ended(Watch):
    """Notes length and total of each episode that ended."""

    def __init__(self):
        super().__init__(step=self.note)
        self.episodes = []

    def note(self, watch):
        infos = watch.locals["infos"]
        self.episodes += [(info["episode"]["l"], round(info["episode"]["r"], 3)) for info in infos if "episode" in info]


def in_memory(learner):
    memory = learner.trainer.memory
    return [(length, round(total, 3)) for length, total in zip(memory.lengths.tolist(), memory.totals.tolist(), strict=True)]


def close(ours, theirs):
    return np.allclose(np.array(ours, dtype=float), np.array(theirs, dtype=float), atol=2e-3)


def trained(callbacks, steps=STEPS, env=None, **kwargs):
    return tiny(SAC, env or seen(dense=False), learning_starts=10_000, **kwargs).learn(steps, callback=callbacks)

"""A learned reward in other tasks: environments that pay it, for any algorithm of Stable-Baselines3.

::

    LearnedReward.of(model).save("reward")  # of TAREPPO, TAREAWR, LIRPG or a RewardLearner
    env = LearnedRewardWrapper(gym.make("Hopper-v5"), "reward")
    SAC("MlpPolicy", env).learn(100_000)

Both wrappers belong right around what gives observations, actions and rewards in the environment's own units: inside
``VecNormalize``, whose statistics of the first training the reward brings with it. A wrapper that pays a step at once cannot
know what follows; for networks that look at later steps there is :meth:`~sb3_tare.LearnedReward.relabel`, for whole episodes.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import NDArray
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, unwrap_vec_normalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_tare.networks.registry import ARCHITECTURES
from sb3_tare.rewards.learned_reward import LearnedReward
from sb3_tare.utils.checks import check_choice, check_number

MODES = ("replace", "add")


class LearnedRewardWrapper(gym.Wrapper, gym.utils.RecordConstructorArgs):
    """Pays the learned reward of each step; ``info`` tells it as ``learned_reward``, beside ``extrinsic_reward``.

    :param env: with the spaces that the reward was learned with; images channel first or last
    :param reward: it, or the file of one
    :param mode: ``"replace"`` pays the learned reward alone, ``"add"`` the extrinsic one plus ``coef`` times the learned one
    :param coef: coefficient in ``add``
    :raises TypeError: for what is no learned reward
    :raises ValueError: for other spaces, or a reward that depends on later steps
    """

    def __init__(self, env: gym.Env, reward: LearnedReward | str | Path, mode: str = "replace", coef: float = 1.0) -> None:
        gym.utils.RecordConstructorArgs.__init__(self, reward=reward, mode=mode, coef=coef)
        gym.Wrapper.__init__(self, env)
        self._payer = _Payer(reward, env, 1, mode, coef)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment."""
        observation, info = self.env.reset(seed=seed, options=options)
        self._payer.begin(_batched(observation))
        return observation, info

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step the environment, and pay the learned reward."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        learned, paid = self._payer.pay(
            np.asarray(action)[None],
            np.array([float(np.asarray(reward).item())]),
            _batched(observation),
            np.array([terminated or truncated]),
        )
        return observation, float(paid[0]), terminated, truncated, _told(info, np.asarray(reward).item(), learned[0])


class VecLearnedReward(VecEnvWrapper):
    """Pays the learned reward like :class:`LearnedRewardWrapper`, for all copies of a vectorised environment at once.

    SB3's log shows the extrinsic return in ``rollout/ep_rew_mean`` where a ``Monitor`` is inside, and what was paid where a
    ``VecMonitor`` is outside.

    :param venv: as there
    :param reward: as there
    :param mode: as there
    :param coef: as there
    :raises TypeError: as there, or if ``venv`` is a single environment
    :raises ValueError: as there, or where ``venv`` normalises already
    """

    def __init__(self, venv: VecEnv, reward: LearnedReward | str | Path, mode: str = "replace", coef: float = 1.0) -> None:
        if not isinstance(venv, VecEnv):
            raise TypeError(f"venv must be a VecEnv, got {venv!r}: LearnedRewardWrapper is the one for a single environment")
        if unwrap_vec_normalize(venv) is not None:
            raise ValueError(
                "a learned reward reads observations and rewards in the environment's own units: "
                "put VecNormalize outside, VecNormalize(VecLearnedReward(venv, reward))"
            )
        super().__init__(venv)
        self._payer = _Payer(reward, venv, venv.num_envs, mode, coef)
        self._actions = np.empty(0)

    def reset(self) -> VecEnvObs:
        """Reset the environment."""
        observations = self.venv.reset()
        self._payer.begin(observations)
        return observations

    def step_async(self, actions: NDArray[Any]) -> None:
        """Give the environments their actions ``[N, ...]``."""
        self._actions = np.copy(actions)
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Step the environments, and pay the learned rewards."""
        observations, rewards, dones, infos = self.venv.step_wait()
        learned, paid = self._payer.pay(self._actions, rewards, observations, dones)
        infos = [_told(*step) for step in zip(infos, rewards, learned, strict=True)]
        return observations, paid.astype(np.float32), dones, infos


class _Payer:
    """Remembers of each copy's episode what the reward of its next step depends on."""

    def __init__(self, reward: LearnedReward | str | Path, env: gym.Env | VecEnv, n_envs: int, mode: str, coef: float) -> None:
        check_choice("mode", mode, MODES)
        check_number("coef", coef)
        self.reward = reward if isinstance(reward, LearnedReward) else LearnedReward.load(reward)
        self.reward.check_spaces(env.observation_space, env.action_space)
        if self.reward.context == "episode":
            name = type(self.reward.network).__name__
            raise ValueError(
                f"the reward network {name} may look at later steps of an episode, so that a step cannot be paid before its "
                "episode is over: LearnedReward.relabel gives rewards of whole episodes. Of the built-in networks, "
                f"{', '.join(_paying_steps())} can pay each step; a class of your own that looks at nothing later says so "
                "with the attribute context = 'step' or 'past'"
            )
        self.coefs = (0.0, 1.0) if mode == "replace" else (1.0, float(coef))
        self.keeps_past = self.reward.context == "past"
        self.times = np.zeros(n_envs, dtype=np.int64)
        self.steps: list[list[tuple[Any, Any, float]]] = [[] for _ in range(n_envs)]

    def begin(self, observations: Any) -> None:
        """All copies start an episode."""
        self.observations = deepcopy(observations)  # an environment may write all that it returns into the same array
        self.times[:] = 0
        for steps in self.steps:
            steps.clear()

    def pay(
        self, actions: NDArray[Any], rewards: NDArray[Any], next_observations: Any, dones: NDArray[Any]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Learned rewards of a step of all copies and what they are paid, ``[N]`` each."""
        learned = self._along_episodes(actions, rewards) if self.keeps_past else self._at_once(actions, rewards)
        self.times = np.where(dones, 0, self.times + 1)
        self.observations = deepcopy(next_observations)
        for env in np.flatnonzero(dones):
            self.steps[env].clear()
        extrinsic_coef, learned_coef = self.coefs
        return learned, extrinsic_coef * rewards + learned_coef * learned

    def _at_once(self, actions: NDArray[Any], rewards: NDArray[Any]) -> NDArray[np.float64]:
        return self.reward.relabel(self.observations, actions, rewards, np.ones_like(self.times), self.times)

    def _along_episodes(self, actions: NDArray[Any], rewards: NDArray[Any]) -> NDArray[np.float64]:
        """Rewards ``[N]`` computed from each episode's beginning, as networks tell no state: the cost grows with the time."""
        for env, steps in enumerate(self.steps):
            steps.append((_row(self.observations, env), np.copy(actions[env]), rewards[env]))
        rows = [step for steps in self.steps for step in steps]
        lengths = np.array([len(steps) for steps in self.steps])
        observations, taken, given = zip(*rows, strict=True)
        learned = self.reward.relabel(_stacked(observations), np.stack(taken), np.array(given), lengths)
        return learned[lengths.cumsum() - 1]


def _paying_steps() -> list[str]:
    """Built-in networks whose reward of a step does not depend on later ones."""
    return [name for name, network in ARCHITECTURES.items() if getattr(network, "context", "episode") != "episode"]


def _told(info: dict[str, Any], reward: Any, learned: Any) -> dict[str, Any]:
    return {**info, "extrinsic_reward": float(reward), "learned_reward": float(learned)}


def _batched(observation: Any) -> Any:
    if isinstance(observation, dict):
        return {key: np.asarray(value)[None] for key, value in observation.items()}
    return np.asarray(observation)[None]


def _row(observations: Any, row: int) -> Any:
    if isinstance(observations, dict):
        return {key: np.copy(values[row]) for key, values in observations.items()}
    return np.copy(observations[row])


def _stacked(observations: Any) -> Any:
    if isinstance(observations[0], dict):
        return {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}
    return np.stack(observations)

"""PPO with more capacity: policies with the memory or the structure that TAREPPO spends on its reward.

    python -m sb3_tare.experiments.baselines.capacity --envs Hopper-v5 HalfCheetah-v5

prints how many parameters each has, and in which part. The paper's comparison (section 2.2 and appendix F) has two such
policies: one with an LSTM, and one with the LSTM and the multiplicative interaction of the reward network ``LSTMbMul``.
A policy cannot look ahead, so that the latter's LSTM runs forwards over what has been: the state, and the action and
reward before it. Both are sb3-contrib's ``RecurrentPPO`` at the sizes of SB3's PPO.
"""

from __future__ import annotations

import argparse
from bisect import bisect_left
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from gymnasium.spaces.utils import flatten, flatten_space
from gymnasium.utils import RecordConstructorArgs
from rich.console import Console
from rich.table import Table
from sb3_contrib import RecurrentPPO
from sb3_contrib.ppo_recurrent import MlpLstmPolicy, MultiInputLstmPolicy
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import Tensor, nn

from sb3_tare import LIRPG, TAREPPO, RewardSettings
from sb3_tare.networks.inputs import scaled_times
from sb3_tare.networks.layers import MultiplicativeEmbedding
from sb3_tare.rewards.reward_model import build_reward_model

LSTM_HIDDEN_SIZE, LSTM_LAYERS = 32, 2
"""Width and depth of the reward network's LSTM (table 1 and section 2.1)."""

LSTMBMUL = {"lstm_layers": LSTM_LAYERS}
"""Arguments of the comparison's reward network, ``LSTMbMul``."""

AS_PPO = {"n_steps": 2048, "batch_size": 64}
"""Arguments of SB3's PPO, where ``RecurrentPPO``'s defaults are others."""

HISTORY_KEYS = ("observation", "action", "reward", "time")
NORMALISED_KEYS = ["observation", "reward"]
"""Keys of a :class:`History` that ``VecNormalize`` should normalise: actions and times are of order one already."""


class History(gym.Wrapper, RecordConstructorArgs):
    """Shows beside each observation the action and reward that led to it, and the time step as a reward network sees it.

    Before the first action, action and reward are zero. Discrete actions are one-hot.

    :param env: whose observations are not dictionaries
    :raises ValueError: if they are
    """

    def __init__(self, env: gym.Env) -> None:
        RecordConstructorArgs.__init__(self)
        gym.Wrapper.__init__(self, env)
        if isinstance(env.observation_space, (spaces.Dict, spaces.Tuple)):
            raise ValueError(f"History needs an environment whose observations are arrays, got {env.observation_space}")
        action_space = flatten_space(env.action_space)
        assert isinstance(action_space, spaces.Box)
        self.action_dim = action_space.shape[0]
        self.observation_space = spaces.Dict(
            {
                "observation": env.observation_space,
                "action": spaces.Box(-np.inf, np.inf, action_space.shape, dtype=np.float32),
                "reward": spaces.Box(-np.inf, np.inf, (1,), dtype=np.float32),
                "time": spaces.Box(0.0, np.inf, (1,), dtype=np.float32),
            }
        )

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Reset the environment, with no history."""
        observation, info = self.env.reset(seed=seed, options=options)
        self.time = 0
        return self._observe(observation, np.zeros(self.action_dim, dtype=np.float32), 0.0), info

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Step the environment, with the step's action and reward in the observation."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self.time += 1
        encoded = np.asarray(flatten(self.env.action_space, action), dtype=np.float32)
        return self._observe(observation, encoded, reward), reward, terminated, truncated, info

    def _observe(self, observation: Any, action: np.ndarray, reward: Any) -> dict[str, Any]:
        time = scaled_times(torch.tensor(self.time, dtype=torch.float64)).item()
        reward_and_time = (np.array([value], dtype=np.float32) for value in (reward, time))
        return dict(zip(HISTORY_KEYS, (observation, action, *reward_and_time), strict=True))


class HistoryEmbedding(BaseFeaturesExtractor):
    """The multiplicative embedding of ``LSTMbMul`` on a :class:`History`: [s, previous a] times [previous r, t].

    :param hidden_size: width of its layers
    """

    def __init__(self, observation_space: spaces.Dict, hidden_size: int = 64) -> None:
        super().__init__(observation_space, hidden_size)
        dims = [spaces.utils.flatdim(observation_space[key]) for key in ("observation", "action")]
        self.embedding = MultiplicativeEmbedding(sum(dims), hidden_size)

    def forward(self, observations: dict[str, Tensor]) -> Tensor:
        """Embeddings ``[n, hidden_size]`` of observations, a dictionary of arrays ``[n, ...]``."""
        observation, action, reward, time = (observations[key].flatten(1) for key in HISTORY_KEYS)
        return self.embedding(torch.cat([observation, action], dim=1), torch.cat([reward, time], dim=1))


class HistoryPolicy(MultiInputLstmPolicy):
    """A recurrent policy that leaves the initial weights of its feature extractor as that has drawn them.

    SB3's orthogonal initialisation would set the biases on [r, t] to zero. Both are zero at an episode's first step, and
    the product of embeddings would hide the state there.
    """

    def _build(self, lr_schedule: Schedule) -> None:
        drawn = deepcopy(self.features_extractor.state_dict())
        super()._build(lr_schedule)
        self.features_extractor.load_state_dict(drawn)


def lstm_ppo(env: GymEnv | str, seed: int | None = None, **kwargs: Any) -> RecurrentPPO:
    """PPO with an LSTM before the layers of actor and critic each, in all of about as many parameters as the paper's TAREPPO.

    :param kwargs: other arguments of ``RecurrentPPO``; ``policy_kwargs`` may set ``lstm_hidden_size``
    """
    model = RecurrentPPO("MlpLstmPolicy", env, seed=seed, _init_setup_model=False, **{**AS_PPO, **kwargs})
    size = matching_size(model.observation_space, model.action_space)
    model.policy_kwargs = {"lstm_hidden_size": size, **model.policy_kwargs}
    model._setup_model()
    return model


def lstmbmul_ppo(env: GymEnv | str, seed: int | None = None, **kwargs: Any) -> RecurrentPPO:
    """PPO whose policy embeds its history as ``LSTMbMul`` does, with two layers of LSTM of its size forwards in time.

    :param env: of :class:`History` environments
    :param kwargs: other arguments of ``RecurrentPPO``
    :raises ValueError: for other environments
    """
    policy_kwargs = {
        "features_extractor_class": HistoryEmbedding,
        "lstm_hidden_size": LSTM_HIDDEN_SIZE,
        "n_lstm_layers": LSTM_LAYERS,
        **kwargs.pop("policy_kwargs", {}),
    }
    model = RecurrentPPO(
        HistoryPolicy, env, seed=seed, policy_kwargs=policy_kwargs, _init_setup_model=False, **{**AS_PPO, **kwargs}
    )
    space = model.observation_space
    if not isinstance(space, spaces.Dict) or set(space) != set(HISTORY_KEYS):
        raise ValueError(f"lstmbmul_ppo needs environments wrapped in History, got observations in {space}")
    model._setup_model()
    return model


def matching_size(observation_space: spaces.Space, action_space: spaces.Space) -> int:
    """Hidden size at which a policy with LSTMs has as many parameters as the paper's TAREPPO, or the first with more."""

    def policy_size(lstm_hidden_size: int) -> int:
        return _count(MlpLstmPolicy(observation_space, action_space, lambda _: 0.0, lstm_hidden_size=lstm_hidden_size))

    with torch.random.fork_rng(devices=[]):
        policy = ActorCriticPolicy(observation_space, action_space, lambda _: 0.0)
        settings = RewardSettings(preset="implicit", architecture_kwargs=LSTMBMUL)
        size = _count(policy) + _count(build_reward_model(settings, policy, seed=0))
        return bisect_left(range(1025), size, lo=1, key=policy_size)


def parameter_counts(model: Any) -> dict[str, int]:
    """Number of parameters of a model's policy, critics (the reward learner's too) and reward network, and of all.

    What actor and critic share counts as the policy's.
    """
    learner = getattr(model, "reward_learner", None)
    reward_model = nn.Module() if learner is None else learner.trainer.reward_model
    parts = {"policy": 0, "critic": 0, "reward": 0}
    for name, parameter in model.policy.named_parameters():
        parts["critic" if _is_critics(name) else "policy"] += parameter.numel()
    for name, parameter in reward_model.named_parameters():
        parts["critic" if name.startswith("critic.") else "reward"] += parameter.numel()
    return {**parts, "total": sum(parts.values())}


def _is_critics(name: str) -> bool:
    return any(part in {"value_net", "lstm_critic", "critic", "vf_features_extractor"} for part in name.split("."))


def _count(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def models(env_id: str) -> dict[str, Any]:
    """One model of each kind for an environment."""
    env = gym.make(env_id)
    settings: dict[str, Any] = {"device": "cpu"}
    return {
        "PPO": PPO("MlpPolicy", env, **settings),
        "PPO, LSTM": lstm_ppo(env, **settings),
        "PPO, LSTMbMul": lstmbmul_ppo(History(env), **settings),
        "LIRPG": LIRPG("MlpPolicy", env, **settings),
        "LIRPG, LSTMbMul": LIRPG(
            "MlpPolicy", env, reward_kwargs={"architecture": "LSTMbMul", "architecture_kwargs": LSTMBMUL}, **settings
        ),
        "TAREPPO": TAREPPO(
            "MlpPolicy", env, reward_kwargs={"preset": "implicit", "architecture_kwargs": LSTMBMUL}, **settings
        ),
    }


def main() -> None:
    """Print the numbers of parameters."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["Hopper-v5", "HalfCheetah-v5", "Walker2d-v5", "Ant-v5"])
    table = Table("env", "model", "policy", "critic", "reward", "total", title="parameters")
    for env_id in parser.parse_args().envs:
        for name, model in models(env_id).items():
            table.add_row(env_id, name, *(f"{count:,}" for count in parameter_counts(model).values()))
        table.add_section()
    Console(width=120).print(table)


if __name__ == "__main__":
    main()

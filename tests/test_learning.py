"""TAREPPO and LIRPG learn: seeded, on tasks whose reward comes late."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_tare import LIRPG, TAREPPO
from sb3_tare.envs import DelayedReward

torch.set_num_threads(1)


def mean_return(model: TAREPPO | LIRPG) -> float:
    env = Monitor(gym.make("CartPole-v1"))
    env.reset(seed=100)
    mean, _ = evaluate_policy(model, env, n_eval_episodes=20, deterministic=False)
    return float(np.mean(mean))


def improvement(algorithm: type[TAREPPO] | type[LIRPG] = TAREPPO, **reward_kwargs) -> tuple[float, float]:
    env = DelayedReward(gym.make("CartPole-v1"))
    model = algorithm("MlpPolicy", env, n_steps=1024, seed=0, device="cpu", reward_kwargs=reward_kwargs)
    before = mean_return(model)
    model.learn(24_576)
    return before, mean_return(model)


def test_tareppo_balances_a_pole_for_a_delayed_reward():
    before, after = improvement()
    assert before < 50
    assert after > 100


@pytest.mark.slow
@pytest.mark.parametrize(
    "reward_kwargs",
    [{"preset": "paper"}, {"preset": "implicit"}, {"preset": "implicit", "validation": "next_rollout"}],
    ids=["paper", "implicit", "next_rollout"],
)
def test_each_setting_improves_clearly_over_its_start(reward_kwargs):
    before, after = improvement(**reward_kwargs)
    assert after > 2 * before + 20


@pytest.mark.slow
@pytest.mark.parametrize("reward_mode", ["replace", "add"])
def test_lirpg_balances_a_pole_for_a_delayed_reward(reward_mode):
    before, after = improvement(LIRPG, reward_mode=reward_mode)
    assert before < 50
    assert after > 100

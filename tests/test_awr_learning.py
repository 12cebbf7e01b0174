"""AWR and TAREAWR learn: seeded, a toy in seconds, and tasks of control in minutes."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.evaluation import evaluate_policy
from toys import BOX, Toy, awr, tare_awr, vec_env

from sb3_tare import AWR, TAREAWR

QUICK = {
    "train_freq": 128,
    "buffer_size": 1024,
    "critic_steps": 320,
    "actor_steps": 320,
    "critic_learning_rate": 3e-3,
    "gamma": 0.5,
    "policy_kwargs": {"net_arch": [32], "optimizer_class": torch.optim.Adam},
}


def mean_action(model: AWR) -> float:
    return float(np.mean(model.predict(np.zeros((200, 3), np.float32))[0]))


@pytest.mark.parametrize("action_space", [BOX, spaces.MultiBinary(2)], ids=str)
@pytest.mark.parametrize("learns_reward", [False, True])
def test_the_actions_that_pay_are_found(learns_reward, action_space):
    """The reward is the mean action, behind noise."""
    env = vec_env(1, lambda: Toy(action_space=action_space))
    model = tare_awr(env, host=QUICK) if learns_reward else awr(env, **QUICK)
    before = mean_action(model)
    assert mean_action(model.learn(1280)) > before + 0.25


def returns(algorithm: type[AWR], name: str, total_timesteps: int, **kwargs) -> tuple[float, float]:
    """Mean return of the policy's mode before and after."""
    adam = {"net_arch": [64, 64], "optimizer_class": torch.optim.Adam}
    env, learning_rates = gym.make(name), {"learning_rate": 1e-3, "critic_learning_rate": 1e-3}
    model = algorithm("MlpPolicy", env, **learning_rates, policy_kwargs=adam, seed=0, device="cpu", **kwargs)
    before, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=20)
    model.learn(total_timesteps)
    after, _ = evaluate_policy(model, model.get_env(), n_eval_episodes=20)
    return before, after


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", [AWR, TAREAWR])
def test_a_pole_is_balanced(algorithm):
    before, after = returns(algorithm, "CartPole-v1", 10_240, actor_steps=200)
    assert before < 30
    assert after > 90


@pytest.mark.slow
def test_a_pendulum_is_swung_up():
    before, after = returns(AWR, "Pendulum-v1", 40_960, gamma=0.95, actor_steps=300)
    assert before < -1100
    assert after > -800

"""SAC on a pendulum whose reward comes when the episode ends: alone, and with the callback that decomposes it.

Both are trained, one after the other; then come the returns of both, and what the reward has learned beside the truth.
"""

import argparse

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_tare import RewardLearner
from sb3_tare.envs import DelayedReward

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=10_000)
arguments = parser.parse_args()
torch.set_num_threads(1)


def paid_at_the_end() -> gym.Env:
    return Monitor(DelayedReward(gym.make("Pendulum-v1"), delay=None))


print(f"SAC alone for {arguments.steps:,} steps", flush=True)
alone = SAC("MlpPolicy", paid_at_the_end(), seed=0, device="cpu").learn(arguments.steps, progress_bar=True)

learner = RewardLearner()  # the callback
model = SAC("MlpPolicy", paid_at_the_end(), seed=0, device="cpu", verbose=1)
print(f"SAC with the callback for {arguments.steps:,} steps", flush=True)
model.learn(arguments.steps, callback=learner, log_interval=10)

print("\nWhat an episode of the trained policy returns, in ten episodes:")
for name, trained in (("SAC alone", alone), ("SAC with the callback", model)):
    returns, _ = evaluate_policy(trained, paid_at_the_end(), 10, return_episode_rewards=True)
    print(f"  {name}: {np.mean(returns):.0f} on average, from {np.min(returns):.0f} to {np.max(returns):.0f}")

print("\nWhat it has learned that a step earns, at rest and without force, beside what the pendulum really earns:")
for degrees in (0, 30, 60, 90, 120, 150, 180):  # 0 is upright
    angle = np.deg2rad(degrees)
    observation = torch.tensor([[np.cos(angle), np.sin(angle), 0.0]], dtype=torch.float32)
    learned = float(learner.trainer.paid(observation, torch.zeros(1, 1)))
    print(f"  {degrees:3d} degrees from upright: {learned:6.2f} learned, {-(angle**2):6.2f} in truth")

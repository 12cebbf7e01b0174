"""What has the reward learned? One episode, step by step: what was paid (late), what was earned, and what is learned."""

import argparse

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.preprocessing import preprocess_obs

from sb3_tare import TAREPPO, RewardInputs
from sb3_tare.episodes import cut_rollout

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--env", default="sb3_tare/DelayedHopper-v5", help="any environment of one's own will do as well")
parser.add_argument("--steps", type=int, default=50_000)
parser.add_argument("--plot", help="picture to write; needs matplotlib")
arguments = parser.parse_args()

reward_kwargs = {"architecture": "StateAction", "return_consistency": 1.0}
model = TAREPPO("MlpPolicy", arguments.env, seed=0, device="cpu", verbose=1, reward_kwargs=reward_kwargs)
model.learn(arguments.steps)

env = gym.make(arguments.env)
observation, _ = env.reset(seed=1)
observations, actions, paid, earned, done = [], [], [], [], False
while not done:
    action, _ = model.predict(observation, deterministic=True)
    observations.append(observation)
    actions.append(action)
    observation, reward, terminated, truncated, info = env.step(action)
    paid.append(float(reward))
    earned.append(info.get("undelayed_reward", float(reward)))
    done = terminated or truncated

reward_model = model.reward_learner.trainer.reward_model
unit = reward_model.unit  # running mean and size of the extrinsic reward
ends = torch.arange(len(paid))[:, None] == len(paid) - 1
with torch.no_grad():
    states, _ = model.policy.obs_to_tensor(np.stack(observations))
    rewards = torch.tensor(paid)
    inputs = RewardInputs(
        observations=model.policy.extract_features(states),
        actions=preprocess_obs(torch.as_tensor(np.stack(actions)), model.action_space).flatten(1),
        rewards=(rewards - unit.mean) / unit.scale,
        extrinsic_rewards=rewards,
        episodes=cut_rollout(ends, ends & truncated, torch.arange(len(paid))[:, None]),
    )
    learned = (reward_model.network(inputs) * unit.scale).numpy()

print(f"{'step':>6} {'paid':>8} {'earned':>8} {'learned':>8}")
for step in range(0, len(paid), max(1, len(paid) // 25)):
    print(f"{step:>6} {paid[step]:>8.2f} {earned[step]:>8.2f} {learned[step]:>8.2f}")
print(f"{'return':>6} {sum(paid):>8.2f} {sum(earned):>8.2f} {learned.sum():>8.2f}")
print(f"correlation of learned and earned rewards: {np.corrcoef(learned, earned)[0, 1]:.2f}")

if arguments.plot:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4), layout="constrained")
    axes.plot(paid, color="0.7", label="paid")
    axes.plot(earned, color="#0072B2", label="earned")
    axes.plot(learned, color="#D55E00", label="learned")
    axes.set(xlabel="step of the episode", ylabel="reward", title=arguments.env)
    figure.legend(loc="outside right upper")
    figure.savefig(arguments.plot, dpi=150)

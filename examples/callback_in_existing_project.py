"""An existing Stable-Baselines3 script, with one line more: the callback that learns the reward."""

import argparse
import tempfile
from pathlib import Path

from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize

from sb3_tare import RewardLearner

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=20_000)
arguments = parser.parse_args()

env = VecNormalize(make_vec_env("Pendulum-v1", n_envs=4, seed=0))
evaluation_env = VecNormalize(make_vec_env("Pendulum-v1", seed=1), training=False, norm_reward=False)
model = PPO("MlpPolicy", env, n_steps=512, seed=0, device="cpu", verbose=1)

learner = RewardLearner()  # the line; last in the list, so that the other callbacks see the rollout first
model.learn(arguments.steps, callback=[EvalCallback(evaluation_env, eval_freq=2_000), learner])

with tempfile.TemporaryDirectory() as folder:
    model.save(Path(folder) / "ppo")
    learner.save(Path(folder) / "reward")  # a callback is not part of SB3's file; this is its own

    # Later: both are loaded, and training goes on where it was.
    model = PPO.load(Path(folder) / "ppo", env=env, device="cpu")
    learner = RewardLearner.load(Path(folder) / "reward", device="cpu")
    model.learn(4_096, callback=learner, reset_num_timesteps=False)

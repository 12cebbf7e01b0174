"""Train TAREPPO on a MuJoCo task, save it, and print what its policy earns of the environment's own reward."""

import argparse

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_tare import TAREPPO

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--env", default="Hopper-v5")
parser.add_argument("--steps", type=int, default=20_000)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--save", default="tare_ppo.zip", help="file of the trained model")
arguments = parser.parse_args()

model = TAREPPO("MlpPolicy", arguments.env, seed=arguments.seed, device="cpu")
evaluation_env = make_vec_env(arguments.env, seed=arguments.seed + 1)  # of its own: the training's goes on where it was
before, _ = evaluate_policy(model, evaluation_env, n_eval_episodes=10)
model.learn(arguments.steps, progress_bar=True)
after, deviation = evaluate_policy(model, evaluation_env, n_eval_episodes=10)
model.save(arguments.save)
print(f"{arguments.env}: mean return of 10 episodes {before:.1f} before training, {after:.1f} (sd {deviation:.1f}) after")

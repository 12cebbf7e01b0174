"""AWR on a task with continuous actions, saved with its replay memory and continued; then offline from that memory."""

import argparse
import tempfile
from pathlib import Path

from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_tare import AWR

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--env", default="Hopper-v5")
parser.add_argument("--steps", type=int, default=50_000)
arguments = parser.parse_args()

model = AWR("MlpPolicy", arguments.env, learning_rate=1e-4, seed=0, device="cpu", verbose=1)
model.learn(arguments.steps)

with tempfile.TemporaryDirectory() as folder:
    model.save(Path(folder) / "awr")
    model.save_replay_buffer(Path(folder) / "memory.pkl")  # a file of its own, as for every off-policy algorithm of SB3
    model = AWR.load(Path(folder) / "awr", env=model.get_env(), device="cpu")
    model.load_replay_buffer(Path(folder) / "memory.pkl")
model.learn(arguments.steps, reset_num_timesteps=False)

offline = AWR("MlpPolicy", arguments.env, learning_rate=1e-4, seed=0, device="cpu")
offline.use_memory(model.replay_buffer)
offline.learn(arguments.steps, collect=False)
evaluation_env = make_vec_env(arguments.env, seed=1)
for name, each in {"online": model, "offline": offline}.items():
    mean, deviation = evaluate_policy(each, evaluation_env, n_eval_episodes=10)
    print(f"{name}: mean return of 10 episodes {mean:.1f} (sd {deviation:.1f})")

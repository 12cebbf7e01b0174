"""Look at what a reward has learned where rewards are paid late: hold it against what each step earned."""

import argparse

from sb3_tare import TAREPPO
from sb3_tare.analysis import correlations, make_env, record, timeline

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--env", default="sb3_tare/DelayedHopper-v5", help="any environment of one's own will do as well")
parser.add_argument("--steps", type=int, default=50_000)
parser.add_argument("--episodes", type=int, default=10)
parser.add_argument("--plot", default="learned_reward.png", help="picture of the first episode")
arguments = parser.parse_args()

model = TAREPPO("MlpPolicy", arguments.env, seed=0, device="cpu", verbose=1)
model.learn(arguments.steps)

episodes = record(model, make_env(arguments.env, model), arguments.episodes, deterministic=True)
print(correlations(episodes).to_string(index=False))
timeline(episodes[0], arguments.env).savefig(arguments.plot, dpi=150)

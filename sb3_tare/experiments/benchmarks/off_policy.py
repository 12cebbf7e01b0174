"""The cost of the callback beside SAC: blocks of steps of SAC with and without it that take turns in one process.

    python -m sb3_tare.experiments.benchmarks.off_policy --out examples/results/off_policy_speed/off_policy_speed.json

Both are SAC at its defaults on one thread, on tasks that pay at the end. Seconds of the processor are counted, which what else
runs on the machine changes less than those of a clock; ratios are taken round by round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from stable_baselines3 import SAC

from sb3_tare import RewardLearner
from sb3_tare.experiments.benchmarks.speed import PACKAGES, quartiles, take_turns, told
from sb3_tare.experiments.running.provenance import versions
from sb3_tare.utils.files import write_json

ENVS = ("sb3_tare/EpisodicHalfCheetah-v5", "sb3_tare/EpisodicHopper-v5")


class Trained:
    """A SAC that goes on from block to block.

    :param env: id of Gymnasium
    :param learner: its callback, if it has one
    """

    def __init__(self, env: str, learner: RewardLearner | None = None) -> None:
        self.model = SAC("MlpPolicy", env, seed=0, device="cpu")
        self.learner = learner

    def seconds(self, steps: int) -> float:
        """Seconds of the processor for each of the next ``steps`` steps."""
        start = time.process_time()
        self.model.learn(steps, callback=self.learner, reset_num_timesteps=False)
        return (time.process_time() - start) / steps


def compare(env: str, rounds: int, warm_up: int, steps: int) -> dict[str, Any]:
    """Let both take turns.

    :param env: id of Gymnasium
    :param rounds: of one block each that are counted
    :param warm_up: rounds before them
    :param steps: of a block; an episode of the task or more, so that each has its share of the reward's training
    """
    torch.set_num_threads(1)
    models = {"SAC": Trained(env), "SAC with RewardLearner": Trained(env, RewardLearner(preset="decomposition"))}
    seconds = take_turns(models, partial(Trained.seconds, steps=steps), rounds, warm_up, env)
    alone, learned = (np.array(each) for each in seconds.values())
    return {
        "env": env,
        "rounds": rounds,
        "steps": steps,
        "seconds_per_step": {name: float(np.median(each)) for name, each in seconds.items()},
        "ratio": quartiles(learned / alone),
    }


def report(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table("env", "algorithm", "milliseconds a step", "ratio, and its quartiles")
    for row in rows:
        for name, seconds in row["seconds_per_step"].items():
            table.add_row(row["env"], name, f"{seconds * 1e3:.2f}", "" if name == "SAC" else told(row["ratio"]))
    Console(width=120).print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=ENVS)
    parser.add_argument("--rounds", type=int, default=10, help="of one block each that are counted")
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--steps", type=int, default=1_000, help="of a block")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parsed = parser.parse_args(arguments)
    rows = [compare(env, parsed.rounds, parsed.warm_up, parsed.steps) for env in parsed.envs]
    report(rows)
    if parsed.out is not None:
        write_json(parsed.out, {"off_policy": rows, "versions": versions(PACKAGES)})


if __name__ == "__main__":
    main()

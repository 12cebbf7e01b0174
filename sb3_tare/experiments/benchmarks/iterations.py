"""The cost of an iteration of each variant of a study.

    python -m sb3_tare.experiments.benchmarks.iterations depth --out examples/results/depth/cost/iterations.json

Iterations of 2,048 steps alternate in one process, on one thread, and seconds of the processor are counted, which what else
runs on the machine changes less than those of a clock. Ratios are to the study's first variant, round by round.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_tare.experiments.benchmarks.speed import take_turns
from sb3_tare.experiments.running.provenance import versions
from sb3_tare.experiments.running.training import make_env
from sb3_tare.experiments.studies import STUDIES, jobs_of
from sb3_tare.utils.files import write_json

STEPS = 2048
"""Environment steps of an iteration, at the defaults of PPO and of AWR."""


def compare(study: str, env: str, rounds: int, warm_up: int) -> list[dict[str, Any]]:
    """Alternate iterations of a study's variants.

    :param study: its name
    :param env: id of Gymnasium
    :param rounds: of one iteration each that are counted
    :param warm_up: rounds before them
    :return: for each variant the median seconds of an iteration, and median, least and largest ratio to the first variant
    """
    torch.set_num_threads(1)
    models = {job.name: job.variant.build(make_env(job), job.seed) for job in jobs_of(study, 1, envs=[env])}
    seconds = {name: np.array(all_rounds) for name, all_rounds in take_turns(models, _seconds, rounds, warm_up, env).items()}
    return [_row(env, name, seconds[name], seconds[next(iter(models))]) for name in models]


def _seconds(model: BaseAlgorithm) -> float:
    start = time.process_time()
    model.learn(STEPS, reset_num_timesteps=False)
    return time.process_time() - start


def _row(env: str, name: str, seconds: np.ndarray, reference: np.ndarray) -> dict[str, Any]:
    ratios = seconds / reference
    ratio = {"median": float(np.median(ratios)), "min": float(ratios.min()), "max": float(ratios.max())}
    return {"env": env, "variant": name, "rounds": len(seconds), "seconds": float(np.median(seconds)), "ratio": ratio}


def report(rows: Sequence[dict[str, Any]]) -> None:
    """Print the table."""
    table = Table("env", "variant", "seconds", "ratio", "least", "largest", title=f"an iteration of {STEPS:,} steps")
    for row in rows:
        ratio = (f"{row['ratio'][kind]:.3f}" for kind in ("median", "min", "max"))
        table.add_row(row["env"], row["variant"], f"{row['seconds']:.3f}", *ratio)
    Console(width=120).print(table)


def main() -> None:
    """Measure, print, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", choices=STUDIES)
    parser.add_argument("--envs", nargs="+", default=[], help="instead of the study's")
    parser.add_argument("--rounds", type=int, default=10, help="of one iteration each that are counted")
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    envs = arguments.envs or STUDIES[arguments.study].envs
    rows = [row for env in envs for row in compare(arguments.study, env, arguments.rounds, arguments.warm_up)]
    report(rows)
    if arguments.out is not None:
        write_json(arguments.out, {"iterations": rows, "versions": versions()})


if __name__ == "__main__":
    main()

"""Learning curves of PPO and TAREPPO on MuJoCo tasks, as one CSV.

    python -m sb3_tare.experiments.learning --out results/learning

Every variant runs at PPO's own defaults in SB3 with normalised observations and rewards (``VecNormalize``), on the CPU, one
thread each; returns are those of the training episodes in the environment's own reward. A run that is finished is
not run again: an interrupted study goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import platform
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from importlib.metadata import version
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_tare import TAREPPO
from sb3_tare.persistence import write_atomically

VARIANTS: dict[str, dict[str, Any] | None] = {
    "ppo": None,
    "tare_paper": {"preset": "paper"},
    "tare_next_rollout_add": {"validation": "next_rollout", "reward_mode": "add"},
    "tare_default": {},
}
"""Name of each variant and its ``reward_kwargs``; None is plain PPO."""

COLUMNS = ("variant", "env", "seed", "timesteps", "episodes", "return_mean")
PACKAGES = ("sb3-tare", "stable-baselines3", "torch", "gymnasium", "mujoco", "numpy")


class Run(NamedTuple):
    """One training run of the study."""

    variant: str
    env: str
    seed: int


class EpisodeReturns(BaseCallback):
    """Collects (time step, return) of every training episode, in the environment's own reward."""

    def __init__(self) -> None:
        super().__init__()
        self.episodes: list[tuple[int, float]] = []

    def _on_step(self) -> bool:
        for info in self.locals["infos"]:
            if "episode" in info:
                self.episodes.append((self.num_timesteps, info["episode"]["r"]))
        return True


def train(run: Run, steps: int, bin_steps: int) -> list[dict[str, Any]]:
    """Rows of the CSV: mean return of the episodes that ended in each ``bin_steps`` steps."""
    torch.set_num_threads(1)
    env = VecNormalize(DummyVecEnv([lambda: Monitor(gym.make(run.env))]))
    reward_kwargs = VARIANTS[run.variant]
    if reward_kwargs is None:
        model: PPO = PPO("MlpPolicy", env, seed=run.seed, device="cpu")
    else:
        model = TAREPPO("MlpPolicy", env, seed=run.seed, device="cpu", reward_kwargs=reward_kwargs)
    returns = EpisodeReturns()
    model.learn(steps, callback=returns)
    rows = []
    for end in range(bin_steps, steps + 1, bin_steps):
        values = [value for step, value in returns.episodes if end - bin_steps < step <= end]
        mean = f"{np.mean(values):.2f}" if values else ""
        rows.append({**run._asdict(), "timesteps": end, "episodes": len(values), "return_mean": mean})
    return rows


def summary(rows: Iterable[dict[str, Any]], last_steps: int) -> Table:
    """Mean return over the last ``last_steps`` steps: each seed's, then their mean and standard deviation."""
    rows = [row for row in rows if row["return_mean"] != ""]
    table = Table("env", "variant", "seeds", f"return, last {last_steps:,} steps, by seed", "mean", "sd")
    for env, variant in sorted({(row["env"], row["variant"]) for row in rows}):
        chosen = [row for row in rows if (row["env"], row["variant"]) == (env, variant)]
        horizon = max(int(row["timesteps"]) for row in chosen) - last_steps
        seeds = sorted({int(row["seed"]) for row in chosen})
        finals = [
            np.mean([float(row["return_mean"]) for row in chosen if int(row["seed"]) == s and int(row["timesteps"]) > horizon])
            for s in seeds
        ]
        deviation = f"{np.std(finals, ddof=1):.0f}" if len(finals) > 1 else "-"
        by_seed = " ".join(f"{final:.0f}" for final in finals)
        table.add_row(env, variant, str(len(seeds)), by_seed, f"{np.mean(finals):.0f}", deviation)
    return table


def main() -> None:
    """Run what is missing of the study and print its summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--envs", nargs="+", default=["Hopper-v5", "HalfCheetah-v5"])
    parser.add_argument("--seeds", type=int, default=3, help="number of seeds: 0, 1, ...")
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--bin", type=int, default=10_000, help="steps over which returns are averaged")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=Path, required=True, help="folder of learning.csv and settings.json")
    arguments = parser.parse_args()

    table, settings = arguments.out / "learning.csv", arguments.out / "settings.json"
    rows = _read(table)
    done = {Run(row["variant"], row["env"], int(row["seed"])) for row in rows}
    runs = [Run(*run) for run in product(arguments.variants, arguments.envs, range(arguments.seeds))]
    missing = [run for run in sorted(runs, key=lambda run: run.seed) if run not in done]
    if missing:
        study = {
            "protocol": {"steps": arguments.steps, "bin": arguments.bin},
            "variants": VARIANTS,
            "versions": {name: version(name) for name in PACKAGES} | {"python": platform.python_version()},
        }
        if settings.exists() and json.loads(settings.read_text()) != study:
            parser.error(f"{settings} is of other settings or versions than these: {json.dumps(study)}. Use another folder")
        write_atomically(settings, lambda file: file.write(json.dumps(study, indent=2).encode()))
        rows = _run(missing, rows, table, arguments)
    Console(width=120).print(summary(rows, last_steps=arguments.steps // 5))


def _run(missing: list[Run], rows: list[dict[str, Any]], table: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Add the missing runs' rows; each run is written when it ends."""
    with Progress() as progress, ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        task = progress.add_task("runs", total=len(missing))
        for future in as_completed([pool.submit(train, run, arguments.steps, arguments.bin) for run in missing]):
            rows = [*rows, *future.result()]
            _write(table, rows)
            progress.advance(task)
    return rows


def _read(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def _write(path: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: (row["env"], row["variant"], int(row["seed"]), int(row["timesteps"]))))
    write_atomically(path, lambda file: file.write(text.getvalue().encode()))


if __name__ == "__main__":
    main()

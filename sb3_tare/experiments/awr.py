"""AWR on MuJoCo tasks beside its authors' own figures, as one CSV.

    python -m sb3_tare.experiments.awr --jobs 2 --out results/awr

Each run takes the authors' settings for its task, on the CPU with one thread, and is evaluated with the mode of its policy,
as theirs were. A run that is finished is not run again: an interrupted study goes on where it was.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor

from sb3_tare.awr import AWR
from sb3_tare.experiments.provenance import versions
from sb3_tare.persistence import write_atomically, write_json

SETTINGS: dict[str, dict[str, float]] = {
    "Ant-v5": {"learning_rate": 5e-5, "action_std": 0.2},
    "HalfCheetah-v5": {"learning_rate": 5e-5},
    "Hopper-v5": {"learning_rate": 1e-4},
    "Humanoid-v5": {"learning_rate": 1e-5},
    "Walker2d-v5": {"learning_rate": 2.5e-5},
}
"""Where the authors' settings differ from the defaults."""

PUBLISHED = {
    "Ant-v5": (1149, 190),
    "HalfCheetah-v5": (3808, 463),
    "Hopper-v5": (2673, 1065),
    "Humanoid-v5": (648, 33),
    "Walker2d-v5": (1586, 818),
}
"""Mean and standard deviation over ten seeds of the authors' logs at about 1,000,000 steps, of version 2 of each task."""

COLUMNS = ("env", "seed", "timesteps", "evaluation_mean", "evaluation_std", "training_mean", "training_episodes")
PACKAGES = ("sb3-tare", "stable-baselines3", "torch", "gymnasium", "mujoco", "numpy")


class Curve(BaseCallback):
    """Evaluates the mode of the policy every so many steps, beside the returns of the training episodes.

    :param every: steps between evaluations
    :param n_episodes: of each
    """

    def __init__(self, env: str, seed: int, every: int, n_episodes: int) -> None:
        super().__init__()
        self.name, self.seed, self.every, self.n_episodes = env, seed, every, n_episodes
        self.env = Monitor(gym.make(env))
        self.env.reset(seed=10_000 + seed)
        self.rows: list[dict[str, Any]] = []
        self.returns: list[float] = []

    def _on_step(self) -> bool:
        self.returns += [info["episode"]["r"] for info in self.locals["infos"] if "episode" in info]
        if self.num_timesteps % self.every == 0:
            mean, deviation = evaluate_policy(self.model, self.env, self.n_episodes, deterministic=True)
            numbers = (mean, deviation, np.mean(self.returns) if self.returns else np.nan)
            texts = (f"{number:.1f}" for number in numbers)
            self.rows.append(
                dict(zip(COLUMNS, (self.name, self.seed, self.num_timesteps, *texts, len(self.returns)), strict=True))
            )
            self.returns = []
        return True


def train(env: str, seed: int, steps: int, every: int, n_episodes: int) -> list[dict[str, Any]]:
    """Rows of the CSV for one run."""
    torch.set_num_threads(1)
    model = AWR("MlpPolicy", env, seed=seed, device="cpu", **SETTINGS.get(env, {}))  # type: ignore[arg-type]
    curve = Curve(env, seed, every, n_episodes)
    model.learn(steps, callback=curve)
    return curve.rows


def summary(rows: list[dict[str, Any]]) -> Table:
    """The last evaluation of each run beside the authors' figures."""
    table = Table("env", "steps", "return of the policy's mode, by seed", "mean", "authors at about 1,000,000 steps")
    for env in sorted({row["env"] for row in rows}):
        chosen = [row for row in rows if row["env"] == env]
        last = max(int(row["timesteps"]) for row in chosen)
        finals = [float(row["evaluation_mean"]) for row in chosen if int(row["timesteps"]) == last]
        published = "{} ± {}".format(*PUBLISHED[env]) if env in PUBLISHED else "-"
        table.add_row(env, f"{last:,}", " ".join(f"{final:.0f}" for final in finals), f"{np.mean(finals):.0f}", published)
    return table


def main() -> None:
    """Run what is missing of the study and print its summary."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["HalfCheetah-v5", "Hopper-v5"])
    parser.add_argument("--seeds", type=int, default=2, help="number of seeds: 0, 1, ...")
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--every", type=int, default=50_000, help="steps between evaluations")
    parser.add_argument("--episodes", type=int, default=10, help="episodes of an evaluation")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--out", type=Path, required=True, help="folder of awr.csv and settings.json")
    arguments = parser.parse_args()
    table, settings = arguments.out / "awr.csv", arguments.out / "settings.json"
    rows = list(csv.DictReader(table.open(newline=""))) if table.exists() else []
    done = {(row["env"], int(row["seed"])) for row in rows}
    missing = [(env, seed) for seed in range(arguments.seeds) for env in arguments.envs if (env, seed) not in done]
    if missing:
        study = {
            "protocol": {name: getattr(arguments, name) for name in ("steps", "every", "episodes")},
            "settings": SETTINGS,
            "versions": versions(PACKAGES),
        }
        if settings.exists() and json.loads(settings.read_text()) != study:
            parser.error(f"{settings} is of other settings or versions than these: {json.dumps(study)}. Use another folder")
        write_json(settings, study)
        rows = _run(missing, rows, table, arguments)
    Console(width=120).print(summary(rows))


def _run(missing: list[tuple[str, int]], rows: list[Any], table: Path, arguments: argparse.Namespace) -> list[Any]:
    """Add the missing runs' rows; each run is written when it ends."""
    protocol = (arguments.steps, arguments.every, arguments.episodes)
    with Progress() as progress, ProcessPoolExecutor(arguments.jobs, mp_context=get_context("spawn")) as pool:
        task = progress.add_task("runs", total=len(missing))
        for future in as_completed([pool.submit(train, *run, *protocol) for run in missing]):
            rows = [*rows, *future.result()]
            _write(table, rows)
            progress.advance(task)
    return rows


def _write(table: Path, rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(sorted(rows, key=lambda row: (row["env"], int(row["seed"]), int(row["timesteps"]))))
    write_atomically(table, lambda file: file.write(text.getvalue().encode()))


if __name__ == "__main__":
    main()

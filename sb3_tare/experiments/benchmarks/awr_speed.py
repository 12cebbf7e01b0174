"""The time that each phase of AWR takes, and what was done about the overhead of its many small gradient steps.

    python -m sb3_tare.experiments.benchmarks.awr_speed --out examples/results/awr_speed/awr_speed.json

The first table gives seconds for each 2,048 environment steps by phase, at the authors' settings and with a full memory. The
second alternates blocks of the actor's gradient steps as they are with blocks in which one thing is left out.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from sb3_tare import AWR
from sb3_tare.awr.updates import descend, shuffled_batches
from sb3_tare.experiments.benchmarks.speed import PACKAGES, RolloutClock
from sb3_tare.experiments.running.provenance import versions
from sb3_tare.utils.files import write_json

PHASES = ("collection", "returns", "critic", "actor", "other")


def full_model(env: str) -> AWR:
    """An AWR with a full memory, which it has learned from once."""
    model = AWR("MlpPolicy", env, seed=0, device="cpu", actor_steps=1, critic_steps=1)
    model.learn(model.buffer_size)
    model.actor_steps, model.critic_steps = 1000, 200
    return model


def time_iteration(model: AWR) -> dict[str, float]:
    """Seconds of one iteration of 2,048 steps, by phase; ``learn`` ends no earlier, however few steps it is asked for."""
    clock = RolloutClock()
    start = time.perf_counter()
    model.learn(1, callback=clock, reset_num_timesteps=False)
    total = time.perf_counter() - start
    phases = {"collection": clock.seconds, **model.seconds}
    return {**phases, "other": total - sum(phases.values())}


Steps = Callable[[torch.optim.Optimizer, Callable[[Tensor], Tensor], int], None]


def as_they_are(optimizer: torch.optim.Optimizer, loss: Callable[[Tensor], Tensor], n_rows: int) -> None:
    """Take the steps as AWR does: all mini-batches drawn at once, a fused optimiser, no waiting for a loss."""
    descend(optimizer, loss, shuffled_batches(n_rows, 256, N_STEPS), "actor", "")


def not_fused(optimizer: torch.optim.Optimizer, loss: Callable[[Tensor], Tensor], n_rows: int) -> None:
    """Take the steps with the optimiser as torch chooses it."""
    groups = [{"params": group["params"]} for group in optimizer.param_groups]
    plain = torch.optim.SGD(groups, lr=optimizer.param_groups[0]["lr"], momentum=0.9)
    descend(plain, loss, shuffled_batches(n_rows, 256, N_STEPS), "actor", "")


def drawn_one_by_one(optimizer: torch.optim.Optimizer, loss: Callable[[Tensor], Tensor], n_rows: int) -> None:
    """Draw each mini-batch when its step comes."""

    def batches() -> Iterator[Tensor]:
        for _ in range(N_STEPS):
            yield torch.randperm(n_rows)[:256]

    descend(optimizer, loss, batches(), "actor", "")


def each_loss_read(optimizer: torch.optim.Optimizer, loss: Callable[[Tensor], Tensor], n_rows: int) -> None:
    """Bring each step's loss to Python, which on a GPU waits for the device."""

    def read(rows: Tensor) -> Tensor:
        value = loss(rows)
        value.item()
        return value

    descend(optimizer, read, shuffled_batches(n_rows, 256, N_STEPS), "actor", "")


def arguments_checked(optimizer: torch.optim.Optimizer, loss: Callable[[Tensor], Tensor], n_rows: int) -> None:
    """Have torch's distributions check their arguments, which on a GPU waits for the device too."""

    def checked(rows: Tensor) -> Tensor:
        torch.distributions.Distribution.set_default_validate_args(True)
        return loss(rows)

    descend(optimizer, checked, shuffled_batches(n_rows, 256, N_STEPS), "actor", "")


N_STEPS = 200
"""Gradient steps in a block"""

VARIANTS: dict[str, Steps] = {
    "as they are": as_they_are,
    "optimiser not fused": not_fused,
    "mini-batches drawn one by one": drawn_one_by_one,
    "each loss read": each_loss_read,
    "arguments of distributions checked": arguments_checked,
}


def compare_steps(model: AWR, blocks: int) -> dict[str, dict[str, float]]:
    """Microseconds of a gradient step of the actor, median over alternating blocks, and ratio to the steps as they are."""
    paths = model.replay_buffer.paths()
    loss = model.actor_loss(paths, torch.ones(len(paths.rows)))
    seconds: dict[str, list[float]] = {name: [] for name in VARIANTS}
    for block in track(range(blocks + 1), description="blocks of gradient steps"):
        for name, steps in VARIANTS.items():
            start = time.perf_counter()
            steps(model.policy.actor_optimizer, loss, len(paths.rows))
            if block > 0:  # the first warms up
                seconds[name].append((time.perf_counter() - start) / N_STEPS)
    reference = np.array(seconds["as they are"])
    return {
        name: {"microseconds": 1e6 * float(np.median(taken)), "ratio": float(np.median(np.array(taken) / reference))}
        for name, taken in seconds.items()
    }


def report(results: dict[str, Any]) -> None:
    """Print both tables."""
    console = Console(width=120)
    phases = results["seconds_per_iteration"]
    total = sum(phases.values())
    table = Table("phase", "seconds for 2,048 steps", "share", title=results["env"])
    for name, seconds in phases.items():
        table.add_row(name, f"{seconds:.3f}", f"{seconds / total:.1%}")
    console.print(table)
    table = Table("the actor's gradient steps", "microseconds", "ratio", title="one step, mini-batch of 256")
    for name, measured in results["gradient_steps"].items():
        table.add_row(name, f"{measured['microseconds']:.0f}", f"{measured['ratio']:.2f}")
    console.print(table)


def main() -> None:
    """Measure, print, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--iterations", type=int, default=10)
    parser.add_argument("--blocks", type=int, default=20, help="of gradient steps, of each kind")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    model = full_model(arguments.env)
    timed = [time_iteration(model) for _ in track(range(arguments.iterations + 1), description="iterations")][1:]
    results = {
        "env": arguments.env,
        "iterations": arguments.iterations,
        "seconds_per_iteration": {name: float(np.median([phases[name] for phases in timed])) for name in PHASES},
        "gradient_steps": compare_steps(model, arguments.blocks),
        "versions": versions(PACKAGES),
    }
    report(results)
    if arguments.out is not None:
        write_json(arguments.out, results)


if __name__ == "__main__":
    main()

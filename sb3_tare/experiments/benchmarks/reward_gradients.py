"""The cost of one reward gradient: implicit, whatever the number of policy updates, against unrolled.

    python -m sb3_tare.experiments.benchmarks.reward_gradients --out examples/results/speed/reward_gradients.json

Time and peak memory of the weights of a reward gradient on 1,024 training and 1,024 validation steps, each in a process of its
own, on one thread. The implicit one solves for the Fisher matrix by conjugate gradient; the unrolled one goes through steps of
gradient ascent on the whole batch.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import multiprocessing
import platform
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import Tensor

from sb3_tare import TAREPPO, RewardKwargs
from sb3_tare.data.cutting import split
from sb3_tare.experiments.benchmarks.speed import PACKAGES
from sb3_tare.experiments.running.provenance import versions
from sb3_tare.hypergradient.implicit import reward_weights
from sb3_tare.hypergradient.unrolled import unrolled_weights
from sb3_tare.hypergradient.update import PolicyUpdate
from sb3_tare.policy.gradients import Batch, PolicyGradients
from sb3_tare.utils.files import write_json


def reward_gradient_problem(env: str) -> tuple[PolicyGradients, Batch, Batch]:
    """A policy after one iteration of TAREPPO, and the two halves of a rollout with extrinsic advantages."""
    settings: RewardKwargs = {"preset": "implicit", "validation": "next_rollout", "curvature": "fisher"}
    model = TAREPPO("MlpPolicy", env, seed=0, device="cpu", reward_kwargs=settings)
    model.learn(model.n_steps)
    trainer = model.reward_learner.trainer
    waiting = trainer.take_waiting()
    assert waiting is not None
    parts = [waiting.sample.select(half) for half in split(waiting.sample.reward.episodes, trainer.generator)]
    training, validation = (Batch(part.policy, trainer.host.standardise(trainer.advantages.extrinsic(part))) for part in parts)
    return trainer.gradients, training, validation


def implicit_gradient(env: str) -> Callable[[], Tensor]:
    """The weights of the reward gradient as TAREPPO computes them."""
    gradients, training, validation = reward_gradient_problem(env)
    return lambda: reward_weights(gradients, training, validation, curved=validation).weights


def unrolled_gradient(env: str, n_steps: int) -> Callable[[], Tensor]:
    """The same weights through ``n_steps`` full-batch steps of gradient ascent."""
    gradients, training, validation = reward_gradient_problem(env)
    parameters = gradients.actor_parameters(gradients.evaluate(validation).value)
    update = PolicyUpdate.of(gradients, training, validation, parameters)
    return lambda: unrolled_weights(update, n_steps, learning_rate=0.01).weights


def measure_gradient(env: str, n_steps: int | None, repetitions: int) -> dict[str, float]:
    """Median seconds and peak memory of a gradient; ``n_steps`` None is the implicit one."""
    torch.set_num_threads(1)
    gradient = implicit_gradient(env) if n_steps is None else unrolled_gradient(env, n_steps)
    peak = peak_memory(gradient)
    seconds = []
    for _ in range(repetitions):
        start = time.perf_counter()
        gradient()
        seconds.append(time.perf_counter() - start)
    return {"seconds": float(np.median(seconds)), "peak_mebibytes": peak}


def peak_memory(function: Callable[[], object]) -> float:
    """MiB by which a call raises this process's resident memory at its peak (Linux; NaN elsewhere)."""
    if platform.system() != "Linux":
        return float("nan")
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # so that memory freed earlier is not used again unseen
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM
    before = _status("VmRSS")
    function()
    return (_status("VmHWM") - before) / 1024


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def compare_gradients(env: str, inner_steps: Sequence[int], repetitions: int) -> dict[str, dict[str, float]]:
    """Time and memory of each gradient, one process each."""
    results = {}
    variants: dict[str, int | None] = {"implicit": None, **{f"unrolled, {n} steps": n for n in inner_steps}}
    for name, n_steps in track(variants.items(), description="reward gradients"):
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            results[name] = pool.apply(measure_gradient, (env, n_steps, repetitions))
    return results


def main() -> None:
    """Measure, print, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--env", default="Hopper-v5")
    parser.add_argument("--inner-steps", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--repetitions", type=int, default=10, help="of each gradient")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    gradients = compare_gradients(arguments.env, arguments.inner_steps, arguments.repetitions)
    table = Table("reward gradient", "milliseconds", "peak MiB", title="2,048 steps, weights of the reward gradient")
    for name, measured in gradients.items():
        table.add_row(name, f"{measured['seconds'] * 1e3:.1f}", f"{measured['peak_mebibytes']:.0f}")
    Console(width=120).print(table)
    if arguments.out is not None:
        write_json(arguments.out, {"env": arguments.env, "gradients": gradients, "versions": versions(PACKAGES)})


if __name__ == "__main__":
    main()

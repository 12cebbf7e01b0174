"""The cost of learning the reward: TAREPPO against PPO, and the implicit gradient against an unrolled one.

    python -m sb3_tare.experiments.benchmarks.speed --out examples/results/speed/speed.json

The first table alternates iterations of PPO and TAREPPO (2,048 steps each, defaults, one thread) in one process and gives
seconds for each environment step by phase, and the ratio of the totals pair by pair. The second gives time and peak memory
of one reward gradient on 1,024 training and 1,024 validation steps, each in a process of its own.
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
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from torch import Tensor

from sb3_tare import TAREPPO
from sb3_tare.data.cutting import split
from sb3_tare.experiments.running.provenance import versions
from sb3_tare.hypergradient.implicit import reward_weights
from sb3_tare.hypergradient.unrolled import unrolled_weights
from sb3_tare.hypergradient.update import PolicyUpdate
from sb3_tare.policy.gradients import Batch, PolicyGradients
from sb3_tare.utils.files import write_json

PHASES = ("rollout", "policy", "reward")
PACKAGES = ("sb3-tare", "stable-baselines3", "torch", "gymnasium", "mujoco")
"""Packages that speed depends on."""


class RolloutClock(BaseCallback):
    """Seconds spent in rollouts."""

    seconds = 0.0

    def _on_rollout_start(self) -> None:
        self._start = time.perf_counter()

    def _on_rollout_end(self) -> None:
        self.seconds += time.perf_counter() - self._start

    def _on_step(self) -> bool:
        return True


def time_iteration(model: PPO) -> dict[str, float]:
    """Seconds for each environment step of one iteration, by phase."""
    clock = RolloutClock()
    start = time.perf_counter()
    model.learn(model.n_steps, callback=clock, reset_num_timesteps=False)
    total = time.perf_counter() - start
    reward = model.logger.name_to_value.get("reward/seconds", 0.0)
    phases = dict(zip(PHASES, (clock.seconds, total - clock.seconds - reward, reward), strict=True))
    return {name: seconds / model.n_steps for name, seconds in phases.items()}


def compare_algorithms(env: str, pairs: int, warm_up: int) -> dict[str, Any]:
    """Alternate iterations of both algorithms; the first ``warm_up`` pairs are not counted."""
    torch.set_num_threads(1)
    models = {"PPO": PPO("MlpPolicy", env, seed=0, device="cpu"), "TAREPPO": TAREPPO("MlpPolicy", env, seed=0, device="cpu")}
    seconds: dict[str, list[dict[str, float]]] = {name: [] for name in models}
    for pair in track(range(pairs + warm_up), description=f"{env}, pairs of iterations"):
        for name in sorted(models, reverse=bool(pair % 2)):
            timed = time_iteration(models[name])
            if pair >= warm_up:
                seconds[name].append(timed)
    totals = {name: np.array([sum(phases.values()) for phases in seconds[name]]) for name in models}
    ratios = totals["TAREPPO"] / totals["PPO"]
    return {
        "env": env,
        "pairs": pairs,
        "seconds_per_step": {
            name: {phase: float(np.median([phases[phase] for phases in timed])) for phase in PHASES}
            for name, timed in seconds.items()
        },
        "ratio": {"median": float(np.median(ratios)), "min": float(ratios.min()), "max": float(ratios.max())},
    }


def reward_gradient_problem(env: str) -> tuple[PolicyGradients, Batch, Batch]:
    """A policy after one iteration of TAREPPO, and the two halves of a rollout with extrinsic advantages."""
    model = TAREPPO("MlpPolicy", env, seed=0, device="cpu", reward_kwargs={"validation": "next_rollout"})
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


def report(results: dict[str, Any]) -> None:
    """Print both tables."""
    console = Console(width=120)
    for comparison in results["algorithms"]:
        table = Table("microseconds a step", *PHASES, "total", title=f"{comparison['env']}, {comparison['pairs']} pairs")
        for name, phases in comparison["seconds_per_step"].items():
            cells = [*phases.values(), sum(phases.values())]
            table.add_row(name, *(f"{cell * 1e6:.0f}" for cell in cells))
        console.print(table)
        ratio = comparison["ratio"]
        console.print(f"TAREPPO / PPO: median {ratio['median']:.3f}, from {ratio['min']:.3f} to {ratio['max']:.3f}\n")
    table = Table("reward gradient", "milliseconds", "peak MiB", title="2,048 steps, weights of the reward gradient")
    for name, measured in results["gradients"].items():
        table.add_row(name, f"{measured['seconds'] * 1e3:.1f}", f"{measured['peak_mebibytes']:.0f}")
    console.print(table)


def main() -> None:
    """Measure, print, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["Hopper-v5", "HalfCheetah-v5"])
    parser.add_argument("--pairs", type=int, default=20, help="pairs of iterations that are counted")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--inner-steps", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--repetitions", type=int, default=10, help="of each reward gradient")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    results = {
        "algorithms": [compare_algorithms(env, arguments.pairs, arguments.warm_up) for env in arguments.envs],
        "gradients": compare_gradients(arguments.envs[0], arguments.inner_steps, arguments.repetitions),
        "versions": versions(PACKAGES),
    }
    report(results)
    if arguments.out is not None:
        write_json(arguments.out, results)


if __name__ == "__main__":
    main()

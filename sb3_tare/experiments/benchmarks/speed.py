"""What learning the reward costs: TAREPPO against PPO, and the implicit gradient against an unrolled one.

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
from torch import Tensor, nn
from torch.func import functional_call

from sb3_tare import TAREPPO
from sb3_tare.data.cutting import split
from sb3_tare.data.rollout import Rollout
from sb3_tare.experiments.running.provenance import versions
from sb3_tare.hypergradient.policy_gradients import Batch
from sb3_tare.hypergradient.unrolled import unrolled_weights
from sb3_tare.learning.trainer import RewardTrainer
from sb3_tare.policy.objectives import surrogate
from sb3_tare.utils.files import write_json

PHASES = ("rollout", "policy", "reward")
PACKAGES = ("sb3-tare", "stable-baselines3", "torch", "gymnasium", "mujoco")
"""That speed depends on."""


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


class ActionLogProbabilities(nn.Module):
    """A policy as a module whose ``forward`` gives log-probabilities, for ``functional_call``."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observations: Tensor, actions: Tensor) -> Tensor:
        """Log-probabilities ``[n]``."""
        return self.policy.get_distribution(observations).log_prob(actions)


def reward_gradient_problem(env: str) -> tuple[RewardTrainer, Rollout, Rollout]:
    """A trainer after one iteration, and the two halves of a rollout."""
    model = TAREPPO("MlpPolicy", env, seed=0, device="cpu", reward_kwargs={"validation": "next_rollout"})
    model.learn(model.n_steps)
    trainer = model.reward_learner.trainer
    rollout = trainer.take_waiting()
    assert rollout is not None
    first, second = (rollout.select(part) for part in split(rollout.episodes, trainer.generator))
    return trainer, first, second


def implicit_gradient(env: str) -> Callable[[], Tensor]:
    """The weights of the reward gradient as TAREPPO computes them."""
    trainer, training, validation = reward_gradient_problem(env)
    batches = [Batch(part, trainer.gradients.prepared(trainer.advantages.extrinsic(part))) for part in (training, validation)]
    return lambda: trainer.gradients.reward_weights(batches[0], batches[1], batches[1])[0]


def unrolled_gradient(env: str, n_steps: int) -> Callable[[], Tensor]:
    """The same weights through ``n_steps`` full-batch steps of gradient ascent."""
    trainer, training, validation = reward_gradient_problem(env)
    prepared, extrinsic = trainer.gradients.prepared, trainer.advantages.extrinsic
    module = ActionLogProbabilities(trainer.gradients.policy)
    names = [name for name, _ in module.named_parameters() if "value" not in name and "vf" not in name]
    parameters = [dict(module.named_parameters())[name] for name in names]

    def objective(current: Sequence[Tensor], rollout: Rollout, advantages: Tensor) -> Tensor:
        arguments = (rollout.observations, rollout.actions)
        log_probs = functional_call(module, dict(zip(names, current, strict=True)), arguments, tie_weights=False)
        return surrogate(log_probs, rollout.old_log_probs, advantages)

    validation_advantages = prepared(extrinsic(validation))
    return lambda: unrolled_weights(
        lambda current, advantages: objective(current, training, advantages),
        lambda current: objective(current, validation, validation_advantages),
        parameters,
        prepared(extrinsic(training)),
        n_steps,
        learning_rate=0.01,
    )


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

"""The time that AWR and TAREAWR take, plain and lean: iterations that take turns in one process, with a full memory.

    python -m sb3_tare.experiments.benchmarks.awr_speed --out examples/results/awr_speed/awr_speed.json

Each collects 2,048 steps and learns from a memory of 50,000 at its defaults on one thread, one after the other, and again;
plain is ``lean=False``. Machines are noisy, so that ratios to the plain one are taken within a round: median and quartiles, of
seconds of the processor and of the clock.
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from sb3_tare import AWR, TAREAWR
from sb3_tare.awr import PathMemory
from sb3_tare.experiments.benchmarks.speed import PACKAGES, RolloutClock, medians_of, ratios_by_clock, take_turns, told
from sb3_tare.experiments.running.provenance import versions
from sb3_tare.utils.files import write_json

PHASES = ("collection", "returns", "critic", "actor", "other")
"""Parts of an iteration; of TAREAWR's, ``other`` has the learning of the reward."""
ALGORITHMS: tuple[type[AWR], ...] = (AWR, TAREAWR)


def plain_name(algorithm: type[AWR]) -> str:
    """Name of the reference that an algorithm is divided by."""
    return f"{algorithm.__name__}, plain"


def full_memory(env_id: str, **arguments: Any) -> PathMemory:
    """A memory that an AWR has just filled, learning hardly anything.

    :param arguments: of :class:`~sb3_tare.AWR`
    """
    model = AWR("MlpPolicy", env_id, seed=0, device="cpu", actor_steps=1, critic_steps=1, **arguments)
    return model.learn(model.buffer_size).replay_buffer


def full_models(env_id: str, **arguments: Any) -> dict[str, AWR]:
    """Models by name, each with a full memory of its own.

    :param arguments: of :class:`~sb3_tare.AWR`
    """
    memory = full_memory(env_id, **arguments)
    models: dict[str, AWR] = {}
    for algorithm in ALGORITHMS:
        for name, lean in ((plain_name(algorithm), False), (algorithm.__name__, True)):
            models[name] = algorithm("MlpPolicy", env_id, seed=0, device="cpu", lean=lean, **arguments)
            models[name].use_memory(copy.deepcopy(memory))
    return models


def time_iteration(model: AWR) -> dict[str, float]:
    """Seconds of one iteration by phase, by the clock, and ``cpu`` of the processor.

    ``learn`` ends no earlier than an iteration does, however few steps it is asked for.
    """
    clock = RolloutClock()
    start, cpu_start = time.perf_counter(), time.process_time()
    model.learn(1, callback=clock, reset_num_timesteps=False)
    total, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    phases = {"collection": clock.seconds, **model.seconds}
    return {**phases, "other": total - sum(phases.values()), "cpu": cpu}


def compare(env_id: str, rounds: int, warm_up: int, **arguments: Any) -> dict[str, Any]:
    """Let plain and lean ones take turns on an environment.

    :param rounds: that are counted
    :param warm_up: rounds before them
    :param arguments: of :class:`~sb3_tare.AWR`
    """
    torch.set_num_threads(1)
    timed = take_turns(full_models(env_id, **arguments), time_iteration, rounds, warm_up, env_id)
    ratios = {
        algorithm.__name__: ratios_by_clock(timed[algorithm.__name__], timed[plain_name(algorithm)], PHASES)
        for algorithm in ALGORITHMS
    }
    return {"env": env_id, "rounds": rounds, "seconds_per_iteration": medians_of(timed, PHASES), "ratios": ratios}


def report(comparison: dict[str, Any], console: Console) -> None:
    """Print a table of seconds an iteration, and of ratios to the plain ones."""
    table = Table("seconds an iteration", *PHASES, "cpu", "cpu / plain's", "wall / plain's", title=comparison["env"])
    for name, phases in comparison["seconds_per_iteration"].items():
        ratios = comparison["ratios"].get(name, {})
        table.add_row(name, *(f"{phases[phase]:.3f}" for phase in (*PHASES, "cpu")), *map(told, ratios.values()))
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=["Hopper-v5", "HalfCheetah-v5"])
    parser.add_argument("--rounds", type=int, default=10, help="rounds of iterations that are counted")
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--buffer-size", type=int, default=50_000)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parsed = parser.parse_args(arguments)
    comparisons = [compare(env, parsed.rounds, parsed.warm_up, buffer_size=parsed.buffer_size) for env in parsed.envs]
    for comparison in comparisons:
        report(comparison, Console(width=140))
    if parsed.out is not None:
        write_json(parsed.out, {"comparisons": comparisons, "versions": versions(PACKAGES)})


if __name__ == "__main__":
    main()

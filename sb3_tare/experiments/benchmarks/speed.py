"""The cost of learning the reward: iterations of PPO, LeanPPO and TAREPPO that take turns in one process.

    python -m sb3_tare.experiments speed --out examples/results/speed/speed.json

Each algorithm runs 2,048 steps at its defaults behind ``VecNormalize`` on one thread, one after the other, and again. Machines
are noisy, so that ratios to PPO are taken within a round: median and quartiles, of seconds of the processor and of the clock.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, TypeVar

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from sb3_tare import TAREPPO, LeanPPO
from sb3_tare.experiments.running.provenance import versions
from sb3_tare.utils.files import write_json

PHASES = ("rollout", "policy", "reward")
PACKAGES = ("sb3-tare", "stable-baselines3", "torch", "gymnasium", "mujoco")
"""Packages that speed depends on."""

Build = Callable[..., Any]
Model = TypeVar("Model")
Measured = TypeVar("Measured")

ALGORITHMS: dict[str, Build] = {
    "PPO": PPO,
    "LeanPPO": LeanPPO,
    "TAREPPO": TAREPPO,
    "TAREPPO, SB3's loops": partial(TAREPPO, lean=False),
    "TAREPPO, implicit": partial(TAREPPO, reward_kwargs={"preset": "implicit"}),
}
"""Compared by name; the first is what the others are divided by."""

SBX = "PPO of sbx"
"""A PPO in JAX, compared where the extra ``sbx`` is installed."""


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
    """Time one iteration: seconds for each environment step by phase, by the clock, and ``cpu`` of the processor."""
    clock = RolloutClock()
    start, cpu_start = time.perf_counter(), time.process_time()
    model.learn(model.n_steps * model.n_envs, callback=clock, reset_num_timesteps=False)
    total, cpu = time.perf_counter() - start, time.process_time() - cpu_start
    reward = model.logger.name_to_value.get("reward/seconds", 0.0)
    phases = dict(zip(PHASES, (clock.seconds, total - clock.seconds - reward, reward), strict=True))
    return {name: seconds / (model.n_steps * model.n_envs) for name, seconds in {**phases, "cpu": cpu}.items()}


def take_turns(
    models: Mapping[str, Model], measure: Callable[[Model], Measured], rounds: int, warm_up: int, env_id: str
) -> dict[str, list[Measured]]:
    """Measure one iteration of each model in turn, in both orders by turns.

    :param models: by name
    :param measure: runs an iteration
    :param rounds: that are counted
    :param warm_up: rounds before them
    :param env_id: for the display
    :return: for each model what was measured in each counted round
    """
    measured: dict[str, list[Measured]] = {name: [] for name in models}
    for count in track(range(rounds + warm_up), description=f"{env_id}, rounds of iterations"):
        for name in list(models)[:: -1 if count % 2 else 1]:
            measured[name].append(measure(models[name]))
    return {name: all_rounds[warm_up:] for name, all_rounds in measured.items()}


def make_env(env_id: str) -> VecEnv:
    """One normalised copy of an environment."""
    return VecNormalize(DummyVecEnv([lambda: Monitor(gym.make(env_id))]))


def installed() -> dict[str, Build]:
    """All that can be compared here."""
    if find_spec("sbx") is None:
        return ALGORITHMS
    from sbx import PPO as SbxPPO  # needs an extra

    return {**ALGORITHMS, SBX: SbxPPO}


def compare(
    env_id: str,
    rounds: int,
    warm_up: int,
    algorithms: Mapping[str, Build] | None = None,
    make: Callable[[], VecEnv] | None = None,
    policy: str = "MlpPolicy",
    **arguments: Any,
) -> dict[str, Any]:
    """Let algorithms take turns on an environment.

    :param env_id: of Gymnasium
    :param rounds: that are counted
    :param warm_up: rounds before them
    :param algorithms: None for :func:`installed`
    :param make: makes the environment; None for :func:`make_env`
    :param policy: of every algorithm
    :param arguments: of every algorithm
    """
    torch.set_num_threads(1)
    make = make or partial(make_env, env_id)
    models = {
        name: build(policy, make(), seed=0, device="cpu", **arguments) for name, build in (algorithms or installed()).items()
    }
    timed = take_turns(models, time_iteration, rounds, warm_up, env_id)
    reference, *others = models
    ratios = {name: ratios_by_clock(timed[name], timed[reference], PHASES) for name in others}
    return {"env": env_id, "rounds": rounds, "seconds_per_step": medians_of(timed, PHASES), "ratios": ratios}


Timed = Sequence[Mapping[str, float]]
"""Seconds by phase, and ``cpu`` of the processor, of each round."""


def medians_of(timed: Mapping[str, Timed], phases: Sequence[str]) -> dict[str, dict[str, float]]:
    """Median over the rounds, of each of the ``phases`` and of the processor, by the name of what was timed."""
    names = (*phases, "cpu")
    return {
        name: {phase: float(np.median([each[phase] for each in rounds])) for phase in names} for name, rounds in timed.items()
    }


def ratios_by_clock(ours: Timed, theirs: Timed, phases: Sequence[str]) -> dict[str, dict[str, float]]:
    """Ratios, round by round, of the processor's seconds, ``cpu``, and of those that all ``phases`` took, ``wall``."""
    summed = {"cpu": ["cpu"], "wall": phases}
    return {
        clock: quartiles(
            [sum(a[name] for name in names) / sum(b[name] for name in names) for a, b in zip(ours, theirs, strict=True)]
        )
        for clock, names in summed.items()
    }


def quartiles(ratios: Sequence[float] | NDArray[np.float64]) -> dict[str, float]:
    """Median and quartiles of ``ratios`` ``[rounds]``."""
    lower, median, upper = np.quantile(ratios, [0.25, 0.5, 0.75])
    return {"median": float(median), "lower": float(lower), "upper": float(upper)}


def told(ratio: Mapping[str, float]) -> str:
    """Median and quartiles as tables have them."""
    return "{median:.2f} ({lower:.2f} to {upper:.2f})".format(**ratio)


def report(comparison: dict[str, Any], console: Console) -> None:
    """Print a table of microseconds a step, and of ratios to the reference."""
    table = Table("microseconds a step", *PHASES, "total", "cpu", "cpu / PPO's", "wall / PPO's", title=comparison["env"])
    for name, phases in comparison["seconds_per_step"].items():
        cells = [*(phases[phase] for phase in PHASES), sum(phases[phase] for phase in PHASES), phases["cpu"]]
        ratios = comparison["ratios"].get(name, {})
        table.add_row(name, *(f"{cell * 1e6:.0f}" for cell in cells), *map(told, ratios.values()))
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was measured."""
    parser = argparse.ArgumentParser(
        prog="python -m sb3_tare.experiments speed", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--envs", nargs="+", default=["Hopper-v5", "HalfCheetah-v5"])
    parser.add_argument("--rounds", type=int, default=20, help="rounds of iterations that are counted")
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parsed = parser.parse_args(arguments)
    if SBX not in installed():
        Console().print(f"{SBX} is left out: pip install 'sb3-tare[sbx]' brings it", highlight=False, markup=False)
    comparisons = [compare(env, parsed.rounds, parsed.warm_up) for env in parsed.envs]
    for comparison in comparisons:
        report(comparison, Console(width=140))
    if parsed.out is not None:
        write_json(parsed.out, {"algorithms": comparisons, "versions": versions(PACKAGES)})


if __name__ == "__main__":
    main()

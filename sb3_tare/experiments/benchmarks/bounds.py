"""The cost of learning the reward where it is largest beside PPO's: images, and short rollouts.

    python -m sb3_tare.experiments speed bounds --memory --out examples/results/speed/bounds.json

``images`` are 84 x 84 x 4 pixels without a game behind them, in 8 environments of 128 steps, with the epochs and mini-batches
that PPO has on Atari; ``short`` is Hopper-v5 with rollouts of 128 steps. Algorithms take turns in one process, on one thread.
Ratios to PPO are taken within a turn, of seconds of the processor: median and quartiles.
"""

from __future__ import annotations

import argparse
import multiprocessing
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium import spaces
from rich.console import Console
from rich.table import Table
from stable_baselines3 import PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_tare import TAREPPO
from sb3_tare.experiments.benchmarks.reward_gradients import peak_memory
from sb3_tare.experiments.benchmarks.speed import PACKAGES, make_env, quartiles, take_turns, told
from sb3_tare.experiments.running.provenance import versions
from sb3_tare.utils.files import write_json

IMPLICIT: dict[str, Any] = {"preset": "implicit"}
DECOMPOSITION: dict[str, Any] = {"preset": "decomposition"}
"""Settings of the two ways to learn a reward."""

ATARI = {"n_epochs": 4, "batch_size": 256}
"""Settings of PPO on images"""


class Pictures(gym.Env[np.ndarray, np.int64]):
    """Frames drawn once, shown in a random order: what costs is to look at them.

    :param n_frames: different ones
    :param horizon: steps of an episode
    :param size: pixels of a side
    """

    def __init__(self, n_frames: int = 64, horizon: int = 200, size: int = 84) -> None:
        self.observation_space = spaces.Box(0, 255, (size, size, 4), np.uint8)
        self.action_space = spaces.Discrete(6)
        self.frames = np.random.default_rng(0).integers(256, size=(n_frames, size, size, 4), dtype=np.uint8)
        self.horizon = horizon
        self.time = 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start an episode, with a frame ``[size, size, 4]``."""
        super().reset(seed=seed)
        self.time = 0
        return self._show(), {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Pay the action that belongs to the frame, and show another one."""
        self.time += 1
        reward = float(self.shown % 6 == action)
        return self._show(), reward, False, self.time >= self.horizon, {}

    def _show(self) -> np.ndarray:
        self.shown = int(self.np_random.integers(len(self.frames)))
        return self.frames[self.shown]


@dataclass(frozen=True)
class Case:
    """Algorithms on a task.

    :param make: the environments, anew for each algorithm
    :param steps: environment steps of a turn, over which costs that do not come with each rollout even out
    :param algorithms: by name; the first is what the others are divided by
    """

    make: Callable[[], VecEnv]
    steps: int
    algorithms: Mapping[str, Callable[[VecEnv], BaseAlgorithm]]


def pictures(n_envs: int = 8, size: int = 84) -> VecEnv:
    """Copies of :class:`Pictures`."""
    return DummyVecEnv([lambda: Monitor(Pictures(size=size)) for _ in range(n_envs)])


def _ppo(algorithm: type[PPO], policy: str, **kwargs: Any) -> Callable[[VecEnv], BaseAlgorithm]:
    return lambda env: algorithm(policy, env, n_steps=128, seed=0, device="cpu", **kwargs)


def _atari(algorithm: type[PPO], **kwargs: Any) -> Callable[[VecEnv], BaseAlgorithm]:
    return _ppo(algorithm, "CnnPolicy", **ATARI, **kwargs)


CASES: dict[str, Case] = {
    "images": Case(
        pictures,
        1024,
        {
            "PPO": _atari(PPO),
            "TAREPPO, implicit gradient": _atari(TAREPPO, reward_kwargs=IMPLICIT),
            "the same through the convolution, curvature on 64 steps": _atari(
                TAREPPO, reward_kwargs={**IMPLICIT, "hold_features": False, "curvature_samples": 64}
            ),
            "TAREPPO, decomposition": _atari(TAREPPO, reward_kwargs=DECOMPOSITION),
        },
    ),
    "short": Case(
        lambda: make_env("Hopper-v5"),
        2048,
        {
            "PPO": _ppo(PPO, "MlpPolicy"),
            "TAREPPO, implicit gradient": _ppo(TAREPPO, "MlpPolicy", reward_kwargs=IMPLICIT),
            "the same, a phase for each rollout": _ppo(TAREPPO, "MlpPolicy", reward_kwargs={**IMPLICIT, "reward_every": 0}),
            "TAREPPO, decomposition": _ppo(TAREPPO, "MlpPolicy", reward_kwargs=DECOMPOSITION),
            "the same, a fit for each rollout": _ppo(TAREPPO, "MlpPolicy", reward_kwargs={**DECOMPOSITION, "reward_every": 0}),
        },
    ),
}
"""By the name that ``--cases`` takes."""


def compare(case: str, rounds: int, warm_up: int) -> dict[str, Any]:
    """Let the algorithms of a case take turns; the first ``warm_up`` rounds are not counted."""
    torch.set_num_threads(1)
    chosen = CASES[case]
    models = {name: build(chosen.make()) for name, build in chosen.algorithms.items()}
    seconds = take_turns(models, lambda model: _seconds(model, chosen.steps), rounds, warm_up, case)
    reference = np.array(seconds[next(iter(models))])
    rows = [{"algorithm": name, **_summary(np.array(own), reference, chosen.steps)} for name, own in seconds.items()]
    return {"case": case, "rounds": rounds, "algorithms": rows}


def _seconds(model: BaseAlgorithm, steps: int) -> float:
    start = time.process_time()
    model.learn(steps, reset_num_timesteps=False)
    return time.process_time() - start


def _summary(seconds: np.ndarray, reference: np.ndarray, steps: int) -> dict[str, float]:
    ratio = quartiles(seconds / reference)
    return {"seconds_per_step": float(np.median(seconds)) / steps, "ratio": ratio.pop("median"), **ratio}


MEMORY: dict[str, dict[str, Any] | None] = {
    "PPO": None,
    "TAREPPO, implicit gradient": IMPLICIT,
    "the same through the convolution, all steps at once": {**IMPLICIT, "hold_features": False, "chunk_rows": 1024},
}
"""Settings whose peak of memory is measured on images, by name; None: no reward is learned."""


def peak_of_images(reward_kwargs: dict[str, Any] | None) -> float:
    """MiB by which a first iteration on images raises this process's memory at its peak."""
    torch.set_num_threads(1)
    build = _atari(PPO) if reward_kwargs is None else _atari(TAREPPO, reward_kwargs=reward_kwargs)
    model = build(pictures())
    return peak_memory(lambda: model.learn(1024))


def compare_memory() -> dict[str, float]:
    """Peak of memory of each of :data:`MEMORY`, in MiB, each in a process of its own."""
    peaks = {}
    for name, reward_kwargs in MEMORY.items():
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            peaks[name] = pool.apply(peak_of_images, (reward_kwargs,))
    return peaks


def report(comparison: dict[str, Any], console: Console) -> None:
    """Print a table of microseconds a step and of ratios to the first algorithm."""
    table = Table("algorithm", "microseconds a step", "processor / PPO's", title=comparison["case"])
    for row in comparison["algorithms"]:
        table.add_row(row["algorithm"], f"{row['seconds_per_step'] * 1e6:.0f}", told({"median": row["ratio"], **row}))
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, and write what was measured."""
    parser = argparse.ArgumentParser(
        prog="python -m sb3_tare.experiments speed bounds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--cases", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=10, help="of each case that are counted")
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--memory", action="store_true", help="measure the peak of memory on images too")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    parsed = parser.parse_args(arguments)
    measured: dict[str, Any] = {"cases": []}
    console = Console(width=120)
    for case in parsed.cases:
        measured["cases"].append(compare(case, parsed.rounds, parsed.warm_up))
        report(measured["cases"][-1], console)
    if parsed.memory:
        measured["peak_mebibytes"] = compare_memory()
        console.print(measured["peak_mebibytes"])
    if parsed.out is not None:
        write_json(parsed.out, {**measured, "versions": versions(PACKAGES)})


if __name__ == "__main__":
    main()

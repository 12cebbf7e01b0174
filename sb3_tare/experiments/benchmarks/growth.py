"""The growth of what learning the reward costs, with environments, rollouts, episodes, networks, actions and images.

    python -m sb3_tare.experiments.benchmarks.growth --out examples/results/speed/growth.json

One thing at a time is varied around the defaults on HalfCheetah-v5, and the size of images in 8 environments of 128 steps,
with PPO's settings on Atari; iterations take turns as in :mod:`~sb3_tare.experiments.benchmarks.speed`. A picture, with the
suffix ``.svg``, lies beside the numbers.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecNormalize

from sb3_tare.experiments.benchmarks.bounds import ATARI, pictures
from sb3_tare.experiments.benchmarks.speed import PACKAGES, SBX, compare, installed
from sb3_tare.experiments.running.provenance import versions
from sb3_tare.utils.files import write_json

LEFT_OUT = "TAREPPO, SB3's loops"
"""Not measured here, as it says nothing that ``TAREPPO`` and ``LeanPPO`` do not."""
IMAGES = "images"
"""Name of the task whose observations are pictures."""


class Point(NamedTuple):
    """A task and the sizes of what learns it.

    :param env: id of Gymnasium, or ``images``
    :param n_envs: environments
    :param n_steps: steps of a rollout in all environments together
    :param horizon: steps after which an episode is cut off; None for the task's own limit
    :param width: of both hidden layers of the policy
    :param action_dim: numbers in an action, of which the task may ignore some; None for the task's own
    :param pixels: of an image's side
    """

    env: str = "HalfCheetah-v5"
    n_envs: int = 1
    n_steps: int = 2048
    horizon: int | None = None
    width: int = 64
    action_dim: int | None = None
    pixels: int = 84


AXES: dict[str, dict[Any, Point]] = {
    "task": {env: Point(env) for env in ("CartPole-v1", "Hopper-v5", "HalfCheetah-v5")},
    "environments": {n: Point(n_envs=n) for n in (1, 4, 8)},
    "steps of a rollout": {n: Point(n_steps=n) for n in (128, 512, 2048)},
    "steps of an episode": {n: Point(horizon=n) for n in (50, 200, 1000)},
    "width of the policy": {n: Point(width=n) for n in (64, 256)},
    "numbers in an action": {n: Point(action_dim=n) for n in (6, 12, 24)},
    "pixels of an image's side": {n: Point(IMAGES, n_envs=8, n_steps=1024, pixels=n) for n in (36, 60, 84)},
}
"""Points by what is varied, and by its value."""


class MoreActions(gym.ActionWrapper):
    """Lets actions have more numbers than the environment takes; those at their end are ignored.

    :param env: with actions in a ``Box`` ``[k]``
    :param n: numbers in an action, at least k
    """

    def __init__(self, env: gym.Env, n: int) -> None:
        super().__init__(env)
        assert isinstance(env.action_space, spaces.Box)
        self.n_taken = env.action_space.shape[0]
        self.action_space = spaces.Box(-1.0, 1.0, (n,), np.float32)

    def action(self, action: Any) -> Any:
        """The numbers ``[k]`` that the environment takes."""
        return action[: self.n_taken]


def make_env(point: Point) -> VecEnv:
    """Normalised copies of the point's task; images are normalised by the policy."""
    if point.env == IMAGES:
        return pictures(point.n_envs, point.pixels)

    def make() -> gym.Env:
        env = gym.make(point.env, max_episode_steps=point.horizon)
        return Monitor(env if point.action_dim is None else MoreActions(env, point.action_dim))

    return VecNormalize(DummyVecEnv([make] * point.n_envs))


def measure(point: Point, rounds: int, warm_up: int) -> dict[str, Any]:
    """Let all but one algorithm take turns at a point, and return median and quartiles of their ratios to PPO."""
    has_images = point.env == IMAGES
    left_out = {LEFT_OUT, SBX} if has_images else {LEFT_OUT}  # sbx wants channels elsewhere
    algorithms = {name: build for name, build in installed().items() if name not in left_out}
    arguments: dict[str, Any] = {"n_steps": point.n_steps // point.n_envs}
    arguments |= {"policy": "CnnPolicy", **ATARI} if has_images else {"policy_kwargs": {"net_arch": [point.width] * 2}}
    measured = compare(point.env, rounds, warm_up, algorithms, partial(make_env, point), **arguments)
    return {"point": point._asdict(), "seconds_per_step": measured["seconds_per_step"], "ratios": measured["ratios"]}


def draw(axes: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Draw the ratio of processor time to PPO's, with quartiles, over each thing that was varied."""
    from sb3_tare.analysis.drawing import grid, legend, styles_of, write_figure  # needs an extra

    figure, panels = grid(list(axes))
    for panel, by_value in zip(panels, axes.values(), strict=True):
        names = list(next(iter(by_value.values()))["ratios"])
        for name, style in styles_of(names).items():
            ratios = [each["ratios"][name]["cpu"] for each in by_value.values()]
            medians = np.array([ratio["median"] for ratio in ratios])
            ends = np.array([[ratio["lower"], ratio["upper"]] for ratio in ratios]).T
            panel.errorbar(list(by_value), medians, np.abs(ends - medians), marker="o", capsize=2, label=name, **style)
        panel.set_ylabel("processor time / PPO's")
        panel.set_ylim(bottom=0.0)
    legend(figure, panels)
    write_figure(path, figure)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", default=list(AXES), choices=AXES, metavar="AXIS", help=", ".join(AXES))
    parser.add_argument("--rounds", type=int, default=5, help="rounds of iterations at each point that are counted")
    parser.add_argument("--warm-up", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write, beside the picture")
    parsed = parser.parse_args(arguments)
    known: dict[Point, dict[str, Any]] = {}
    for axis in parsed.axes:
        for point in AXES[axis].values():
            if point not in known:
                known[point] = measure(point, parsed.rounds, parsed.warm_up)
    axes = {axis: {str(value): known[point] for value, point in AXES[axis].items()} for axis in parsed.axes}
    write_json(parsed.out, {"axes": axes, "rounds": parsed.rounds, "versions": versions(PACKAGES)})
    draw(axes, parsed.out.with_suffix(".svg"))


if __name__ == "__main__":
    main()

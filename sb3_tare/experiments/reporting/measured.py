"""Pictures of what a study measured beside returns, by the measure's name."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import chain

import numpy as np

from sb3_tare.analysis import drawing
from sb3_tare.experiments.reporting import page, plots, statistics
from sb3_tare.experiments.reporting.pictures import Picture
from sb3_tare.experiments.reporting.scores import Runs, variants_of
from sb3_tare.experiments.reporting.statistics import Array
from sb3_tare.experiments.running.results import Result


def rewards_along_training(runs: Runs) -> list[Picture]:
    """Learned and extrinsic mean rewards of each variant that learns one, and their correlation (figure 5)."""
    learning = _learning(runs)
    if not learning:
        return []
    rewards = {title: {kind: _curve(rs, kind) for kind in ("extrinsic", "learned")} for title, rs in learning.items()}
    correlations = {title: {"correlation": _curve(rs, "correlation")} for title, rs in learning.items()}
    of_whom = ", ".join(learning)
    return [
        Picture(
            plots.svg(plots.panels(rewards, "reward of a step (normalised)", drawing.styles_of(["extrinsic", "learned"]))),
            "learned_reward",
            f"Mean learned and extrinsic reward of a step over training: {of_whom}",
            "Mean reward of a step, learned and extrinsic, over ten episodes of each policy with its exploration, in the unit "
            "in which the algorithm sees rewards (VecNormalize's, in which the untrained policy's cannot be told); mean over "
            "seeds; shaded: its 95 % bootstrap interval, where there are two seeds or more.",
        ),
        Picture(
            plots.svg(plots.panels(correlations, "correlation over steps", drawing.styles_of(["correlation"]))),
            "correlation",
            f"Correlation of learned and extrinsic reward over training: {of_whom}",
            "Correlation between learned and extrinsic reward over the steps of the same episodes; a gap where, for some "
            "seed, one of them did not vary.",
        ),
    ]


def rewards_by_action(runs: Runs) -> list[Picture]:
    """Histograms of learned rewards by action at the end, and how often each action was taken (figure 4)."""
    learning = _learning(runs)
    shares = {
        _title(env, name): {f"action {a}": _share(results, a) for a in range(len(results[0]["measured"][0]["counts"]))}
        for env, by_name in runs.items()
        for name, results in by_name.items()
    }
    actions = [f"action {a}" for a in range(max(map(len, shares.values())))]
    pictures = [
        Picture(
            plots.svg(plots.panels(shares, "share of steps", drawing.styles_of(actions))),
            "actions",
            f"Share of each action over training: {', '.join(shares)}",
            "Share of the steps that took each action, over ten episodes of each policy with its exploration; mean over "
            "seeds; shaded: its 95 % bootstrap interval, where there are two seeds or more.",
        )
    ]
    if learning:
        samples = {title: _last_rewards(results) for title, results in learning.items()}
        pictures.insert(
            0,
            Picture(
                plots.svg(drawing.histograms(samples, "learned reward of a step (normalised)", drawing.styles_of(actions))),
                "rewards_by_action",
                f"Distribution of the learned reward by action: {', '.join(learning)}",
                "Learned rewards of all steps of ten episodes at the end of training, all seeds together, by action, in the "
                "unit in which the algorithm sees rewards; each histogram has area 1. Means, seed by seed: "
                f"{'; '.join(f'{title}, {means}' for title, rs in learning.items() for means in _means(rs))}.",
            ),
        )
    return pictures


PICTURES: Mapping[str | None, Callable[[Runs], list[Picture]]] = {
    None: lambda runs: [],
    "rewards_along_training": rewards_along_training,
    "rewards_by_action": rewards_by_action,
}


def _learning(runs: Runs) -> dict[str, list[Result]]:
    """Results of variants that learn a reward, by panel."""
    return {
        _title(env, name): runs[env][name]
        for env in runs
        for name in variants_of(runs)
        if name in runs[env] and runs[env][name][0]["measured"][0]["learned"] is not None
    }


def _title(env: str, name: str) -> str:
    return f"{env}, {name}"


def _curve(results: Sequence[Result], key: str) -> plots.Curve:
    """Mean curve from the first evaluation in training on: before it, the rewards' unit is not known."""
    values = [[measured[key] for measured in result["measured"][1:]] for result in results]
    return np.array(results[0]["evaluations"]["timesteps"][1:]), statistics.mean(np.array(values, dtype=float))


def _share(results: Sequence[Result], action: int) -> plots.Curve:
    counts = np.array([[measured["counts"] for measured in result["measured"]] for result in results])
    return np.array(results[0]["evaluations"]["timesteps"]), statistics.mean(counts[..., action] / counts.sum(axis=-1))


def _last_rewards(results: Sequence[Result]) -> dict[str, Array]:
    by_seed = [result["measured"][-1]["learned"] for result in results]
    return {f"action {a}": np.array(list(chain(*(seed[a] for seed in by_seed)))) for a in range(len(by_seed[0]))}


def _means(results: Sequence[Result]) -> list[str]:
    """Means of the learned rewards at the end, by action; a dash where it was not taken."""
    by_action = zip(*(result["measured"][-1]["learned"] for result in results), strict=True)
    means = ([float(np.mean(rewards)) if rewards else None for rewards in of_seeds] for of_seeds in by_action)
    return [f"action {a}: {', '.join(map(page.number, of_seeds))}" for a, of_seeds in enumerate(means)]

"""Learning curves of a study: returns over environment steps, with bands."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from sb3_tare.analysis.drawing import Styles
from sb3_tare.experiments.reporting import plots, statistics
from sb3_tare.experiments.reporting.pictures import Picture
from sb3_tare.experiments.reporting.scores import Runs, evaluation_curve, results_of, training_curve
from sb3_tare.experiments.running.results import Result

BAND = "mean over seeds; shaded: its 95 % bootstrap interval, where there are two seeds or more."
YLABEL = "return (reward units)"


def evaluations(runs: Runs, styles: Styles) -> tuple[Picture, list[Picture]]:
    """Curves of deterministic episodes: all environments in one picture, and a picture for each."""
    episodes = results_of(runs)[0]["settings"]["evaluation_episodes"]
    caption = f"Deterministic episodes, {episodes} in each evaluation, the first before any training: mean extrinsic return, "
    curves = _estimates(runs, evaluation_curve, first=0)
    together = _together("evaluation", "Evaluation", curves, styles, f"{caption}then the {BAND}")
    return together, [_alone(index, env, curves[env], styles) for index, env in enumerate(curves)]


def training(runs: Runs, styles: Styles) -> Picture:
    """Curves of training episodes, all environments in one picture."""
    caption = (
        "Training episodes, exploration included: at each point the mean extrinsic return of the episodes that ended since "
        f"the point before, then the {BAND} A curve has a gap where, for some seed, no episode ended."
    )
    return _together("training", "Training", _estimates(runs, training_curve, first=1), styles, caption)


def _together(name: str, kind: str, curves: Mapping[str, Mapping[str, plots.Curve]], styles: Styles, caption: str) -> Picture:
    figure = plots.panels(curves, YLABEL, styles)
    return Picture(plots.svg(figure), name, f"{kind} returns over environment steps of {', '.join(styles)}", caption)


def _alone(index: int, env: str, curves: Mapping[str, plots.Curve], styles: Styles) -> Picture:
    ends = ", ".join(f"{name} {estimate.value[-1]:.0f}" for name, (_, estimate) in curves.items())
    label = f"Evaluation returns over environment steps on {env}; at the end: {ends}"
    return Picture(plots.svg(plots.panel(env, curves, YLABEL, styles)), f"evaluation{index}", label, "")


def _estimates(runs: Runs, curve: Callable[[Result], NDArray[np.float64]], first: int) -> dict[str, dict[str, plots.Curve]]:
    """Curves by environment and variant, from the evaluation ``first`` on."""
    steps = np.array(results_of(runs)[0]["evaluations"]["timesteps"])[first:]
    return {
        env: {name: (steps, statistics.mean(np.stack(list(map(curve, results))))) for name, results in by_name.items()}
        for env, by_name in runs.items()
    }

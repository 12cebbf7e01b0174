"""Pictures of what learners logged along training: how far learned rewards go with true ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sb3_tare.analysis.drawing import Styles
from sb3_tare.experiments.reporting import page, plots, statistics
from sb3_tare.experiments.reporting.curves import BAND
from sb3_tare.experiments.reporting.pictures import Picture
from sb3_tare.experiments.reporting.scores import Runs, results_of
from sb3_tare.experiments.reporting.statistics import Array
from sb3_tare.experiments.running.results import Result

LOWEST = -1.0
"""A share of variance may fall to any depth; there is nothing to see below this one."""

KINDS = {
    "correlation_undistorted": ("correlation before delay or noise", "learned rewards of steps with what these truly earned"),
    "correlation": ("correlation with extrinsic", "learned rewards of steps with those that were paid"),
    "decomposition_r2": ("share of totals foreseen", "what learned rewards foresaw of the totals of new episodes"),
}
"""The axis of each of :data:`sb3_tare.experiments.running.training.LOGGED`, and what it tells."""


def logged(runs: Runs, styles: Styles) -> list[Picture]:
    """A picture of each kind that some learner logged; results of before do not tell."""
    pictures = (_picture(runs, key, label, about, styles) for key, (label, about) in KINDS.items())
    return [picture for picture in pictures if picture is not None]


def _picture(runs: Runs, key: str, label: str, about: str, styles: Styles) -> Picture | None:
    steps = np.array(results_of(runs)[0]["evaluations"]["timesteps"])
    values = {env: {name: _values(results, key) for name, results in by_name.items()} for env, by_name in runs.items()}
    curves: dict[str, dict[str, plots.Curve]] = {}
    for env, by_name in values.items():
        for name, of_seeds in by_name.items():
            if not np.isnan(of_seeds).any(axis=0).all():
                curves.setdefault(env, {})[name] = steps, statistics.mean(of_seeds)
    if not curves:
        return None
    ends = "; ".join(
        f"{env}: {', '.join(f'{name} {page.number(float(value[-1]))}' for name, (_, (value, _)) in by_name.items())}"
        for env, by_name in curves.items()
    )
    return Picture(
        plots.svg(plots.panels(curves, label, styles)),
        f"logged_{key}",
        f"Over training, {label}: {about}; at the end, {ends}",
        f"{label.capitalize()}: {about}, as it was logged last before each evaluation, of the episodes that trained the "
        f"policy; {LOWEST:g} where it is less; {BAND} A gap where, for some seed, nothing was logged yet.",
    )


def _values(results: Sequence[Result], key: str) -> Array:
    """Values ``[seeds, evaluations]``, NaN where there are none."""
    n = len(results[0]["evaluations"]["timesteps"])
    logs: list[Sequence[Mapping[str, float]]] = [result.get("logged") or [{}] * n for result in results]
    return np.array([[max(LOWEST, at[key]) if key in at else np.nan for at in log] for log in logs])

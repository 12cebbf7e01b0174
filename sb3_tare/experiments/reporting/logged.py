"""A picture of what learners logged along training: how far learned rewards go with true ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sb3_tare.analysis import drawing
from sb3_tare.experiments.reporting import page, plots, statistics
from sb3_tare.experiments.reporting.pictures import Picture
from sb3_tare.experiments.reporting.scores import Runs, results_of
from sb3_tare.experiments.reporting.statistics import Array

LABELS = {
    "correlation": "correlation with extrinsic",
    "correlation_undistorted": "correlation before delay or noise",
    "decomposition_r2": "share of totals foreseen",
}
"""Names that readers see of :data:`sb3_tare.experiments.running.training.LOGGED`."""

LOWEST = -1.0
"""A share of variance may fall to any depth; there is nothing to see below this one."""

Log = Sequence[Mapping[str, float]]
"""Numbers by name at each evaluation of a run."""


def logged(runs: Runs) -> list[Picture]:
    """Curves of each variant and task whose results all tell what their learners logged; results of before do not."""
    logs = {
        f"{env}, {name}": [result["logged"] for result in results]
        for env, by_name in runs.items()
        for name, results in by_name.items()
        if all(result.get("logged") for result in results)
    }
    if not logs:
        return []
    steps = np.array(results_of(runs)[0]["evaluations"]["timesteps"])
    values = {title: {label: _values(of_seeds, key) for key, label in LABELS.items()} for title, of_seeds in logs.items()}
    curves = {
        title: {label: (steps, statistics.mean(of_seeds)) for label, of_seeds in by_label.items() if not _empty(of_seeds)}
        for title, by_label in values.items()
    }
    ends = [
        f"{title}: {', '.join(f'{label} {page.number(float(estimate.value[-1]))}' for label, (_, estimate) in by_label.items())}"
        for title, by_label in curves.items()
    ]
    return [
        Picture(
            plots.svg(plots.panels(curves, "correlation or share", drawing.styles_of(list(LABELS.values())))),
            "logged",
            f"How learned rewards go with true ones over training; at the end, {'; '.join(ends)}",
            "What learners had logged last before each evaluation, of the episodes that trained the policy: the correlation of "
            "learned rewards of steps with those that were paid, and with what steps earned before delay or noise, where the "
            "task tells it; where totals are decomposed, the share of the variance of new episodes' totals that learned "
            f"rewards foresaw, {LOWEST:g} where it is less. Mean over seeds; shaded: its 95 % bootstrap interval, where there "
            "are two seeds or more; a gap where, for some seed, nothing was logged yet.",
        )
    ]


def _values(logs: Sequence[Log], key: str) -> Array:
    """Values ``[seeds, evaluations]``, NaN where there is none."""
    return np.array([[max(LOWEST, at[key]) if key in at else np.nan for at in log] for log in logs])


def _empty(values: Array) -> bool:
    return bool(np.isnan(values).any(axis=0).all())

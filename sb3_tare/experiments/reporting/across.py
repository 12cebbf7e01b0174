"""Results of a study across its environments: normalised scores and aggregates of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sb3_tare.analysis import drawing
from sb3_tare.experiments.reporting import page, plots, statistics
from sb3_tare.experiments.reporting.pictures import Picture
from sb3_tare.experiments.reporting.scores import FAR, Runs, Scale, scales, scores, variants_of
from sb3_tare.experiments.reporting.statistics import Array


def across_environments(runs: Runs, reference: str, styles: drawing.Styles) -> list[Picture | str]:
    """Blocks of the page: how scores are made, then aggregates of them, if there is any score.

    :param reference: variant whose mean final return is a score of 1
    """
    by_env = scales(runs, reference)
    matrices = scores(runs, by_env)
    blocks: list[Picture | str] = [page.paragraph(text) for text in _normalisation(runs, by_env, matrices, reference)]
    if by_env:
        rows = [
            {
                "environment": env,
                "score 0": s.zero,
                "score 1": s.one,
                "spread": s.spread,
                "counts": "yes" if s.usable else "no",
            }
            for env, s in by_env.items()
        ]
        blocks.append(page.table(rows, "Returns that count as scores of 0 and 1"))
    if reference in matrices:
        blocks += [_interquartile_means(matrices, styles), _profiles(matrices, styles)]
    return blocks


def _interquartile_means(matrices: Mapping[str, Array], styles: drawing.Styles) -> Picture:
    estimates = {name: statistics.interquartile_mean(matrix) for name, matrix in matrices.items()}
    return Picture(
        plots.svg(plots.intervals(estimates, "interquartile mean of scores", styles, mark=1.0)),
        "interquartile_mean",
        f"Interquartile mean of {', '.join(matrices)}",
        "Interquartile mean of the scores over seeds and environments; bars: 95 % stratified bootstrap intervals, where "
        "there are two seeds or more.",
    )


def _profiles(matrices: Mapping[str, Array], styles: drawing.Styles) -> Picture:
    low, high = min(map(np.min, matrices.values())), max(map(np.max, matrices.values()))
    thresholds = np.linspace(min(0.0, low), max(1.0, high), 51)
    curves = {name: (thresholds, statistics.performance_profile(matrix, thresholds)) for name, matrix in matrices.items()}
    return Picture(
        plots.svg(plots.profiles(curves, styles)),
        "performance_profile",
        f"Performance profile of {', '.join(matrices)}",
        "Performance profile: the share of runs, over seeds and environments, that score above τ; shaded: pointwise 95 % "
        "bootstrap intervals, where there are two seeds or more.",
    )


def _normalisation(runs: Runs, by_env: Mapping[str, Scale], matrices: Mapping[str, Array], reference: str) -> list[str]:
    texts = [
        "Scores are (return - zero) / (one - zero): return is the final evaluation return of the table above, zero the "
        f"mean return of all untrained policies in that environment, and one the mean final return of {reference}. So an "
        f"untrained policy scores 0 and {reference} 1 on average, whatever the sign of the returns; intervals take zero "
        f"and one for exact. An environment counts where {reference} ends far from chance: more than {FAR:.0f} standard "
        "deviations of the untrained policies' episodes, the spread below, above zero."
    ]
    useless = [env for env in runs if env not in by_env or not by_env[env].usable]
    if useless:
        texts.append(f"Left out, as {reference} is not far from chance there or has no result: {', '.join(useless)}.")
    absent = [name for name in variants_of(runs) if name not in matrices]
    if absent and matrices:
        texts.append(f"Left out, as no seed of theirs has a result in every environment counted: {', '.join(absent)}.")
    counts = {name: len(matrix) for name, matrix in matrices.items()}
    if counts:
        texts.append(f"Seeds that count: {', '.join(f'{name} {count}' for name, count in counts.items())}.")
    return texts

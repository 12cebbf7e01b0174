"""The answer of a study: does a variant end above the reference? One sentence, and one picture.

It is told by the probability of improvement, which needs no scale on which tasks compare: that a run of the variant ends above
a run of the reference on the same task (Agarwal et al., 2021). Its interval is a bootstrap's, too narrow for few seeds; so a
verdict needs a permutation test beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np

from sb3_tare.analysis.drawing import Styles
from sb3_tare.experiments.reporting import plots, statistics
from sb3_tare.experiments.reporting.chance import by_chance
from sb3_tare.experiments.reporting.pictures import Picture
from sb3_tare.experiments.reporting.scores import Runs, final_evaluation_return, variants_of
from sb3_tare.experiments.reporting.statistics import Array, Estimate
from sb3_tare.experiments.running.results import Result

CHANCE = 0.05
"""Probability by chance alone, on both sides, above which an outcome tells nothing."""


class Comparison(NamedTuple):
    """A variant beside the reference, on the tasks that have runs of both.

    :param by_env: estimates by environment
    :param overall: mean over them
    :param by_chance: probability that chance alone brings ``overall`` as far from one half
    """

    by_env: Mapping[str, Estimate]
    overall: Estimate
    by_chance: float

    @property
    def verdict(self) -> str:
        """The verdict that the seeds allow: ``higher``, ``lower`` or ``open``."""
        if self.overall.bounds is None or self.by_chance > CHANCE:
            return "open"
        low, high = self.overall.bounds[:, 0]
        return "higher" if low > 0.5 else "lower" if high < 0.5 else "open"


def compare(runs: Runs, reference: str, number: Callable[[Result], float] = final_evaluation_return) -> dict[str, Comparison]:
    """Every variant that has a run on some task of the reference, by name.

    :param number: by which runs are compared; the end of their evaluations
    """
    comparisons = {}
    for name in variants_of(runs):
        envs = [env for env, by_name in runs.items() if {name, reference} <= by_name.keys()]
        if name == reference or not envs:
            continue
        ours, theirs = ([_numbers(runs, env, each, number) for env in envs] for each in (name, reference))
        found = statistics.probability_of_improvement(ours, theirs)
        by_env = dict(zip(envs, found.by_env, strict=True))
        comparisons[name] = Comparison(by_env, found.overall, by_chance(ours, theirs))
    return comparisons


def sentence(comparisons: Mapping[str, Comparison], reference: str) -> str:
    """The answer in words."""
    if not comparisons:
        return f"There is nothing to compare: no task has runs of {reference} and of another variant."
    told = {verdict: _listed(comparisons, verdict) for verdict in ("higher", "lower", "open")}
    parts = [
        f"{names} end{'s' * (number == 1)} {verdict}"
        for verdict, (names, number) in told.items()
        if number and verdict != "open"
    ]
    if told["open"][1]:
        parts.append(f"these seeds cannot tell {told['open'][0]} from it")
    return (
        f"Compared with {reference}, {'; '.join(parts)}. In brackets: the probability that a run ends above a run of "
        f"{reference} on the same task, by deterministic evaluations, mean over tasks, and its 95 % interval."
    )


def sentence_of_areas(comparisons: Mapping[str, Comparison], reference: str) -> str:
    """The same of areas under curves, in words."""
    words = {"open": "these seeds cannot tell"}
    told = (
        f"{name} {percent(found.overall)} ({words.get(found.verdict, found.verdict)})" for name, found in comparisons.items()
    )
    return (
        f"Probability that a run is above a run of {reference} on the same task over all of its evaluations, in place of the "
        f"last: {', '.join(told)}."
    )


def forest(comparisons: Mapping[str, Comparison], reference: str, styles: Styles) -> Picture:
    """Probabilities of improvement, overall and task by task."""
    envs = dict.fromkeys(env for found in comparisons.values() for env in found.by_env)
    rows = {"all tasks": {name: found.overall for name, found in comparisons.items()}} if len(envs) > 1 else {}
    for env in envs:
        rows[env] = {name: found.by_env[env] for name, found in comparisons.items() if env in found.by_env}
    told = (f"{row}, {name} {percent(found)}" for row, by_name in rows.items() for name, found in by_name.items())
    return Picture(
        plots.svg(plots.forest(rows, f"probability of ending above {reference}", styles)),
        "probability_of_improvement",
        f"Probability that a run ends above a run of {reference}: {'; '.join(told)}",
        f"Probability that a run of the variant ends above a run of {reference} on the same task, a tie counting one half, "
        "and over all tasks the mean of theirs. A run ends with its mean return of the evaluations in the last fifth of its "
        "steps. Bars: 95 % bootstrap intervals, where there are two seeds or more. Of few seeds they are too narrow, and one "
        "without width says that all pairs of runs came out alike, and not that there is no doubt. So an end is called higher "
        f"or lower where, besides, chance brings it that far from one half in {percentage(CHANCE)} of cases at most, with the "
        f"runs of each task dealt out anew: {_chances(comparisons)}.",
    )


def percentage(share: float) -> str:
    """A share as text."""
    return f"{100 * share:.0f}\u00a0%"


def percent(estimate: Estimate) -> str:
    """A probability as text, with its interval if it has one."""
    value = percentage(estimate.value[0])
    return value if estimate.bounds is None else "{}, {:.0f} to {:.0f}\u00a0%".format(value, *100 * estimate.bounds[:, 0])


def _numbers(runs: Runs, env: str, name: str, number: Callable[[Result], float]) -> Array:
    return np.array([number(result) for result in runs[env][name]])


def _listed(comparisons: Mapping[str, Comparison], verdict: str) -> tuple[str, int]:
    """Variants with that verdict, as text, and how many they are."""
    texts = [f"{name} ({percent(found.overall)})" for name, found in comparisons.items() if found.verdict == verdict]
    return " and ".join(filter(None, [", ".join(texts[:-1]), *texts[-1:]])), len(texts)


def _chances(comparisons: Mapping[str, Comparison]) -> str:
    chances = {name: found.by_chance for name, found in comparisons.items()}
    told = {
        name: percentage(chance) if chance >= 0.01 else f"less than {percentage(0.01)}" for name, chance in chances.items()
    }
    return ", ".join(f"{name} {chance}" for name, chance in told.items())

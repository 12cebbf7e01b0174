"""Numbers of a study as arrays: learning curves, final returns, and scores that compare across environments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from sb3_tare.experiments.running.results import Result
from sb3_tare.experiments.variants import VARIANTS

Runs = Mapping[str, Mapping[str, list[Result]]]
"""Results by environment, then by variant, seed by seed."""

FINAL_SHARE = 0.2
"""Share of a run's steps, its last ones, over which final returns are averaged."""


def sort_runs(results: list[Result]) -> Runs:
    """Environments by name, variants in the order of :data:`~sb3_tare.experiments.variants.VARIANTS`, seeds by number."""
    order = {name: index for index, name in enumerate(VARIANTS)}

    def key(result: Result) -> tuple[str, int, str, int]:
        settings = result["settings"]
        return settings["env"], order.get(settings["name"], len(order)), settings["name"], settings["seed"]

    runs: dict[str, dict[str, list[Result]]] = {}
    for result in sorted(results, key=key):
        settings = result["settings"]
        runs.setdefault(settings["env"], {}).setdefault(settings["name"], []).append(result)
    return runs


def results_of(runs: Runs) -> list[Result]:
    """All results, in order."""
    return [result for by_name in runs.values() for results in by_name.values() for result in results]


def variants_of(runs: Runs) -> list[str]:
    """Names of all variants, in order."""
    names = dict.fromkeys(chain.from_iterable(runs.values()))
    return sorted(names, key=lambda name: (list(VARIANTS).index(name) if name in VARIANTS else len(VARIANTS), name))


def training_curve(result: Result) -> NDArray[np.float64]:
    """Mean extrinsic return ``[evaluations]`` of the training episodes that ended between two evaluations; NaN if none."""
    due = result["evaluations"]["timesteps"]
    return np.array([_training_return(result, begin, end) for begin, end in pairwise(due)])


def evaluation_curve(result: Result) -> NDArray[np.float64]:
    """Mean return ``[evaluations + 1]`` of each evaluation, the first of the untrained policy."""
    return np.array([np.mean(returns) for returns in result["evaluations"]["returns"]])


def final_training_return(result: Result) -> float:
    """Mean return of the training episodes that ended in the run's last fifth; NaN if none did."""
    steps = result["settings"]["steps"]
    return _training_return(result, (1 - FINAL_SHARE) * steps, steps)


def final_evaluation_return(result: Result) -> float:
    """Mean return of the evaluations in the run's last fifth."""
    steps = result["settings"]["steps"]
    due = zip(result["evaluations"]["timesteps"], evaluation_curve(result), strict=True)
    return float(np.mean([value for step, value in due if step > (1 - FINAL_SHARE) * steps]))


def training_area(result: Result) -> float:
    """Area under the curve of training episodes over the run's steps, as a mean return; NaN if none ended in a stretch."""
    return float(np.mean(training_curve(result)))


def evaluation_area(result: Result) -> float:
    """Area under the curve of evaluations over the run's steps, by trapezoids, as a mean return."""
    steps, curve = np.array(result["evaluations"]["timesteps"]), evaluation_curve(result)
    return float(np.sum(np.diff(steps) * (curve[:-1] + curve[1:]) / 2) / (steps[-1] - steps[0]))


def _training_return(result: Result, begin: float, end: float) -> float:
    episodes = zip(result["episodes"]["timesteps"], result["episodes"]["returns"], strict=True)
    values = [value for step, value in episodes if begin < step <= end]
    return float(np.mean(values)) if values else float("nan")


FAR = 3.0
"""Standard deviations of untrained policies' episodes above their mean at which a reference is far from chance."""


@dataclass(frozen=True)
class Scale:
    """The returns that count as a score of 0 and of 1 in an environment.

    :param zero: mean return of all untrained policies there
    :param one: mean final return of the reference
    :param spread: standard deviation of the untrained policies' episodes
    """

    zero: float
    one: float
    spread: float

    @property
    def usable(self) -> bool:
        """Whether the reference ends far above chance; nearer, scores are divided by noise."""
        return self.one - self.zero > FAR * self.spread

    def score(self, value: float) -> float:
        """Score (value - zero) / (one - zero); signs and offsets of the returns do not matter."""
        return (value - self.zero) / (self.one - self.zero)


def scales(runs: Runs, reference: str) -> dict[str, Scale]:
    """Scales of the environments in which the reference has a result."""
    return {env: _scale(variants, variants[reference]) for env, variants in runs.items() if reference in variants}


def _scale(variants: Mapping[str, list[Result]], reference: list[Result]) -> Scale:
    untrained = [result["evaluations"]["returns"][0] for results in variants.values() for result in results]
    return Scale(
        zero=float(np.mean([np.mean(returns) for returns in untrained])),
        one=float(np.mean([final_evaluation_return(result) for result in reference])),
        spread=float(np.std(list(chain.from_iterable(untrained)))),
    )


def scores(runs: Runs, scales: Mapping[str, Scale]) -> dict[str, NDArray[np.float64]]:
    """Scores ``[seeds, environments]`` of every variant that has, in all usable environments, a seed in common."""
    envs = [env for env, scale in scales.items() if scale.usable]
    matrices = {}
    for name in variants_of(runs) if envs else ():
        finals = [
            {
                result["settings"]["seed"]: scales[env].score(final_evaluation_return(result))
                for result in runs[env].get(name, [])
            }
            for env in envs
        ]
        if seeds := sorted(set.intersection(*map(set, finals))):
            matrices[name] = np.array([[final[seed] for final in finals] for seed in seeds])
    return matrices

"""Bootstrap estimates of studies: laws, tables by hand, and rliable as an oracle where it is installed."""

from itertools import product

import numpy as np
import pytest

from sb3_tare.experiments.reporting import statistics

SCORES = np.random.default_rng(1).normal(size=(6, 3)) + 0.4
OTHERS = np.random.default_rng(2).normal(size=(5, 3))
THRESHOLDS = np.linspace(-1.0, 2.0, 7)


def test_bounds_are_percentiles_of_the_means_of_all_samples():
    values = np.array([1.0, 2.0, 4.0])
    every_sample = np.repeat([np.mean(sample) for sample in product(values, repeat=3)], 1_000)
    found = statistics.mean(values[:, None]).bounds
    np.testing.assert_allclose(found[:, 0], np.percentile(every_sample, (2.5, 97.5)), atol=1e-12)


def test_an_interquartile_mean_is_scipys_trimmed_one():
    trimmed = pytest.importorskip("scipy.stats").trim_mean
    for seeds, envs in product((1, 2, 3, 7), (1, 2, 5)):
        scores = np.random.default_rng(seeds).normal(size=(seeds, envs))
        assert statistics.interquartile_mean(scores).value == pytest.approx([trimmed(scores, 0.25, axis=None)])


def test_environments_are_resampled_apart_and_never_exchanged():
    scores = np.array([[0.0, 100.0], [1.0, 101.0]])  # exchanged, a sample could hold no score above 50
    np.testing.assert_array_equal(statistics.performance_profile(scores, np.array([50.0])).bounds, [[0.5], [0.5]])
    wide, narrow = ([np.arange(4.0)] * n for n in (1, 16))  # errors that are alike in all environments would not average out
    widths = [np.ptp(statistics.probability_of_improvement(each, each).overall.bounds) for each in (wide, narrow)]
    assert widths[1] == pytest.approx(widths[0] / 4, rel=0.15)


def test_a_probability_and_its_converse_make_one():
    ours, theirs = list(SCORES.T), list(OTHERS.T)
    there, back = statistics.probability_of_improvement(ours, theirs), statistics.probability_of_improvement(theirs, ours)
    for one, other in zip([*there.by_env, there.overall], [*back.by_env, back.overall], strict=True):
        assert one.value + other.value == pytest.approx(1.0)
        np.testing.assert_allclose(one.bounds + other.bounds[::-1], 1.0, atol=0.04)


def test_a_point_at_which_a_seed_has_no_value_has_neither_mean_nor_interval():
    value, bounds = statistics.mean(np.array([[np.nan, 1.0], [2.0, 3.0]]))
    np.testing.assert_array_equal(value, [np.nan, 2.0])
    np.testing.assert_array_equal(bounds, [[np.nan, 1.0], [np.nan, 3.0]])


def test_one_seed_has_a_value_and_no_interval():
    assert statistics.interquartile_mean(SCORES[:1]).bounds is None
    found = statistics.probability_of_improvement([SCORES[:, 0], SCORES[:1, 1]], [OTHERS[:, 0], OTHERS[:, 1]])
    assert found.by_env[0].bounds is not None
    assert found.by_env[1].bounds is found.overall.bounds is None


ESTIMATES = {
    "mean": (lambda: statistics.mean(SCORES), lambda _: lambda sample: sample.mean(axis=(0, 1)), SCORES[:, None]),
    "interquartile mean": (
        lambda: statistics.interquartile_mean(SCORES),
        lambda rliable: lambda sample: np.array([rliable.metrics.aggregate_iqm(sample)]),
        SCORES,
    ),
    "performance profile": (
        lambda: statistics.performance_profile(SCORES, THRESHOLDS),
        lambda rliable: lambda sample: rliable.library.score_distributions(sample, THRESHOLDS),
        SCORES,
    ),
    "probability of improvement": (
        lambda: statistics.probability_of_improvement(list(SCORES.T), list(OTHERS.T)).overall,
        lambda rliable: lambda *samples: np.array([rliable.metrics.probability_of_improvement(*samples)]),
        [SCORES, OTHERS],
    ),
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_estimates_and_intervals_are_rliables_within_the_error_of_both_bootstraps(name, monkeypatch):
    rliable = pytest.importorskip("rliable")
    pytest.importorskip("rliable.library")
    pytest.importorskip("rliable.metrics")
    ours, function, sample = ESTIMATES[name]
    monkeypatch.setattr(np.random, "choice", np.random.RandomState(0).choice)
    values, bounds = rliable.library.get_interval_estimates({"": sample}, function(rliable), reps=1_000)
    found = ours()
    np.testing.assert_allclose(found.value, values[""], atol=1e-12)
    width = np.maximum(np.ptp(bounds[""], axis=0), 0.01)
    assert (np.abs(found.bounds - bounds[""]) < 0.12 * width).all()

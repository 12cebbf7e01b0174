"""Chance as an explanation of a comparison: the exact test by enumeration, by scipy, and by how often it is wrong."""

from itertools import combinations, product

import numpy as np
import pytest

from sb3_tare.experiments.reporting import statistics
from sb3_tare.experiments.reporting.chance import by_chance


def share(ours, theirs):
    """Probability of improvement on one task, pair by pair."""
    return np.mean([(one > other) + (one == other) / 2 for one, other in product(ours, theirs)])


def enumerated(returns, others):
    """The same test, with each deal of each task written out."""
    shares = []
    for ours, theirs in zip(returns, others, strict=True):
        runs = np.concatenate([ours, theirs])
        drawn = [list(indices) for indices in combinations(range(len(runs)), len(ours))]
        shares.append([share(runs[indices], np.delete(runs, indices)) for indices in drawn])
    found = np.mean([share(ours, theirs) for ours, theirs in zip(returns, others, strict=True)])
    every = np.mean(list(product(*shares)), axis=1)
    return np.mean(np.abs(every - 0.5) >= abs(found - 0.5) - 1e-9)


def drawn(seed, sizes, ties):
    generator = np.random.default_rng(seed)
    return [generator.integers(4, size=size).astype(float) if ties else generator.normal(size=size) for size in sizes]


@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize(("sizes", "others"), [((3,), (3,)), ((1,), (4,)), ((3, 2), (3, 4)), ((1, 3, 2), (2, 1, 2))])
def test_a_chance_is_the_share_of_all_deals_written_out(sizes, others, ties):
    for seed in range(5):
        ours, theirs = drawn(seed, sizes, ties), drawn(100 + seed, others, ties)
        assert by_chance(ours, theirs) == pytest.approx(enumerated(ours, theirs))
        assert by_chance(theirs, ours) == by_chance(ours, theirs)


def test_on_one_task_without_ties_it_is_mann_and_whitneys_exact_test():
    mannwhitneyu = pytest.importorskip("scipy.stats").mannwhitneyu
    for seed in range(5):
        (ours,), (theirs,) = drawn(seed, (8,), ties=False), drawn(50 + seed, (11,), ties=False)
        assert by_chance([ours], [theirs]) == pytest.approx(mannwhitneyu(ours, theirs, method="exact").pvalue)


def test_where_all_pairs_come_out_alike_chance_is_two_in_the_number_of_deals():
    low, high = np.arange(3.0), np.arange(3.0) + 9
    assert by_chance([high], [low]) == pytest.approx(2 / 20)
    assert by_chance([low, low], [high, high]) == pytest.approx(2 / 400)


def test_runs_that_are_all_the_same_are_chance():
    assert by_chance([np.ones(3), np.ones(2)], [np.ones(3), np.ones(2)]) == 1.0


def test_many_seeds_and_tasks_are_counted_in_whole_numbers():
    ours, theirs = drawn(0, [10] * 6, ties=False), drawn(1, [10, 9] * 3, ties=False)
    assert 0.0 < by_chance(ours, theirs) <= 1.0


@pytest.mark.parametrize(("seeds", "tasks"), [(2, 3), (3, 3)])
def test_chance_passes_for_a_difference_once_in_twenty_at_most_where_intervals_of_few_seeds_let_it_more(
    seeds, tasks, monkeypatch
):
    monkeypatch.setattr(statistics, "REPETITIONS", 1_000)
    exact, interval, repetitions = 0, 0, 200
    for seed in range(repetitions):
        ours, theirs = np.random.default_rng(seed).normal(size=(2, tasks, seeds))
        exact += by_chance(list(ours), list(theirs)) <= 0.05
        low, high = statistics.probability_of_improvement(list(ours), list(theirs)).overall.bounds[:, 0]
        interval += not low <= 0.5 <= high
    assert exact / repetitions < 0.08 < interval / repetitions

"""Chance as an explanation of a comparison: an exact permutation test, stratified by environment (van Elteren, 1960).

Intervals of a bootstrap over three seeds are too narrow to be asked alone whether a variant differs from its reference. Where
a variant's name means nothing, all ways to deal the runs of an environment out to the two are equally likely, however few
they are and whatever the distribution of their returns.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import comb, lcm

import numpy as np

from sb3_tare.experiments.reporting.statistics import Array


def by_chance(returns: Sequence[Array], others: Sequence[Array]) -> float:
    """Share of all deals in which the overall probability of improvement is as far from one half as it is, or farther.

    :param returns: ``[seeds]`` of each environment, which need not have as many
    :param others: ``[seeds]`` of each environment, of as many seeds or not
    """
    scale = lcm(*(len(ours) * len(theirs) for ours, theirs in zip(returns, others, strict=True)))
    found, deals = 0, Counter({0: 1})
    for ours, theirs in zip(returns, others, strict=True):
        weight = scale // (len(ours) * len(theirs))  # environments count alike, and sums of whole numbers are exact
        found += weight * int(np.sign(ours[:, None] - theirs).sum())
        deals = _sums(deals, _deals(np.concatenate([ours, theirs]), len(ours)), weight)
    return sum(count for net, count in deals.items() if abs(net) >= abs(found)) / deals.total()


def _deals(values: Array, ours: int) -> Counter[int]:
    """Number of ways to draw so many of the values by their net wins: pairs of a drawn one above another, less those below."""
    ways, lower = Counter({(0, 0): 1}), 0
    for ties in np.unique(values, return_counts=True)[1].tolist():
        after: Counter[tuple[int, int]] = Counter()
        for (drawn, net), count in ways.items():
            for more in range(min(ties, ours - drawn) + 1):
                won, lost = more * (lower - drawn), (ties - more) * drawn
                after[drawn + more, net + won - lost] += count * comb(ties, more)
        ways, lower = after, lower + ties
    return Counter({net: count for (drawn, net), count in ways.items() if drawn == ours})


def _sums(deals: Counter[int], more: Counter[int], weight: int) -> Counter[int]:
    sums: Counter[int] = Counter()
    for net, count in deals.items():
        for further, ways in more.items():
            sums[net + weight * further] += count * ways
    return sums

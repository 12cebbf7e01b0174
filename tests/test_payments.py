"""Rollouts cut at every step that pays: what was foretold since the payment before, beside what was paid."""

import io
from itertools import pairwise

import torch
from builders import LAWS, episodes_of, normal
from hypothesis import given
from hypothesis import strategies as st

from sb3_tare.data.episodes import End
from sb3_tare.rewards.carrying import UNKNOWN
from sb3_tare.rewards.payments import Payments

CUT, TIMEOUT = int(End.CUT), int(End.TIMEOUT)
ONE = torch.zeros(1, dtype=torch.int64)


def in_turn(foretold, paid, lasts, edges):
    """Payments of one environment, delivered in rollouts with ``edges`` between them; ``lasts`` are last steps of episodes."""
    payments, found = Payments(1), []
    bounds = [0, *edges, len(paid)]
    for begin, end in pairwise(bounds):
        cuts = sorted({begin, end, *(last + 1 for last in lasts if begin < last + 1 < end)})
        lengths = [after - before for before, after in pairwise(cuts)]
        starts = [0, *(last + 1 for last in lasts)]
        first_times = [before - max(start for start in starts if start <= before) for before in cuts[:-1]]
        ends = [0 if after - 1 in lasts else CUT for after in cuts[1:]]
        episodes = episodes_of(lengths, first_times=first_times, ends=ends)
        rows = slice(begin, end)
        found.append(payments.add(foretold[rows], paid[rows], episodes, ONE.expand(len(lengths))))
    return torch.cat([each for each, _ in found]), torch.cat([each for _, each in found])


@LAWS
@given(st.data())
def test_however_rollouts_cut_them_payments_are_those_of_a_loop_over_steps(data):
    n = data.draw(st.integers(1, 25))
    steps = st.sets(st.integers(0, n - 1))
    paying, lasts, edges = data.draw(steps), data.draw(steps), sorted(data.draw(steps) - {0})
    foretold, paid = normal(n, seed=0), torch.tensor([1.0 + step if step in paying else 0.0 for step in range(n)])
    expected, total = [], 0.0
    for step in range(n):
        total += float(foretold[step])
        if step in paying or step in lasts:
            expected.append((total, float(paid[step])))
            total = 0.0
    sums, payments = in_turn(foretold, paid, sorted(lasts), edges)
    torch.testing.assert_close(sums, torch.tensor([each for each, _ in expected], dtype=torch.float64))
    assert payments.tolist() == [each for _, each in expected]


def test_a_dense_reward_pays_at_each_step_and_a_late_one_with_each_episode():
    episodes, foretold = episodes_of([3, 2], ends=[0, TIMEOUT]), torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])
    dense = Payments(1).add(foretold, torch.ones(5), episodes, ONE.expand(2))
    late = Payments(1).add(foretold, torch.tensor([0.0, 0.0, 9.0, 0.0, 0.0]), episodes, ONE.expand(2))
    assert [each.tolist() for each in dense] == [[1.0, 2.0, 3.0, 4.0, 5.0], [1.0] * 5]
    assert [each.tolist() for each in late] == [[6.0, 9.0], [9.0, 0.0]]


def test_what_began_before_it_was_seen_is_no_payment():
    episodes = episodes_of([3], first_times=[7], ends=[CUT])
    sums, paid = Payments(1).add(torch.ones(3), torch.tensor([5.0, 0.0, 6.0]), episodes, ONE)
    assert (sums.tolist(), paid.tolist()) == ([2.0], [6.0])


def test_environments_do_not_mix():
    both, apart = Payments(2), [Payments(1), Payments(1)]
    foretold, paid = normal(2, 8, seed=1), torch.tensor([[0.0, 1.0, 0.0, 2.0] * 2, [0.0, 0.0, 0.0, 3.0] * 2])
    for half in (slice(0, 4), slice(4, 8)):
        times = [half.start, half.start]
        together = both.add(
            foretold[:, half].flatten(),
            paid[:, half].flatten(),
            episodes_of([4, 4], first_times=times, ends=[CUT, CUT]),
            torch.arange(2),
        )
        alone = [
            one.add(foretold[i, half], paid[i, half], episodes_of([4], first_times=times[:1], ends=[CUT]), ONE)
            for i, one in enumerate(apart)
        ]
        for each, of_each in zip(together, zip(*alone, strict=True), strict=True):
            torch.testing.assert_close(each, torch.cat(of_each))


def test_its_state_goes_through_a_file_and_only_to_as_many_environments():
    whole, file = Payments(1), io.BytesIO()
    whole.add(torch.tensor([4.0]), torch.zeros(1), episodes_of([1], ends=[CUT]), ONE)
    torch.save(whole.state_dict(), file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    last = torch.tensor([1.0]), torch.tensor([2.0]), episodes_of([1], first_times=[1], ends=[0]), ONE
    same, more = Payments(1), Payments(2)
    same.load_state_dict(state)
    more.load_state_dict(state)
    assert [each.tolist() for each in same.add(*last)] == [each.tolist() for each in whole.add(*last)] == [[5.0], [2.0]]
    assert more.state_dict()["carried"]["next_times"].tolist() == [UNKNOWN, UNKNOWN]


def test_after_a_rollout_that_was_broken_off_nothing_is_carried_into_another_episode():
    payments = Payments(1)
    payments.add(torch.ones(3), torch.zeros(3), episodes_of([3], ends=[CUT]), ONE)
    sums, paid = payments.add(torch.ones(3), torch.tensor([0.0, 5.0, 6.0]), episodes_of([3], first_times=[7], ends=[CUT]), ONE)
    assert (sums.tolist(), paid.tolist()) == ([1.0], [6.0])

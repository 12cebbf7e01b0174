from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
import pytest
import torch
from builders import LAWS, episodes_of, generator, layouts, normal, rows_of
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from stable_baselines3.common.buffers import RolloutBuffer

from sb3_tare.data.cutting import cut_rollout, split
from sb3_tare.data.episodes import End, Episodes, Selection
from sb3_tare.data.padding import Padding

TERMINATION, TIMEOUT, CUT = (int(end) for end in End)


class Piece(NamedTuple):
    length: int
    first_time: int
    end: int


class Recorded(NamedTuple):
    """A rollout, and the pieces that a plain loop finds in it."""

    dones: torch.Tensor
    timeouts: torch.Tensor
    times: torch.Tensor
    pieces: list[Piece]

    def cut(self) -> Episodes:
        return cut_rollout(self.dones, self.timeouts, self.times)


@st.composite
def happenings(draw: st.DrawFn) -> np.ndarray:
    """What happens at each step, ``[rollouts, T, N]``; CUT where the episode simply goes on."""
    shape = (draw(st.integers(1, 3)), draw(st.integers(1, 8)), draw(st.integers(1, 3)))
    return draw(arrays(np.int64, shape, elements=st.sampled_from([CUT, CUT, CUT, TERMINATION, TIMEOUT])))


def play(happening: np.ndarray) -> list[Recorded]:
    """Count time and pieces step by step, in rollouts that follow each other."""
    _, n_steps, n_envs = happening.shape
    clocks = [0] * n_envs
    recorded = []
    for rollout in happening:
        times = np.zeros((n_steps, n_envs), dtype=np.int64)
        pieces = []
        for env in range(n_envs):
            length = 0
            for step in range(n_steps):
                times[step, env] = clocks[env]
                clocks[env] += 1
                length += 1
                ended = rollout[step, env] != CUT
                if ended or step == n_steps - 1:
                    pieces.append(Piece(length, clocks[env] - length, int(rollout[step, env])))
                    length = 0
                if ended:
                    clocks[env] = 0
        arrays_ = (rollout != CUT, rollout == TIMEOUT, times)
        recorded.append(Recorded(*(torch.from_numpy(array) for array in arrays_), pieces))
    return recorded


def pieces_of(episodes: Episodes) -> list[Piece]:
    columns = (episodes.lengths, episodes.first_times, episodes.ends)
    return [Piece(*row) for row in zip(*(column.tolist() for column in columns), strict=True)]


# Cutting


@LAWS
@given(happenings())
def test_rollouts_are_cut_where_a_plain_loop_cuts_them(happening):
    for recorded in play(happening):
        assert pieces_of(recorded.cut()) == recorded.pieces


@LAWS
@given(happenings())
def test_rows_lie_in_the_order_in_which_sb3_flattens_a_rollout(happening):
    for recorded in play(happening):
        flattened = RolloutBuffer.swap_and_flatten(recorded.times.numpy()[..., None])[:, 0]
        assert recorded.cut().times.tolist() == flattened.tolist()


@LAWS
@given(happenings())
def test_a_cut_piece_counts_time_on_from_where_it_began(happening):
    _, n_steps, n_envs = happening.shape
    recorded = play(happening)
    for earlier, later in pairwise(recorded):
        before = earlier.cut()
        for env in range(n_envs):
            last_row = (env + 1) * n_steps - 1
            goes_on = int(before.ends[before.pieces[last_row]]) == CUT
            expected = int(before.times[last_row]) + 1 if goes_on else 0
            assert int(later.cut().times[env * n_steps]) == expected


def test_an_episode_that_spans_three_rollouts_is_cut_twice_and_its_time_is_never_reset():
    happening = np.full((3, 4, 1), CUT)
    happening[2, 1, 0] = TERMINATION
    pieces = [pieces_of(recorded.cut()) for recorded in play(happening)]
    assert pieces == [[Piece(4, 0, CUT)], [Piece(4, 4, CUT)], [Piece(2, 8, TERMINATION), Piece(2, 0, CUT)]]


def test_an_end_on_a_rollouts_last_step_is_no_cut():
    happening = np.full((1, 3, 2), CUT)
    happening[0, 2] = [TERMINATION, TIMEOUT]
    (recorded,) = play(happening)
    assert pieces_of(recorded.cut()) == [Piece(3, 0, TERMINATION), Piece(3, 0, TIMEOUT)]


def test_cutting_leaves_what_it_reads_as_it_was():
    (recorded,) = play(np.full((1, 4, 2), CUT))
    recorded.cut()
    assert not recorded.dones.any()


def test_arrays_of_different_shapes_are_refused():
    flags, times = torch.zeros(4, 2, dtype=torch.bool), torch.zeros(4, 2, dtype=torch.int64)
    with pytest.raises(ValueError, match="one shape"):
        cut_rollout(flags, flags, times[:3])
    with pytest.raises(ValueError, match="one shape"):
        cut_rollout(flags, flags[:, :1], times)


@LAWS
@given(layouts())
def test_pieces_offsets_and_times_say_of_each_row_what_a_plain_loop_says(episodes):
    pieces, offsets, times = [], [], []
    for piece, (length, first_time, _) in enumerate(pieces_of(episodes)):
        for offset in range(length):
            pieces.append(piece)
            offsets.append(offset)
            times.append(first_time + offset)
    assert episodes.n_steps == len(pieces)
    assert episodes.pieces.tolist() == pieces
    assert episodes.offsets.tolist() == offsets
    assert episodes.times.tolist() == times
    assert episodes.begins.tolist() == [rows_of(episodes, piece)[0] for piece in range(len(episodes))]


# Selecting and bisecting


@LAWS
@given(layouts(), st.data())
def test_selected_pieces_keep_their_times_and_ends_and_lie_one_behind_the_other(episodes, data):
    chosen = sorted(data.draw(st.sets(st.sampled_from(range(len(episodes))), min_size=1)))
    part = episodes.select(torch.tensor(chosen))
    assert pieces_of(part.episodes) == [pieces_of(episodes)[piece] for piece in chosen]
    assert part.rows.tolist() == [row for piece in chosen for row in rows_of(episodes, piece)]
    assert torch.equal(part.episodes.times, episodes.times[part.rows])


@LAWS
@given(layouts(min_steps=2), st.data())
def test_a_bisected_piece_ends_in_a_cut_and_goes_on_in_time_behind_it(episodes, data):
    longer = [piece for piece, length in enumerate(episodes.lengths.tolist()) if length > 1]
    assume(longer)
    piece = data.draw(st.sampled_from(longer))
    length, first_time, end = pieces_of(episodes)[piece]
    steps = data.draw(st.integers(1, length - 1))
    halves = [Piece(steps, first_time, CUT), Piece(length - steps, first_time + steps, end)]
    expected = pieces_of(episodes)
    expected[piece : piece + 1] = halves
    bisected = episodes.bisect(piece, steps)
    assert pieces_of(bisected) == expected
    assert torch.equal(bisected.times, episodes.times)


# Splitting

SPLITTABLE = layouts(max_pieces=7, max_length=12, min_steps=4)
SEEDS = st.integers(0, 2**31)


def assert_describes_its_rows(part: Selection, episodes: Episodes) -> None:
    """A part's pieces are whole runs of rows of the rollout, and end as their last row does."""
    assert int(part.episodes.lengths.min()) >= 1
    assert part.episodes.n_steps == len(part.rows)
    assert torch.equal(part.episodes.times, episodes.times[part.rows])
    last_rows = [rows_of(episodes, piece)[-1] for piece in range(len(episodes))]
    for piece in range(len(part.episodes)):
        rows = part.rows[rows_of(part.episodes, piece)].tolist()
        (owner,) = set(episodes.pieces[rows].tolist())
        assert rows == list(range(rows[0], rows[-1] + 1))
        is_last = rows[-1] == last_rows[owner]
        assert int(part.episodes.ends[piece]) == (int(episodes.ends[owner]) if is_last else CUT)


@LAWS
@given(SPLITTABLE, SEEDS)
def test_the_parts_of_a_split_are_disjoint_and_cover_all_rows(episodes, seed):
    first, second = split(episodes, generator(seed))
    assert sorted(first.rows.tolist() + second.rows.tolist()) == list(range(episodes.n_steps))


@LAWS
@given(SPLITTABLE, SEEDS)
def test_the_rows_of_a_part_ascend_and_its_pieces_describe_them(episodes, seed):
    for part in split(episodes, generator(seed)):
        assert part.rows.tolist() == sorted(part.rows.tolist())
        assert_describes_its_rows(part, episodes)


@LAWS
@given(SPLITTABLE, SEEDS)
def test_each_part_holds_a_quarter_of_the_steps_and_two_at_least(episodes, seed):
    for part in split(episodes, generator(seed)):
        assert len(part.rows) >= max(episodes.n_steps / 4, 2)


@pytest.mark.parametrize("lengths", [[3, 1], [1, 4], [6, 1], [20, 2, 2], [1, 10, 1, 1], [3, 100, 5, 4, 9], [1000]])
def test_one_overlong_piece_leaves_each_part_its_quarter_too(lengths):
    episodes = episodes_of(lengths)
    for seed in range(20):
        parts = split(episodes, generator(seed))
        assert min(len(part.rows) for part in parts) >= max(episodes.n_steps / 4, 2)
        for part in parts:
            assert_describes_its_rows(part, episodes)


@LAWS
@given(SPLITTABLE, SEEDS)
def test_at_most_one_piece_is_cut_and_that_in_two(episodes, seed):
    parts = split(episodes, generator(seed))
    owners = [int(episodes.pieces[part.rows[begin]]) for part in parts for begin in part.episodes.begins]
    assert set(owners) == set(range(len(episodes)))
    assert len(owners) <= len(episodes) + 1


@LAWS
@given(SPLITTABLE, SEEDS)
def test_no_piece_is_cut_where_none_is_longer_than_half_of_the_steps(episodes, seed):
    assume(int(episodes.lengths.max()) <= episodes.n_steps / 2)
    parts = split(episodes, generator(seed))
    assert sorted(piece for part in parts for piece in pieces_of(part.episodes)) == sorted(pieces_of(episodes))


@pytest.mark.parametrize("lengths", [[2, 2], [60, 40], [30, 70], [75, 25], [3, 2], [2, 6]])
def test_two_pieces_stay_whole_where_each_holds_a_quarter_of_the_steps(lengths):
    episodes = episodes_of(lengths)
    for seed in range(10):
        parts = split(episodes, generator(seed))
        assert sorted(part.rows.tolist() for part in parts) == [rows_of(episodes, piece) for piece in range(2)]


@pytest.mark.parametrize("lengths", [[2, 1, 1], [1, 2, 1], [1, 1, 2]])
def test_four_steps_in_pieces_of_two_one_and_one_split_into_parts_that_describe_their_rows(lengths):
    """The smallest rollout, and the only one in which a part can be too small though no piece is longer than half of it."""
    episodes = episodes_of(lengths)
    for seed in range(10):
        for part in split(episodes, generator(seed)):
            assert_describes_its_rows(part, episodes)


@LAWS
@given(st.integers(4, 50), st.integers(0, 30), st.sampled_from([TERMINATION, TIMEOUT, CUT]), SEEDS)
def test_a_single_episode_is_cut_in_two_halves_and_the_second_counts_on(length, first_time, end, seed):
    parts = split(episodes_of([length], [first_time], [end]), generator(seed))
    earlier, later = sorted((piece for part in parts for piece in pieces_of(part.episodes)), key=lambda x: x.first_time)
    assert abs(earlier.length - later.length) <= 1
    assert earlier == Piece(earlier.length, first_time, CUT)
    assert later == Piece(length - earlier.length, first_time + earlier.length, end)


def test_either_end_of_an_overlong_piece_can_come_first():
    starts = {int(split(episodes_of([10]), generator(seed))[0].rows[0]) for seed in range(20)}
    assert starts == {0, 5}


@LAWS
@given(SPLITTABLE, SEEDS)
def test_the_same_seed_gives_the_same_split(episodes, seed):
    once, again = split(episodes, generator(seed)), split(episodes, generator(seed))
    for part, same in zip(once, again, strict=True):
        assert torch.equal(part.rows, same.rows)
        assert pieces_of(part.episodes) == pieces_of(same.episodes)


def test_other_seeds_give_other_splits_and_each_piece_is_in_the_first_part_at_times():
    episodes = episodes_of([3, 4, 2, 5, 3, 4])
    firsts = [split(episodes, generator(seed))[0] for seed in range(60)]
    assert len({tuple(part.rows.tolist()) for part in firsts}) > 5
    for begin in episodes.begins.tolist():
        shares = sum(begin in part.rows for part in firsts) / len(firsts)
        assert 0.2 < shares < 0.8


def test_splitting_draws_from_its_own_generator_alone():
    torch.manual_seed(3)
    before, own = torch.get_rng_state(), generator(0)
    own_before = own.get_state()
    for lengths in ([3, 4, 5], [12]):
        split(episodes_of(lengths), own)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(own.get_state(), own_before)


@pytest.mark.parametrize("lengths", [[1], [2], [3], [1, 1], [1, 2], [1, 1, 1]])
def test_too_few_steps_for_two_parts_are_an_error(lengths):
    with pytest.raises(ValueError, match="4 steps"):
        split(episodes_of(lengths), generator(0))


# Padding


def both_paddings(episodes: Episodes) -> list[tuple[Padding, bool]]:
    return [(episodes.forward_padding, False), (episodes.reversed_padding, True)]


WIDE_LAYOUTS = layouts(max_pieces=6, max_length=40)


@LAWS
@given(WIDE_LAYOUTS)
def test_the_order_of_a_padding_is_a_permutation_of_the_rows(episodes):
    for padding, _ in both_paddings(episodes):
        assert sorted(padding.order.tolist()) == list(range(episodes.n_steps))


@LAWS
@given(WIDE_LAYOUTS)
def test_unpadding_undoes_padding(episodes):
    rows = normal(episodes.n_steps, 2, seed=0)
    for padding, _ in both_paddings(episodes):
        assert torch.equal(padding.unpad(padding.pad(rows)), rows)


@LAWS
@given(WIDE_LAYOUTS)
def test_each_padded_sequence_is_one_piece_in_order_of_time_and_padding_comes_last(episodes):
    rows = torch.arange(episodes.n_steps)
    for padding, reverse in both_paddings(episodes):
        seen = []
        for batch in padding.pad(rows):
            for sequence in batch.T.tolist():
                (piece,) = set(episodes.pieces[sequence].tolist())
                expected = rows_of(episodes, piece)[:: -1 if reverse else 1]
                assert sequence[: len(expected)] == expected
                seen.append(piece)
        assert sorted(seen) == list(range(len(episodes)))


@LAWS
@given(WIDE_LAYOUTS, st.booleans())
def test_what_padding_holds_never_comes_back(episodes, reverse):
    padding = episodes.reversed_padding if reverse else episodes.forward_padding
    rows = normal(episodes.n_steps, seed=0)
    batches = padding.pad(rows)
    for bucket, batch in zip(padding.buckets, batches, strict=True):
        is_padding = torch.ones(batch.numel(), dtype=torch.bool)
        is_padding[bucket.places] = False
        batch.view(-1)[is_padding] = torch.nan
    assert torch.equal(padding.unpad(batches), rows)


def test_padding_less_than_doubles_the_rows():
    for lengths in ([1, 1000], [2**k for k in range(12)], [2**k - 1 for k in range(1, 12)], [7, 8, 9, 500, 1, 1, 3]):
        episodes = episodes_of(lengths)
        for padding, _ in both_paddings(episodes):
            assert sum(batch.numel() for batch in padding.pad(torch.zeros(episodes.n_steps))) < 2 * episodes.n_steps


def test_gradients_pass_through_padding_as_they_came():
    episodes = episodes_of([5, 2, 3, 1])
    rows = normal(11, seed=0).requires_grad_()
    cotangent = normal(11, seed=1)
    for padding, _ in both_paddings(episodes):
        (gradient,) = torch.autograd.grad(padding.unpad(padding.pad(rows)) @ cotangent, rows)
        assert torch.equal(gradient, cotangent)

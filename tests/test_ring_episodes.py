"""Whole episodes in a ring are a function of what the ring holds, however often it was looked at."""

import numpy as np
import pytest
import torch
from builders import LAWS
from hypothesis import given
from hypothesis import strategies as st

from sb3_tare.rewards.ring_episodes import RingEpisodes


def by_hand(ended: np.ndarray, begun: np.ndarray, lost: np.ndarray, n_rows: int) -> list[tuple[int, int, int]]:
    """Begin, column and length of each whole episode of a history ``[n_written, n_envs]``, in order of ends."""
    oldest = len(ended) - n_rows
    found = []
    for row in range(len(ended)):
        for column in np.flatnonzero(ended[row]):
            begin = row
            while begin > 0 and not (begun | lost)[begin, column] and not ended[begin - 1, column]:
                begin -= 1
            if lost[begin, column]:
                continue
            if oldest <= 0 or begin > oldest:
                found.append((begin, int(column), row + 1 - begin))
    return found


def told(ring: RingEpisodes) -> list[tuple[int, int, int]]:
    return list(zip(ring.begins.tolist(), ring.columns.tolist(), ring.lengths.tolist(), strict=True))


def look(
    ring: RingEpisodes, n_written: int, ended: np.ndarray, begun: np.ndarray | None = None, lost: np.ndarray | None = None
) -> torch.Tensor:
    rows = ring.unseen(n_written)
    begun, lost = (np.zeros_like(ended)[rows] if each is None else each[rows] for each in (begun, lost))
    if len(rows) and rows[0] > 0 and rows[0] == n_written - ring.n_rows:
        begun[0] = False  # what came before is overwritten
    return ring.extend(n_written, ended[rows], begun, lost)


@st.composite
def histories(draw: st.DrawFn):
    """Ends, seams and gaps of up to 30 rows of 3 environments, the ring's size, and when it is looked at."""
    n_written, n_envs = draw(st.integers(1, 30)), draw(st.integers(1, 3))
    generator = np.random.default_rng(draw(st.integers(0, 2**16)))
    ended = generator.random((n_written, n_envs)) < draw(st.sampled_from([0.1, 0.3, 0.7]))
    begun = generator.random((n_written, n_envs)) < draw(st.sampled_from([0.0, 0.1]))
    begun[0] = False
    lost = generator.random((n_written, n_envs)) < draw(st.sampled_from([0.0, 0.1]))
    begun &= ~lost
    looks = sorted(draw(st.sets(st.integers(1, n_written))) | {n_written})
    return ended, begun, lost, draw(st.integers(1, 34)), looks


@LAWS
@given(histories())
def test_it_holds_the_episodes_that_are_whole_whenever_it_is_looked_at(history):
    ended, begun, lost, n_rows, looks = history
    ring = RingEpisodes(n_rows, ended.shape[1])
    for n_written in looks:
        look(ring, n_written, ended[:n_written], begun[:n_written], lost[:n_written])
        assert told(ring) == by_hand(ended[:n_written], begun[:n_written], lost[:n_written], n_rows)


@LAWS
@given(histories())
def test_a_single_look_finds_what_many_have_found(history):
    ended, begun, lost, n_rows, looks = history
    often, once = (RingEpisodes(n_rows, ended.shape[1]) for _ in range(2))
    for n_written in looks:
        look(often, n_written, ended[:n_written], begun[:n_written], lost[:n_written])
    look(once, len(ended), ended, begun, lost)
    assert told(often) == told(once)


def test_an_episode_leaves_when_its_first_row_is_overwritten_and_it_is_told_which():
    ring = RingEpisodes(6, 1)
    ended = np.array([0, 0, 1, 0, 0, 1, 0, 0, 0], dtype=bool)[:, None]
    look(ring, 6, ended[:6])
    assert told(ring) == [(0, 0, 3), (3, 0, 3)]
    assert look(ring, 8, ended[:8]).tolist() == [False, True]
    assert told(ring) == [(3, 0, 3)]


def test_steps_of_an_episode_are_found_around_the_rings_edge():
    ring = RingEpisodes(5, 1)
    ended = np.array([0, 1, 0, 1, 0, 0, 1], dtype=bool)[:, None]
    look(ring, 7, ended)
    rows, columns = ring.steps(torch.tensor([0]))
    assert rows.tolist() == [4, 0, 1]
    assert columns.tolist() == [0, 0, 0]


@pytest.mark.parametrize("n_rows", [3, 10])
def test_where_nothing_was_written_there_is_nothing(n_rows):
    ring = RingEpisodes(n_rows, 2)
    look(ring, 0, np.zeros((0, 2), dtype=bool))
    assert len(ring) == 0

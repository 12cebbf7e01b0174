"""A memory of whole episodes: joined across rollouts, a uniform sample once it is full, the same after a resume."""

import io
import math

import pytest
import torch
from builders import LAWS, episodes_of, generator
from hypothesis import given
from hypothesis import strategies as st

from sb3_tare.data.cutting import cut_rollout
from sb3_tare.data.episodes import End
from sb3_tare.rewards.episode_memory import NEWEST, EpisodeMemory
from sb3_tare.rewards.growing_rows import GrowingRows
from sb3_tare.rewards.open_episodes import OpenEpisodes

CUT, TIMEOUT, TERMINATION = int(End.CUT), int(End.TIMEOUT), int(End.TERMINATION)


def rows_of(n, begin=0):
    """States that tell their row, actions of size one, rewards that are distinct."""
    rows = torch.arange(begin, begin + n)
    return rows[:, None].float(), torch.ones(n, 2), rows.double()


def deliver(target, lengths, environments=None, first_times=None, ends=None, begin=0):
    """Add pieces whose rows are numbered on from ``begin``."""
    episodes = episodes_of(lengths, first_times, ends)
    environments = torch.tensor([0] * len(lengths) if environments is None else environments)
    return target.add(episodes, environments, *rows_of(episodes.n_steps, begin))


def rows(finished):
    """Row numbers of each episode."""
    return [each.flatten().int().tolist() for each in finished.states.split(finished.lengths.tolist())]


# Episodes across rollouts


def test_an_episode_that_a_rollouts_edge_cuts_is_handed_over_whole_when_it_ends():
    joined = OpenEpisodes()
    assert len(deliver(joined, [3, 2, 4], [0, 0, 1], ends=[TIMEOUT, CUT, CUT])) == 1
    assert len(deliver(joined, [2, 3], [0, 1], first_times=[2, 4], ends=[CUT, CUT], begin=10)) == 0
    finished = deliver(joined, [1, 4], [0, 1], first_times=[4, 7], ends=[TERMINATION, TERMINATION], begin=20)
    assert rows(finished) == [[3, 4, 10, 11, 20], [5, 6, 7, 8, 12, 13, 14, 21, 22, 23, 24]]
    assert finished.totals.tolist() == [sum(each) for each in rows(finished)]


@LAWS
@given(st.integers(1, 3), st.integers(1, 9), st.lists(st.integers(1, 12), min_size=12, max_size=12), st.integers(1, 6))
def test_it_does_not_matter_where_rollouts_cut(n_envs, n_steps, lengths, n_rollouts):
    """Steps that tell environment and time, collected in rollouts of any size: each episode comes out once, whole."""
    total = n_steps * n_rollouts
    dones, times = torch.zeros(total, n_envs, dtype=torch.bool), torch.zeros(total, n_envs, dtype=torch.int64)
    for env in range(n_envs):
        time, lives = 0, iter(lengths[env:] * total)
        life = next(lives)
        for step in range(total):
            times[step, env] = time
            dones[step, env] = time + 1 == life
            time, life = (0, next(lives)) if time + 1 == life else (time + 1, life)
    names = torch.arange(total)[:, None] * n_envs + torch.arange(n_envs)

    def collected(rollout_steps):
        joined, found = OpenEpisodes(), []
        for begin in range(0, total, rollout_steps):
            part = slice(begin, begin + rollout_steps)
            episodes = cut_rollout(dones[part], torch.zeros_like(dones[part]), times[part])
            environments = episodes.begins // len(dones[part])
            states = names[part].T.reshape(-1, 1).float()
            finished = joined.add(episodes, environments, states, states, states.flatten())
            assert torch.equal(finished.totals, finished.sums(finished.states).flatten())
            found += rows(finished)
        return sorted(found)

    assert collected(n_steps) == collected(total)


def test_an_episode_whose_start_was_not_seen_is_left_out_to_its_end():
    joined = OpenEpisodes()
    assert rows(deliver(joined, [3, 2], first_times=[5, 0], ends=[TERMINATION, TERMINATION])) == [[3, 4]]
    joined = OpenEpisodes()
    assert len(deliver(joined, [3], first_times=[5], ends=[CUT])) == 0
    assert len(deliver(joined, [3], first_times=[8], ends=[TERMINATION])) == 0


def test_an_episode_that_is_not_gone_on_with_is_forgotten():
    joined = OpenEpisodes()
    deliver(joined, [3], ends=[CUT])
    assert rows(deliver(joined, [2, 2], ends=[TERMINATION, CUT], begin=10)) == [[10, 11]]
    assert rows(deliver(joined, [1], first_times=[2], begin=20)) == [[12, 13, 20]]


def test_an_environment_that_a_rollout_does_not_mention_loses_nothing():
    joined = OpenEpisodes()
    deliver(joined, [3], [1], ends=[CUT])
    deliver(joined, [4], [0], begin=10)
    assert rows(deliver(joined, [1], [1], first_times=[3], begin=20)) == [[0, 1, 2, 20]]


def test_an_endless_episode_is_handed_over_in_pieces_of_the_longest_length():
    joined = OpenEpisodes(longest=4)
    assert rows(deliver(joined, [6], ends=[CUT])) == [[0, 1, 2, 3]]
    assert rows(deliver(joined, [2], first_times=[6], ends=[CUT], begin=6)) == [[4, 5, 6, 7]]
    assert rows(deliver(joined, [10], first_times=[8], ends=[CUT], begin=8)) == [[8, 9, 10, 11], [12, 13, 14, 15]]
    assert rows(deliver(joined, [1], first_times=[18], begin=18)) == [[16, 17, 18]]


@pytest.mark.parametrize(("ends", "totals"), [([CUT], [0.0, 0.0]), ([TIMEOUT], [0.0, 0.0, 1.0])])
def test_a_part_that_was_paid_nothing_is_told_of(ends, totals):
    seen, rewards = rows_of(9)[:2], torch.zeros(9, dtype=torch.float64)
    rewards[-1] = 1.0
    with pytest.warns(UserWarning, match=r"first 4 steps .* decomposition_length=4: .* an episode's length at least"):
        finished = OpenEpisodes(longest=4).add(episodes_of([9], ends=ends), torch.zeros(1).long(), *seen, rewards)
    assert finished.totals.tolist() == totals


def test_an_episode_that_ends_with_nothing_paid_is_told_nothing_of(recwarn):
    paid = torch.tensor([1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    OpenEpisodes(longest=4).add(episodes_of([4, 3]), torch.zeros(2).long(), *rows_of(7)[:2], torch.zeros(7).double())
    OpenEpisodes(longest=4).add(episodes_of([7]), torch.zeros(1).long(), *rows_of(7)[:2], paid)
    assert not recwarn


def test_an_episode_of_exactly_the_longest_length_is_one():
    assert rows(deliver(OpenEpisodes(longest=4), [4, 4], ends=[TIMEOUT, TERMINATION])) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_pieces_and_rows_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"environments must have shape \(2,\), one a piece, got \(1,\)"):
        deliver(OpenEpisodes(), [1, 2], [0])
    with pytest.raises(ValueError, match="must have 3 rows, one a step, got 3 and 2"):
        OpenEpisodes().add(episodes_of([3]), torch.zeros(1).long(), torch.zeros(3, 1), torch.zeros(3, 1), torch.zeros(2))


# Memory


def test_everything_is_kept_while_there_is_room():
    memory = EpisodeMemory(generator(0), max_steps=100, longest=50)
    for begin in range(0, 100, 10):
        deliver(memory, [3, 7], begin=begin)
    assert memory.lengths.tolist() == [3, 7] * 10
    assert memory.totals.sum() == sum(range(100))
    assert memory.squared_actions.tolist() == [6.0, 14.0] * 10


def every_step(memory):
    """Row numbers of all that is stored, by episode."""
    return [each.flatten().int().tolist() for each in memory.state_dict()["rows"]["states"].split(memory.lengths.tolist())]


@LAWS
@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=12), st.integers(9, 40))
def test_what_is_kept_are_the_episodes_with_the_smallest_keys_whole_and_in_order(rollouts, max_steps):
    memory = EpisodeMemory(generator(3), max_steps=max_steps, longest=9)
    seen, begin = [], 0
    for lengths in rollouts:
        deliver(memory, lengths, begin=begin)
        for length in lengths:
            seen.append(list(range(begin, begin + length)))
            begin += length
    keys = generator(3)
    drawn = torch.cat([torch.rand(len(lengths), dtype=torch.float64, generator=keys) for lengths in rollouts])
    order = torch.argsort(drawn).tolist()
    sizes = torch.tensor([len(seen[index]) for index in order]).cumsum(0)
    kept = sorted(order[: int((sizes <= max_steps).sum())])
    assert every_step(memory) == [seen[index] for index in kept]
    assert memory.totals.tolist() == [sum(seen[index]) for index in kept]
    assert memory._rows.size <= max_steps + max_steps // 16


def test_early_and_late_episodes_are_kept_with_the_same_chance():
    kept = torch.zeros(60)
    for seed in range(150):
        memory = EpisodeMemory(generator(seed), max_steps=20, longest=1)
        for begin in range(0, 60, 20):
            deliver(memory, [1] * 20, begin=begin)
        kept[memory.totals.long()] += 1
    assert kept.sum() == 150 * 20
    assert (kept / 150 - 1 / 3).abs().max() < 4 * math.sqrt(2 / 9 / 150)
    assert (kept.view(3, 20).mean(1) / 150 - 1 / 3).abs().max() < 0.05


def test_draws_come_from_the_episode_and_every_step_of_it_with_the_same_chance():
    memory = EpisodeMemory(generator(0))
    deliver(memory, [1, 3, 10])
    draw = memory.sample(3_000, 4, generator(1))
    numbers = draw.states.view(3_000, 4)
    lower, upper = torch.tensor([0, 1, 4]), torch.tensor([0, 3, 13])
    index = torch.tensor([{1: 0, 3: 1, 10: 2}[length] for length in draw.lengths.tolist()])
    assert ((numbers >= lower[index, None]) & (numbers <= upper[index, None])).all()
    assert torch.equal(draw.totals, torch.tensor([0, 6, 85]).double()[index])
    assert torch.equal(draw.squared_actions, 2 * draw.lengths.double())
    episodes = index.bincount() / 3_000
    assert (episodes - 1 / 3).abs().max() < 0.03
    steps = numbers[index == 2].flatten().long().bincount()[4:] / numbers[index == 2].numel()
    assert (steps - 0.1).abs().max() < 0.015


def test_a_draw_depends_on_its_generator_alone():
    memory = EpisodeMemory(generator(0))
    deliver(memory, [5, 3, 10])
    first, again = (memory.sample(7, 3, generator(4)) for _ in range(2))
    assert torch.equal(first.states, again.states)
    assert first.states.shape == (21, 1)
    assert first.actions.shape == (21, 2)


def test_a_share_of_the_episodes_drawn_is_from_the_newest_tenth():
    memory = EpisodeMemory(generator(0))
    deliver(memory, [1] * 1_000, ends=[TERMINATION] * 1_000)
    names = memory.sample(2_000, 1, generator(1), recent=0.25).states.flatten()
    assert int((names >= 900).sum()) == pytest.approx(0.25 * 2_000 + 0.1 * 0.75 * 2_000, abs=60)
    assert len(set(names[names >= 900].tolist())) > 95
    alone = memory.sample(500, 1, generator(1), recent=1.0).states.flatten()
    assert alone.min() >= 900


def test_a_small_memory_is_recent_as_a_whole():
    memory = EpisodeMemory(generator(0))
    deliver(memory, [1] * NEWEST, ends=[TERMINATION] * NEWEST)
    assert len(set(memory.sample(500, 1, generator(1), recent=1.0).states.flatten().tolist())) == NEWEST


def test_images_stay_bytes_and_numbers_become_single_precision():
    memory = EpisodeMemory(generator(0))
    episodes = episodes_of([4, 5])
    states = {"camera": torch.randint(256, (9, 3, 8, 8), dtype=torch.uint8), "body": torch.randn(9, 2).double()}
    memory.add(episodes, torch.zeros(2).long(), states, torch.eye(3)[torch.arange(9) % 3], torch.ones(9))
    draw = memory.sample(2, 2, generator(0))
    assert set(draw.states) == {"camera", "body"}
    assert draw.states["camera"].dtype == torch.uint8
    assert draw.states["camera"].shape == (4, 3, 8, 8)
    assert draw.states["body"].dtype == torch.float32
    assert memory.n_bytes == 9 * (3 * 8 * 8 + 2 * 4 + 3 * 4)


def test_a_step_of_half_cheetah_costs_about_a_hundred_bytes():
    memory = EpisodeMemory(generator(0))
    for _ in range(3):
        episodes = episodes_of([1_000, 1_000])
        memory.add(episodes, torch.zeros(2).long(), torch.zeros(2_000, 17), torch.zeros(2_000, 6), torch.zeros(2_000))
    assert memory.n_bytes / 6_000 <= 100
    assert max(len(array) for array in memory._rows._arrays.values()) <= 2 * 6_000


def test_an_empty_memory_and_one_without_room_say_so():
    with pytest.raises(ValueError, match="no episode has ended yet"):
        EpisodeMemory(generator(0)).sample(1, 1, generator(0))
    with pytest.raises(ValueError, match="room for an episode of longest=1000 steps, got 10"):
        EpisodeMemory(generator(0), max_steps=10)
    with pytest.raises(ValueError, match="longest must be a whole number of at least 1, got 0"):
        EpisodeMemory(generator(0), longest=0)


@pytest.mark.parametrize("n_seen", [0, 1, 30])
def test_a_resumed_memory_goes_on_bit_for_bit(n_seen):
    def more(memory, begins):
        for begin in begins:
            deliver(memory, [4, 5], [0, 1], first_times=[0, 3 * (begin > 0)], ends=[TERMINATION, CUT], begin=9 * begin)
            deliver(memory, [3], [1], first_times=[5 + 3 * (begin > 0)], begin=500 + begin)
            deliver(memory, [3], [1], ends=[CUT], begin=700 + begin)
        return memory

    whole = more(EpisodeMemory(generator(0), max_steps=60, longest=20), range(n_seen))
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    resumed = EpisodeMemory(generator(99), max_steps=60, longest=20)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for memory in (whole, resumed):
        more(memory, range(n_seen, n_seen + 20))
    assert every_step(whole) == every_step(resumed)
    assert len(whole) > 5
    draws = [memory.sample(50, 8, generator(1)) for memory in (whole, resumed)]
    for ours, theirs in zip(*draws, strict=True):
        assert torch.equal(ours, theirs)


def test_a_saved_memory_that_is_too_large_is_refused():
    memory = EpisodeMemory(generator(0), max_steps=50, longest=10)
    deliver(memory, [10, 10, 10])
    with pytest.raises(ValueError, match="max_steps=20 is too small for the saved memory, which holds 30 steps"):
        EpisodeMemory(generator(0), max_steps=20, longest=10).load_state_dict(memory.state_dict())


def test_rows_that_are_kept_move_to_the_front_in_blocks(monkeypatch):
    monkeypatch.setattr("sb3_tare.rewards.growing_rows.BLOCK", 3)
    array = GrowingRows(20)
    for begin in (0, 10):
        array.append({"x": torch.arange(begin, begin + 10)})
    kept = torch.tensor([0, 2, 3, 7, 8, 9, 12, 15, 16, 19])
    array.keep(kept)
    assert torch.equal(array.take(torch.arange(10))["x"], kept)

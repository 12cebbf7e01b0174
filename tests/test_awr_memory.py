"""AWR's memory holds whole paths in time order, and the returns over them are those of a plain loop."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import count

import numpy as np
import pytest
import torch
from builders import LAWS
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from toys import BOX, OBSERVATION, Toy, Watch, awr, vec_env

from sb3_tare.advantages.generalised import generalised_advantages
from sb3_tare.advantages.sums import discounted_sum_by_doubling
from sb3_tare.awr import DictPathMemory, PathMemory
from sb3_tare.awr.evaluation import path_baseline
from sb3_tare.data.episodes import End

NUMBER = spaces.Box(-np.inf, np.inf, (1,), dtype=np.float64)
GOES_ON = None


@dataclass(frozen=True)
class Step:
    """What happened to one environment, in plain numbers."""

    observation: float
    next_observation: float
    reward: float
    time: int
    end: End | None


@dataclass(frozen=True)
class History:
    """Steps of several environments, and what a memory of them should hold."""

    capacity: int
    steps: list[list[End | None]]
    """For each time step what ends there, environment by environment"""
    cuts: list[bool]
    """Whether all environments are reset behind it"""

    @property
    def n_envs(self) -> int:
        return len(self.steps[0])

    def play(self) -> tuple[PathMemory, list[list[Step]]]:
        """The memory to which all was added, and the steps of each environment that fit in, oldest first."""
        memory = PathMemory(self.capacity * self.n_envs, NUMBER, BOX, "cpu", self.n_envs)
        numbers, kept = count(), [[] for _ in range(self.n_envs)]
        times, observations = [0] * self.n_envs, [float(next(numbers)) for _ in range(self.n_envs)]
        for ends, is_cut in zip(self.steps, self.cuts, strict=True):
            steps = []
            for env, end in enumerate(ends):
                following = float(next(numbers))
                steps.append(Step(observations[env], following, math.cos(following), times[env], end))
                goes_on = end is GOES_ON and not is_cut
                observations[env] = following if goes_on else float(next(numbers))
                times[env] = times[env] + 1 if goes_on else 0
            memory.add(
                np.array([[step.observation] for step in steps]),
                np.array([[step.next_observation] for step in steps]),
                np.zeros((self.n_envs, 2)),
                np.array([step.reward for step in steps]),
                np.array([step.end is not GOES_ON for step in steps]),
                [{"TimeLimit.truncated": step.end == End.TIMEOUT} for step in steps],
            )
            if is_cut:
                memory.cut()
            for env, step in enumerate(steps):
                last = Step(**{**step.__dict__, "end": End.CUT}) if is_cut and step.end is GOES_ON else step
                kept[env].append(last)
        return memory, [steps[-self.capacity :] for steps in kept]


@st.composite
def histories(draw: st.DrawFn) -> History:
    n_envs, n_steps = draw(st.integers(1, 3)), draw(st.integers(1, 16))
    events = st.sampled_from([GOES_ON, GOES_ON, End.TERMINATION, End.TIMEOUT])
    steps = draw(st.lists(st.lists(events, min_size=n_envs, max_size=n_envs), min_size=n_steps, max_size=n_steps))
    cuts = draw(st.lists(st.sampled_from([False, False, False, True]), min_size=n_steps, max_size=n_steps))
    return History(draw(st.integers(1, 8)), steps, cuts)


def pieces_of(kept: list[list[Step]]) -> list[list[Step]]:
    """The steps cut into pieces of episodes, by hand."""
    pieces: list[list[Step]] = []
    for steps in kept:
        pieces.append([])
        for step in steps:
            pieces[-1].append(step)
            if step.end is not None and step is not steps[-1]:
                pieces.append([])
    return pieces


def value(observation: float) -> float:
    return math.sin(1.7 * observation)


def slow_returns(piece: list[Step], gamma: float, td_lambda: float) -> list[float]:
    """TD(lambda) returns, backwards, step by step."""
    returns: list[float] = []
    for step in reversed(piece):
        following = 0.0 if step.end == End.TERMINATION else value(step.next_observation)
        if returns:
            following = (1 - td_lambda) * following + td_lambda * returns[0]
        returns.insert(0, float(np.float32(step.reward)) + gamma * following)
    return returns


def returns_of(memory: PathMemory, gamma: float, td_lambda: float) -> torch.Tensor:
    """As AWR computes them."""
    paths = memory.paths()
    baseline = path_baseline(lambda observations: torch.sin(1.7 * observations[:, 0]), memory, paths, gamma)
    rewards = memory.rewards_at(paths.rows)
    return baseline.values + generalised_advantages(
        rewards, baseline, paths.episodes, gamma, td_lambda, discounted_sum_by_doubling
    )


def assert_returns(memory: PathMemory, expected: list[float], gamma: float, td_lambda: float) -> None:
    returns = returns_of(memory, gamma, td_lambda)
    torch.testing.assert_close(returns, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=1e-12)


# Paths


@LAWS
@given(histories())
def test_paths_are_the_newest_steps_of_each_environment_in_time_order(history):
    memory, kept = history.play()
    paths, pieces = memory.paths(), pieces_of(kept)
    in_order = [step for steps in kept for step in steps]
    assert memory.observations_at(paths.rows).flatten().tolist() == [step.observation for step in in_order]
    assert memory.next_observations_at(paths.rows).flatten().tolist() == [step.next_observation for step in in_order]
    assert memory.rewards_at(paths.rows).tolist() == [float(np.float32(step.reward)) for step in in_order]
    assert paths.episodes.lengths.tolist() == [len(piece) for piece in pieces]
    assert paths.episodes.times.tolist() == [step.time for step in in_order]
    assert paths.episodes.ends.tolist() == [End.CUT if piece[-1].end is None else piece[-1].end for piece in pieces]


@LAWS
@given(histories(), st.integers(1, 8))
def test_the_newest_steps_are_the_last_ones_of_each_environment(history, n_newest):
    memory, kept = history.play()
    n_newest = min(n_newest, len(kept[0]))
    paths = memory.paths(n_newest * history.n_envs)
    newest = [steps[-n_newest:] for steps in kept]
    expected = [step.observation for steps in newest for step in steps]
    assert memory.observations_at(paths.rows).flatten().tolist() == expected
    assert paths.episodes.lengths.tolist() == [len(piece) for piece in pieces_of(newest)]
    assert paths.episodes.times.tolist() == [step.time for steps in newest for step in steps]


def test_as_many_steps_are_new_as_were_added_and_still_are_there():
    steps = [[GOES_ON, GOES_ON]] * 3
    assert History(5, steps, [False] * 3).play()[0].n_new == 6
    assert History(2, steps, [False] * 3).play()[0].n_new == 4


# Returns


@LAWS
@given(histories(), st.sampled_from([0.0, 0.9, 0.99]), st.sampled_from([0.0, 0.5, 0.95, 1.0]))
def test_returns_over_a_ring_are_those_of_a_plain_loop(history, gamma, td_lambda):
    memory, kept = history.play()
    expected = [number for piece in pieces_of(kept) for number in slow_returns(piece, gamma, td_lambda)]
    assert_returns(memory, expected, gamma, td_lambda)


@LAWS
@given(histories())
def test_with_lambda_zero_they_look_one_step_ahead(history):
    memory, kept = history.play()
    expected = [
        float(np.float32(step.reward)) + 0.9 * (0.0 if step.end == End.TERMINATION else value(step.next_observation))
        for steps in kept
        for step in steps
    ]
    assert_returns(memory, expected, 0.9, 0.0)


@LAWS
@given(histories())
def test_with_lambda_one_they_are_discounted_sums_to_the_paths_end(history):
    memory, kept = history.play()
    expected = []
    for piece in pieces_of(kept):
        rewards = [float(np.float32(step.reward)) for step in piece]
        beyond = 0.0 if piece[-1].end == End.TERMINATION else value(piece[-1].next_observation)
        for t in range(len(piece)):
            sums = sum(0.9**k * reward for k, reward in enumerate(rewards[t:]))
            expected.append(sums + 0.9 ** (len(piece) - t) * beyond)
    assert_returns(memory, expected, 0.9, 1.0)


def test_a_memory_of_many_chunks_is_evaluated_as_one(monkeypatch):
    memory, _ = History(9, [[GOES_ON, End.TIMEOUT]] * 4 + [[End.TERMINATION, GOES_ON]] * 3, [False] * 7).play()
    whole = returns_of(memory, 0.9, 0.8)
    monkeypatch.setattr("sb3_tare.awr.evaluation.CHUNK", 3)
    torch.testing.assert_close(returns_of(memory, 0.9, 0.8), whole, rtol=1e-15, atol=1e-15)


# What a run puts there


class Numbered(Toy):
    """Observes how often the environment has stepped, episode after episode."""

    def __init__(self, horizon: int = 20, p_end: float = 0.0, first: float = 0.0) -> None:
        super().__init__(spaces.Box(-np.inf, np.inf, (1,), dtype=np.float32), horizon=horizon, p_end=p_end)
        self.number = first

    def _observe(self) -> np.ndarray:
        self.number += 1.0
        return np.array([self.number], dtype=np.float32)


def test_a_run_fills_the_memory_with_whole_episodes_in_time_order():
    model = awr(vec_env(2, lambda: Numbered(horizon=10)), buffer_size=512).learn(2 * 64)
    paths, memory = model.replay_buffer.paths(), model.replay_buffer
    assert paths.episodes.lengths.tolist() == [10, 10, 10, 10, 10, 10, 4] * 2
    assert paths.episodes.ends.tolist() == ([End.TIMEOUT] * 6 + [End.CUT]) * 2
    observed = memory.observations_at(paths.rows).flatten().numpy()
    followed = memory.next_observations_at(paths.rows).flatten().numpy()
    np.testing.assert_array_equal(followed - observed, 1.0)  # terminal observations too, and not the reset ones


def test_true_ends_are_told_from_time_limits():
    model = awr(vec_env(2, lambda: Toy(horizon=15, p_end=0.1)), buffer_size=512).learn(256)
    episodes = model.replay_buffer.paths().episodes
    for length, end in zip(episodes.lengths.tolist(), episodes.ends.tolist(), strict=True):
        assert length == 15 if end == End.TIMEOUT else length <= 15
    assert set(episodes.ends.tolist()) == set(End)


def test_what_was_evicted_leaves_times_and_ends_of_the_rest_alone():
    model = awr(vec_env(1, lambda: Toy(horizon=50)), buffer_size=100).learn(3 * 64)
    paths = model.replay_buffer.paths()  # steps 92 to 191
    assert paths.episodes.lengths.tolist() == [8, 50, 42]
    assert paths.episodes.first_times.tolist() == [42, 0, 0]


def test_an_episode_counts_on_from_one_iteration_and_one_call_to_the_next():
    model = awr(vec_env(1, lambda: Toy(horizon=1000))).learn(64).learn(64, reset_num_timesteps=False)
    episodes = model.replay_buffer.paths().episodes
    assert (episodes.lengths.tolist(), episodes.first_times.tolist()) == ([128], [0])


def test_a_call_of_learn_that_resets_the_environment_cuts_the_path():
    model = awr(vec_env(1, lambda: Numbered(horizon=1000))).learn(64).learn(64)
    episodes = model.replay_buffer.paths().episodes
    assert episodes.lengths.tolist() == [64, 64]
    assert episodes.first_times.tolist() == [0, 0]
    assert episodes.ends.tolist() == [End.CUT, End.CUT]


def test_a_run_that_a_callback_stopped_early_learns_from_what_it_had_collected_when_it_goes_on():
    model = awr()
    model.learn(256, callback=Watch(step=lambda watch: watch.num_timesteps < 30))
    assert (model.replay_buffer.n_new, model._n_updates) == (29, 0)  # SB3 drops the step that the callback refused
    model.learn(64, reset_num_timesteps=False)
    assert (model.replay_buffer.n_new, model._n_updates) == (0, 1)


IMAGE = spaces.Box(0, 255, (3, 36, 36), dtype=np.uint8)
NAMED = spaces.Dict({"camera": IMAGE, "body": OBSERVATION})


def test_dictionaries_of_observations_are_paths_too():
    model = awr(vec_env(2, lambda: Toy(NAMED, horizon=10)), "MultiInputPolicy", buffer_size=64, train_freq=32).learn(256)
    memory = model.replay_buffer
    assert type(memory) is DictPathMemory
    paths = memory.paths()
    assert paths.episodes.n_steps == 64
    assert paths.episodes.first_times.tolist()[:2] == [6, 0]  # of 128 steps of each, 32 are left
    observations = memory.observations_at(paths.rows)
    assert observations["camera"].shape == (64, 3, 36, 36)
    assert observations["body"].shape == (64, 3)
    inner = (paths.episodes.offsets[1:] > 0).numpy()
    followed = memory.next_observations_at(paths.rows)
    for key in NAMED:
        assert torch.equal(followed[key][:-1][inner], observations[key][1:][inner])


@pytest.mark.parametrize("observation_space", [OBSERVATION, IMAGE, spaces.Discrete(4), spaces.MultiBinary(3)], ids=str)
def test_any_observation_follows_the_one_before(observation_space):
    memory = (
        awr(vec_env(2, lambda: Toy(observation_space, horizon=10)), buffer_size=64, train_freq=32).learn(128).replay_buffer
    )
    paths = memory.paths()
    inner = (paths.episodes.offsets[1:] > 0).numpy()
    observed, followed = memory.observations_at(paths.rows), memory.next_observations_at(paths.rows)
    assert torch.equal(followed[:-1][inner], observed[1:][inner])

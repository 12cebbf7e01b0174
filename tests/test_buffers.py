"""A rollout buffer that is narrowed to chosen rows serves them alone, and widened again it is what it was."""

import copy

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib.common.maskable.buffers import MaskableDictRolloutBuffer, MaskableRolloutBuffer
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from toys import BOX, OBSERVATION

from sb3_tare.hosts.buffers import flat_rows, narrow, relabel, widen

N_STEPS, N_ENVS = 5, 3
N_ROWS = N_STEPS * N_ENVS
DICT = spaces.Dict({"vector": OBSERVATION, "grid": spaces.Box(0.0, 1.0, (2, 2))})
KINDS = [
    (RolloutBuffer, OBSERVATION, BOX),
    (RolloutBuffer, OBSERVATION, spaces.Discrete(4)),
    (RolloutBuffer, spaces.Box(0, 255, (1, 4, 4), dtype=np.uint8), spaces.MultiDiscrete([2, 3])),
    (DictRolloutBuffer, DICT, BOX),
    (MaskableRolloutBuffer, OBSERVATION, spaces.Discrete(4)),
    (MaskableDictRolloutBuffer, DICT, spaces.MultiBinary(2)),
]
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: f"{kind[0].__name__}-{type(kind[2]).__name__}")
ROWS = np.array([0, 1, 4, 7, 14])


def full_buffer(kind=KINDS[0], n_steps=N_STEPS, n_envs=N_ENVS):
    """A buffer as ``collect_rollouts`` leaves it; each row's log-probability is its number ``env * T + t``."""
    buffer_class, observation_space, action_space = kind
    buffer = buffer_class(n_steps, observation_space, action_space, device="cpu", n_envs=n_envs)
    generator = np.random.default_rng(0)
    masks = {}
    for step in range(n_steps):

        def observe(space):
            return generator.integers(0, 2, size=(n_envs, *space.shape)).astype(space.dtype)

        if isinstance(observation_space, spaces.Dict):
            observation = {key: observe(space) for key, space in observation_space.items()}
        else:
            observation = observe(observation_space)
        if isinstance(buffer, (MaskableRolloutBuffer, MaskableDictRolloutBuffer)):
            masks = {"action_masks": generator.integers(0, 2, size=(n_envs, buffer.mask_dims))}
        buffer.add(
            observation,
            generator.integers(0, 2, size=(n_envs, buffer.action_dim)),
            generator.normal(size=n_envs),
            generator.integers(0, 2, size=n_envs),
            torch.as_tensor(generator.normal(size=n_envs)),
            torch.as_tensor(np.arange(n_envs) * n_steps + step),
            **masks,
        )
    buffer.compute_returns_and_advantage(torch.zeros(n_envs), np.zeros(n_envs))
    return buffer


def narrowed(buffer, rows=ROWS):
    """``buffer``, narrowed, with advantages and returns that tell the rows."""
    narrow(buffer, rows, 100.0 + rows.astype(np.float32), 200.0 + rows.astype(np.float32))
    return buffer


def contents(buffer):
    """All that a buffer holds, copied."""
    return copy.deepcopy({**vars(buffer), "class": type(buffer)})


def assert_equal(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        if isinstance(value, np.ndarray):
            np.testing.assert_array_equal(value, second[name], err_msg=name)
            assert value.dtype == second[name].dtype
        elif isinstance(value, dict):
            assert_equal(value, second[name])
        else:
            assert value == second[name], name


def samples(buffer, batch_size=None):
    """What ``get`` serves, by field, in the order of its rows' numbers."""
    batches = list(buffer.get(batch_size))
    order = torch.cat([batch.old_log_prob for batch in batches]).argsort()

    def join(parts):
        if isinstance(parts[0], dict):
            return {key: join([part[key] for part in parts]) for key in parts[0]}
        return torch.cat(parts)[order]

    return {name: join([getattr(batch, name) for batch in batches]) for name in batches[0]._fields}


# Narrow


@every_kind
@pytest.mark.parametrize("batch_size", [None, 2])
def test_a_narrowed_buffer_serves_the_chosen_rows_once_each(kind, batch_size):
    whole = samples(full_buffer(kind))
    part = samples(narrowed(full_buffer(kind)), batch_size)
    assert part.keys() == whole.keys()
    np.testing.assert_array_equal(part["old_log_prob"], ROWS)
    for name in whole.keys() - {"advantages", "returns"}:
        fields = whole[name].items() if isinstance(whole[name], dict) else [(None, whole[name])]
        for key, values in fields:
            served = part[name] if key is None else part[name][key]
            assert torch.equal(served, values[ROWS]), name
            assert served.dtype == values.dtype


@every_kind
def test_it_serves_the_advantages_and_returns_that_it_was_given(kind):
    part = samples(narrowed(full_buffer(kind)))
    np.testing.assert_array_equal(part["advantages"], 100.0 + ROWS)
    np.testing.assert_array_equal(part["returns"], 200.0 + ROWS)


def test_it_is_one_environments_rollout_to_whoever_looks():
    buffer = narrowed(full_buffer())
    assert isinstance(buffer, RolloutBuffer)
    assert (buffer.buffer_size, buffer.n_envs, buffer.pos, buffer.full) == (5, 1, 5, True)
    assert buffer.size() == 5
    for name in ("rewards", "values", "log_probs", "advantages", "returns", "episode_starts"):
        assert getattr(buffer, name).shape == (5, 1), name


def test_narrowing_to_all_rows_changes_nothing_that_is_served():
    buffer = full_buffer()
    whole = samples(full_buffer())
    narrow(buffer, np.arange(N_ROWS), flat_rows(buffer.advantages), flat_rows(buffer.returns))
    part = samples(buffer)
    assert all(torch.equal(whole[name], part[name]) for name in whole)


def test_narrowing_to_all_rows_leaves_the_order_of_the_mini_batches():
    served = []
    for narrow_first in (False, True):
        buffer = full_buffer()
        if narrow_first:
            narrow(buffer, np.arange(N_ROWS), flat_rows(buffer.advantages), flat_rows(buffer.returns))
        np.random.seed(0)  # noqa: NPY002 (SB3 shuffles with the global generator)
        served.append([batch.old_log_prob.tolist() for batch in buffer.get(4)])
    assert served[0] == served[1]


def test_flat_rows_are_in_the_order_of_sb3():
    array = np.arange(N_ROWS * 2).reshape(N_STEPS, N_ENVS, 2)
    np.testing.assert_array_equal(flat_rows(array), RolloutBuffer.swap_and_flatten(array))
    np.testing.assert_array_equal(flat_rows(array[..., 0]), RolloutBuffer.swap_and_flatten(array[..., 0]).ravel())


def test_an_array_of_another_shape_is_left_alone():
    buffer = full_buffer()
    buffer.weights = np.arange(7.0)
    assert narrowed(buffer).weights is buffer.weights
    assert len(buffer.weights) == 7


# Widen


@every_kind
@pytest.mark.parametrize("consumed", [False, True])
def test_widening_undoes_narrowing(kind, consumed):
    buffer = full_buffer(kind)
    before = contents(buffer)
    narrowed(buffer)
    if consumed:
        list(buffer.get(2))
    widen(buffer)
    assert_equal(before, contents(buffer))


@every_kind
def test_widening_a_buffer_that_is_not_narrow_changes_nothing(kind):
    buffer = full_buffer(kind)
    before = contents(buffer)
    widen(buffer)
    assert_equal(before, contents(buffer))
    widen(narrowed(buffer))
    widen(buffer)
    assert_equal(before, contents(buffer))


@every_kind
def test_a_reset_gives_the_buffer_its_class_and_sizes_back(kind):
    buffer, fresh = narrowed(full_buffer(kind)), full_buffer(kind)
    buffer.reset()
    fresh.reset()
    assert type(buffer) is kind[0]
    assert_equal(contents(fresh), contents(buffer))


def test_a_widened_buffer_can_be_narrowed_to_other_rows():
    buffer, other_rows = full_buffer(), np.array([2, 3, 5])
    list(narrowed(buffer).get(2))
    widen(buffer)
    np.testing.assert_array_equal(samples(narrowed(buffer, other_rows))["old_log_prob"], other_rows)


def test_a_widened_buffer_fills_again():
    buffer = narrowed(full_buffer())
    buffer.reset()
    assert (buffer.pos, buffer.full) == (0, False)
    for _ in range(N_STEPS):
        ones = np.ones(N_ENVS)
        buffer.add(np.ones((N_ENVS, 3)), np.ones((N_ENVS, 2)), ones, ones, torch.ones(N_ENVS), torch.ones(N_ENVS))
    assert buffer.full


# Mini-batches


@pytest.mark.parametrize("n_rows", range(2, 14))
@pytest.mark.parametrize("batch_size", range(2, 14))
def test_no_part_has_a_mini_batch_of_one_row(n_rows, batch_size):
    sizes = [len(batch.advantages) for batch in narrowed(full_buffer(), np.arange(n_rows)).get(batch_size)]
    assert sum(sizes) == n_rows
    assert min(sizes) > 1
    if n_rows % batch_size != 1:
        assert max(sizes) == min(batch_size, n_rows)


def test_a_mini_batch_of_one_row_that_the_user_asked_for_is_served():
    assert [len(batch.advantages) for batch in narrowed(full_buffer()).get(1)] == [1] * len(ROWS)


def test_a_whole_rollout_keeps_the_users_mini_batches():
    buffer = narrowed(full_buffer(), np.arange(N_ROWS))
    assert [len(batch.advantages) for batch in buffer.get(7)] == [7, 7, 1]


# Between passes


def test_between_two_passes_and_only_there_it_calls_back():
    buffer, events = full_buffer(), []
    narrow(buffer, ROWS, np.zeros(5), np.zeros(5), lambda: events.append("between"))
    for _ in range(3):
        events.extend(len(batch.advantages) for batch in buffer.get(3))
    assert events == [3, 2, "between", 3, 2, "between", 3, 2]


@every_kind
def test_relabelled_between_two_passes_it_serves_the_new_advantages_and_returns(kind):
    buffer = full_buffer(kind)
    numbers = ROWS.astype(np.float32)
    narrow(buffer, ROWS, numbers, numbers, lambda: relabel(buffer, 300.0 + numbers, 400.0 + numbers))
    first, second = samples(buffer, 2), samples(buffer, 2)
    np.testing.assert_array_equal(first["advantages"], numbers)
    np.testing.assert_array_equal(second["advantages"], 300.0 + numbers)
    np.testing.assert_array_equal(second["returns"], 400.0 + numbers)
    for name in first.keys() - {"advantages", "returns"}:
        fields = first[name] if isinstance(first[name], dict) else {None: first[name]}
        assert all(torch.equal(value, second[name] if key is None else second[name][key]) for key, value in fields.items())


def test_relabelling_is_undone_by_widening():
    buffer = full_buffer()
    before = contents(buffer)
    narrowed(buffer)
    relabel(buffer, np.zeros(5), np.zeros(5))
    widen(buffer)
    assert_equal(before, contents(buffer))

"""The cost of large actions, solved from totals of whole episodes alone."""

import io
import math

import numpy as np
import pytest
import torch
from builders import generator
from gymnasium import spaces

from sb3_tare.rewards.action_cost import MAX_OBSERVATION_DIM, ActionCost, action_cost_for
from sb3_tare.rewards.open_episodes import FinishedEpisodes

DIM = 3


def episodes_paid(cost, size, seed, n_episodes=20, longest=60, rate=0.0, n_actions=4, state_weight=1.0, noise=0.0):
    """Random episodes of a policy that acts with deviation ``size`` and earns ``rate`` a step beside what states pay."""
    draws = generator(seed)
    lengths = torch.randint(longest // 2, longest + 1, (n_episodes,), generator=draws)
    n = int(lengths.sum())
    states = torch.randn(n, DIM, generator=draws)
    actions = size * torch.randn(n, n_actions, generator=draws)
    rewards = cost * actions.square().sum(1) + state_weight * states[:, 0] + rate + noise * torch.randn(n, generator=draws)
    totals = FinishedEpisodes(states, actions, lengths, torch.zeros(0)).sums(rewards)
    return FinishedEpisodes(states, actions, lengths, totals)


def together(rollouts):
    """All episodes as if they had ended in one rollout."""
    names = ("states", "actions", "lengths", "totals")
    return FinishedEpisodes(*(torch.cat([getattr(each, name) for each in rollouts]) for name in names))


def cost_of(rollouts):
    cost = ActionCost(DIM)
    for finished in rollouts:
        cost.add(finished, finished.states)
        cost.close()
    return cost


@pytest.mark.parametrize("true_cost", [-0.5, 0.2])
def test_a_known_cost_of_actions_is_recovered_from_totals(true_cost):
    estimate = cost_of([episodes_paid(true_cost, 1.0, seed, rate=-1.0) for seed in range(10)]).estimate()
    assert estimate.coefficient == pytest.approx(true_cost, abs=0.01)
    assert abs(estimate.t_value) > 30


def confounded(true_cost):
    """Later policies act larger and earn more, but not because they do: as they learned to run."""
    return [episodes_paid(true_cost, 0.3 + 0.05 * index, seed=index, rate=0.2 * index) for index in range(15)]


@pytest.mark.parametrize("true_cost", [0.0, -0.1])
def test_better_policies_that_act_larger_do_not_make_large_actions_look_good(true_cost):
    rollouts = confounded(true_cost)
    assert cost_of(rollouts).estimate().coefficient == pytest.approx(true_cost, abs=0.02)
    naive = cost_of([together(rollouts)]).estimate()  # as if one policy had done it all: no fixed effects
    assert naive.coefficient > 0.2
    assert naive.t_value > 5


def test_a_coefficient_is_that_of_a_dense_regression_with_dummies_for_rollouts():
    """Ordinary least squares on all columns, with steps a rollout as further ones; the ridge is small beside the data."""
    rollouts = [episodes_paid(-0.5, 1.0, seed, n_episodes=400, noise=1.0) for seed in range(3)]
    sums = [
        torch.cat([each.squared_actions[:, None], each.sums(each.states), each.sums(each.states**2)], 1) for each in rollouts
    ]
    lengths = torch.cat([each.lengths for each in rollouts]).double()
    steps = torch.block_diag(*(each.lengths.double()[:, None] for each in rollouts))
    columns = torch.cat([torch.cat(sums), steps], 1) / lengths.sqrt()[:, None]
    totals = torch.cat([each.totals for each in rollouts]) / lengths.sqrt()
    solution, residual, _, _ = np.linalg.lstsq(columns.numpy(), totals.numpy(), rcond=None)
    freedom = len(columns) - columns.shape[1]
    deviation = math.sqrt(residual[0] / freedom * torch.linalg.inv(columns.T @ columns)[0, 0])
    estimate = cost_of(rollouts).estimate()
    assert estimate.coefficient == pytest.approx(solution[0], rel=1e-2)
    assert estimate.t_value == pytest.approx(solution[0] / deviation, rel=0.1)


def test_neither_a_constant_reward_nor_the_order_of_rollouts_changes_the_coefficient():
    rollouts = [episodes_paid(-0.5, 1.0, seed) for seed in range(6)]
    raised = [
        FinishedEpisodes(each.states, each.actions, each.lengths, each.totals + 3.0 * index * each.lengths)
        for index, each in enumerate(rollouts)
    ]
    expected = cost_of(rollouts).estimate()
    np.testing.assert_allclose(cost_of(raised).estimate(), expected, rtol=1e-8)
    np.testing.assert_allclose(cost_of(rollouts[::-1]).estimate(), expected, rtol=1e-10)


@pytest.mark.parametrize("factor", [1e-6, 1e6])
def test_the_coefficient_has_the_unit_of_rewards(factor):
    rollouts = [episodes_paid(-0.5, 1.0, seed) for seed in range(6)]
    scaled = [FinishedEpisodes(each.states, each.actions, each.lengths, factor * each.totals) for each in rollouts]
    ours, theirs = cost_of(rollouts).estimate(), cost_of(scaled).estimate()
    assert theirs.coefficient == pytest.approx(factor * ours.coefficient, rel=1e-8)
    assert theirs.t_value == pytest.approx(ours.t_value, rel=1e-8)


def test_large_means_and_constant_observations_do_no_harm():
    rollouts = []
    for seed in range(8):
        each = episodes_paid(-0.5, 1.0, seed)
        states = torch.cat([each.states[:, :1], each.states[:, 1:2] * 0 + 7.0, each.states[:, 2:] + 1e3], 1)
        rollouts.append(FinishedEpisodes(states, each.actions, each.lengths, each.totals + 1e5 * each.lengths))
    assert cost_of(rollouts).estimate().coefficient == pytest.approx(-0.5, abs=0.02)


def test_what_is_not_certain_is_shrunk():
    rollouts = [episodes_paid(0.0, 1.0, seed, n_episodes=5, state_weight=3.0) for seed in range(5)]
    estimate = cost_of(rollouts).estimate()
    assert abs(estimate.t_value) < 1.0
    assert estimate.coefficient == 0.0


def test_t_values_are_of_the_size_of_one_where_actions_cost_nothing():
    values = []
    for case in range(100):
        rollouts = [episodes_paid(0.0, 1.0, 100 * case + seed, n_episodes=4, noise=1.0) for seed in range(10)]
        values.append(cost_of(rollouts).estimate().t_value)
    assert abs(np.mean(values)) < 3 / math.sqrt(100)
    assert np.std(values) == pytest.approx(1.0, abs=0.25)


def test_an_exact_relation_is_found_and_certain():
    cost = ActionCost(0)
    for seed in range(4):
        cost.add(episodes_paid(-0.5, 1.0, seed, state_weight=0.0))
        cost.close()
    estimate = cost.estimate()
    assert estimate.coefficient == pytest.approx(-0.5, rel=1e-5)
    assert abs(estimate.t_value) > 1e4


DEGENERATE = {
    "nothing": [],
    "too few episodes": [episodes_paid(-0.5, 1.0, 0, n_episodes=9)],
    "one episode a rollout": [episodes_paid(-0.5, 1.0, seed, n_episodes=1) for seed in range(50)],
    "actions of constant size": [
        FinishedEpisodes(each.states, torch.full_like(each.actions, 0.7), each.lengths, each.totals)
        for each in (episodes_paid(-0.5, 1.0, seed) for seed in range(5))
    ],
    "no actions": [episodes_paid(-0.5, 0.0, seed) for seed in range(5)],
    "constant totals": [
        FinishedEpisodes(each.states, each.actions, each.lengths, torch.zeros_like(each.totals))
        for each in (episodes_paid(-0.5, 1.0, seed) for seed in range(5))
    ],
    "one-hot actions": [
        FinishedEpisodes(each.states, torch.eye(4)[each.actions.argmax(1)], each.lengths, each.totals)
        for each in (episodes_paid(-0.5, 1.0, seed) for seed in range(5))
    ],
    "rollouts in which nothing ended": [episodes_paid(-0.5, 1.0, 0, n_episodes=0)] * 30,
}


@pytest.mark.parametrize("case", DEGENERATE)
def test_where_nothing_can_be_said_the_coefficient_is_zero(case):
    assert cost_of(DEGENERATE[case]).estimate() == (0.0, 0.0)


def test_only_actions_of_a_box_have_a_cost():
    assert action_cost_for(spaces.Box(-1, 1, (2,)), 5).observation_dim == 5
    assert action_cost_for(spaces.Box(-1, 1, (2,)), MAX_OBSERVATION_DIM + 1).observation_dim == 0
    for space in (spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(4)):
        assert action_cost_for(space, 5) is None


def test_a_group_may_come_in_pieces():
    groups = [[episodes_paid(-0.5, 1.0, 10 * seed + piece, n_episodes=1) for piece in range(8)] for seed in range(6)]
    cost = ActionCost(DIM)
    for pieces in groups:
        for finished in pieces:
            cost.add(finished, finished.states)
        assert cost.close()
        assert not cost.close()
    whole = cost_of(list(map(together, groups))).estimate()
    assert cost.estimate() == pytest.approx(whole, rel=1e-9)
    assert whole.coefficient == pytest.approx(-0.5, abs=0.02)


def test_a_resumed_action_cost_goes_on_bit_for_bit():
    rollouts = [episodes_paid(-0.5, 1.0, seed) for seed in range(6)]
    half = cost_of(rollouts[:2])
    half.add(rollouts[2], rollouts[2].states)
    file = io.BytesIO()
    torch.save(half.state_dict(), file)
    file.seek(0)
    resumed = ActionCost(DIM)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for each in rollouts[3:]:
        resumed.close()
        resumed.add(each, each.states)
    resumed.close()
    assert resumed.estimate() == cost_of(rollouts).estimate()
    with pytest.raises(ValueError, match="observation_dim is 2, the saved action cost has 3"):
        ActionCost(2).load_state_dict(half.state_dict())


def test_observations_that_do_not_fit_are_refused():
    finished = episodes_paid(-0.5, 1.0, 0)
    with pytest.raises(ValueError, match="observations must have shape"):
        ActionCost(2).add(finished, finished.states)
    with pytest.raises(ValueError, match="observation_dim must be at most 2000, got 21168: 0 leaves the observation out"):
        ActionCost(3 * 84 * 84)

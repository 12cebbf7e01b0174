"""Returns of whole episodes decomposed into rewards of steps: laws of the losses, and a reward that is recovered."""

import io
import itertools
import math

import pytest
import torch
from builders import LAWS, episodes_of, generator, normal
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sb3_tare.rewards import decomposition as decomposition_module
from sb3_tare.rewards.decomposition import (
    LOSSES,
    Decomposition,
    DecompositionSettings,
    penalised_losses,
    r_squared,
    sampled_losses,
    unbiased_losses,
    unit_of,
)
from sb3_tare.rewards.episode_memory import EpisodeMemory


def expected_loss(losses, rewards, total, n_steps, penalty=0.0):
    """Mean of the loss over all draws of ``n_steps`` of an episode's rewards ``[L]``, with replacement."""
    draws = torch.tensor(list(itertools.product(range(len(rewards)), repeat=n_steps)))
    lengths = torch.full((len(draws),), float(len(rewards)), dtype=torch.float64)
    return losses(rewards[draws], lengths, torch.full_like(lengths, total), penalty).mean()


def squared_residual(rewards, total):
    return (rewards.sum() - total).square() / len(rewards)


EPISODE = st.tuples(st.integers(1, 4), st.integers(0, 1000), st.floats(-3, 3))


@LAWS
@given(EPISODE, st.integers(1, 4))
def test_drawing_steps_adds_their_variance_over_the_number_drawn(episode, n_steps):
    length, seed, total = episode
    rewards = normal(length, seed=seed)
    shrinkage = length / n_steps * rewards.var(correction=0)
    torch.testing.assert_close(
        expected_loss(sampled_losses, rewards, total, n_steps), squared_residual(rewards, total) + shrinkage
    )


@LAWS
@given(EPISODE, st.integers(2, 4), st.floats(0, 5))
def test_a_penalty_is_what_the_variance_costs_in_all(episode, n_steps, penalty):
    length, seed, total = episode
    rewards = normal(length, seed=seed)
    shrinkage = max(penalty, length / n_steps) * rewards.var(correction=0)
    torch.testing.assert_close(
        expected_loss(penalised_losses, rewards, total, n_steps, penalty), squared_residual(rewards, total) + shrinkage
    )


@LAWS
@given(EPISODE, st.sampled_from([2, 4]))
def test_two_halves_are_unbiased(episode, n_steps):
    length, seed, total = episode
    rewards = normal(length, seed=seed)
    torch.testing.assert_close(expected_loss(unbiased_losses, rewards, total, n_steps), squared_residual(rewards, total))


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_have_the_same_expectation(name):
    rewards = normal(3, seed=0).requires_grad_()
    expected = {"steps": 3 / 2, "penalty": 2.5, "none": 0.0}[name] * rewards.var(correction=0) + squared_residual(rewards, 1.3)
    (ours,) = torch.autograd.grad(expected_loss(LOSSES[name], rewards, 1.3, 2, 2.5), rewards)
    (theirs,) = torch.autograd.grad(expected, rewards)
    torch.testing.assert_close(ours, theirs)


def test_with_every_step_the_loss_is_the_squared_residual():
    rewards = normal(5, 12, seed=1)
    lengths, totals = torch.full((5,), 12.0, dtype=torch.float64), normal(5, seed=2)
    expected = (rewards.sum(1) - totals).square() / 12
    torch.testing.assert_close(sampled_losses(rewards, lengths, totals), expected)
    torch.testing.assert_close(penalised_losses(rewards, lengths, totals, 1.0), expected)  # L / m = 1 is paid already
    twice = torch.cat([rewards, rewards], dim=1)
    torch.testing.assert_close(unbiased_losses(twice, lengths, totals), expected)


@pytest.mark.parametrize("name", LOSSES)
def test_a_constant_moves_with_the_total_and_the_order_of_steps_within_a_half_does_not_matter(name):
    rewards, lengths, totals = normal(6, 8, seed=3), 5.0 + torch.arange(6).double(), normal(6, seed=4)
    losses = LOSSES[name](rewards, lengths, totals, 2.0)
    torch.testing.assert_close(LOSSES[name](rewards + 0.7, lengths, totals + 0.7 * lengths, 2.0), losses)
    order = torch.tensor([3, 1, 0, 2, 7, 6, 5, 4])
    torch.testing.assert_close(LOSSES[name](rewards[:, order], lengths, totals, 2.0), losses)
    torch.testing.assert_close(LOSSES[name](-3 * rewards, lengths, -3 * totals, 2.0), 9 * losses)


def test_the_unit_is_that_of_a_step():
    lengths = torch.randint(5, 50, (20_000,), generator=generator(0))
    totals = 3.0 * lengths.sqrt() * normal(20_000, seed=1)
    assert unit_of(totals, lengths) == pytest.approx(3.0, rel=0.02)
    assert unit_of(torch.zeros(0), torch.zeros(0)) == 0.0


def test_r_squared_is_that_of_the_totals():
    totals = normal(100, seed=0)
    assert r_squared(totals, totals) == 1.0
    assert r_squared(totals.mean().expand(100), totals) == pytest.approx(0.0)
    assert r_squared(totals + totals.std(correction=0), totals) == pytest.approx(0.0)
    assert math.isnan(r_squared(torch.zeros(2), torch.ones(2)))
    assert math.isnan(r_squared(torch.zeros(0), torch.zeros(0)))


# Fits

WEIGHTS = torch.tensor([1.0, -0.5, 0.3])
LENGTHS = [40, 25, 60, 33, 50, 41]


def world(n_rollouts, cost=0.0, seed=0, factor=1.0):
    """A memory of random episodes paid at their end, and the true rewards of some of its steps."""
    memory, draws = EpisodeMemory(generator(seed)), generator(seed + 1)
    for _ in range(n_rollouts):
        episodes = episodes_of(LENGTHS)
        # what persists in an episode tells one from another; noise of single steps averages out
        states = torch.randn(len(LENGTHS), 2, generator=draws)[episodes.pieces] + torch.randn(
            episodes.n_steps, 2, generator=draws
        )
        actions = torch.randn(episodes.n_steps, 1, generator=draws)
        rewards = factor * (torch.cat([states, actions], 1) @ WEIGHTS + cost * actions.square().sum(1))
        paid = torch.zeros(episodes.n_steps, dtype=torch.float64)
        ends = episodes.begins + episodes.lengths - 1
        paid[ends] = torch.zeros(len(LENGTHS), dtype=torch.float64).index_add(0, episodes.pieces, rewards.double())
        finished = memory.add(episodes, torch.zeros(len(LENGTHS)).long(), states, actions, paid)
    return memory, finished, rewards


def network_of(seed):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 32), nn.Tanh(), nn.Linear(32, 1))


def decomposition_of(network, **settings):
    def rewards_of(states, actions):
        return network(torch.cat([states, actions], 1)).squeeze(1)

    return Decomposition(rewards_of, network.parameters(), DecompositionSettings(**settings))


def correlation(ours, theirs):
    return float(torch.corrcoef(torch.stack([ours, theirs]))[0, 1])


@pytest.mark.parametrize("shrinkage", LOSSES)
def test_a_linear_reward_is_recovered_from_totals(shrinkage):
    memory, finished, rewards = world(60)
    decomposition = decomposition_of(network_of(0), shrinkage=shrinkage, shrinkage_penalty=1.0, decomposition_steps=32)
    assert r_squared(decomposition.predicted_totals(finished), finished.totals) <= 0.0
    first = decomposition.fit(memory, generator(1))
    for seed in range(2, 12):
        last = decomposition.fit(memory, generator(seed))
    assert last < 0.1 * first
    _, fresh, rewards = world(1, seed=50)
    assert correlation(decomposition.rewards(fresh.states, fresh.actions), rewards) > 0.9
    assert r_squared(decomposition.predicted_totals(fresh), fresh.totals) > 0.9


def test_fewer_steps_shrink_rewards_towards_their_episodes_mean():
    """Half of a state's variance lies within an episode: with one step the weight of states is about half of the true one."""
    memory, finished, _ = world(60)

    def weight(n_steps):
        decomposition = decomposition_of(network_of(0), decomposition_steps=n_steps)
        for seed in range(6):
            decomposition.fit(memory, generator(seed))
        rewards = decomposition.rewards(finished.states, finished.actions)
        return float(torch.linalg.lstsq(finished.states, rewards[:, None]).solution[0] / WEIGHTS[0])

    assert weight(1) == pytest.approx(0.5, abs=0.15)
    assert weight(64) > 0.85


def test_a_known_cost_of_actions_is_taken_off_the_totals_and_given_back_to_the_steps():
    memory, finished, rewards = world(60, cost=-2.0)
    with_cost, plain = (decomposition_of(network_of(0)) for _ in range(2))
    for seed in range(8):
        with_cost.fit(memory, generator(seed), action_cost=-2.0)
        plain.fit(memory, generator(seed))
    exact = correlation(with_cost.rewards(finished.states, finished.actions, -2.0), rewards)
    assert exact > 0.95
    assert correlation(plain.rewards(finished.states, finished.actions), rewards) < exact - 0.1
    torch.testing.assert_close(
        with_cost.predicted_totals(finished, -2.0), with_cost.predicted_totals(finished) - 2.0 * finished.squared_actions
    )


def test_the_unit_of_rewards_does_not_matter():
    small, large = (world(10, factor=factor) for factor in (1.0, 1024.0))
    ours, theirs = (decomposition_of(network_of(0), decomposition_updates=5) for _ in range(2))
    losses = ours.fit(small[0], generator(0)), theirs.fit(large[0], generator(0))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert theirs.unit == pytest.approx(1024 * ours.unit)


def test_the_unit_stays_for_some_fits(monkeypatch):
    monkeypatch.setattr(decomposition_module, "UNIT_EVERY", 3)
    decomposition = decomposition_of(network_of(0), decomposition_updates=1)
    units = []
    for n_rollouts in range(1, 7):
        decomposition.fit(world(n_rollouts)[0], generator(0))
        units.append(decomposition.unit)
    assert units[0] == units[1] == units[2] != units[3]
    assert units[3] == units[4] == units[5] == unit_of(*(getattr(world(4)[0], name) for name in ("totals", "lengths")))


@pytest.mark.parametrize("n_rollouts", [0, 2])
def test_without_episodes_or_payments_nothing_is_fitted(n_rollouts):
    network = network_of(0)
    decomposition = decomposition_of(network)
    before = [parameter.clone() for parameter in network.parameters()]
    memory = world(n_rollouts, factor=0.0)[0] if n_rollouts else EpisodeMemory(generator(0))
    assert decomposition.fit(memory, generator(0)) is None
    assert decomposition.unit == 0.0
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(before, network.parameters(), strict=True))
    assert decomposition.fit(world(2)[0], generator(0)) > 0.0  # the first payment is not waited for


def test_a_resumed_fit_goes_on_bit_for_bit():
    memory = world(5)[0]
    networks = [network_of(seed) for seed in (0, 1)]
    whole, resumed = (decomposition_of(network, decomposition_updates=7) for network in networks)
    whole.fit(memory, generator(0))
    file = io.BytesIO()
    torch.save({"decomposition": whole.state_dict(), "network": networks[0].state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    networks[1].load_state_dict(state["network"])
    resumed.load_state_dict(state["decomposition"])
    assert whole.fit(memory, generator(3)) == resumed.fit(memory, generator(3))
    assert all(torch.equal(*pair) for pair in zip(*(network.parameters() for network in networks), strict=True))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"shrinkage": "much"}, "shrinkage must be one of 'steps', 'penalty', 'none', got 'much'"),
        ({"decomposition_steps": 0}, "decomposition_steps must be a whole number of at least 1 with shrinkage='steps', got 0"),
        (
            {"decomposition_steps": 1, "shrinkage": "penalty"},
            "decomposition_steps must be a whole number of at least 2 with shrinkage='penalty', got 1",
        ),
        ({"decomposition_steps": 7, "shrinkage": "none"}, "decomposition_steps must be even with shrinkage='none'"),
        ({"decomposition_updates": 0}, "decomposition_updates must be a whole number"),
        ({"decomposition_learning_rate": 0.0}, "decomposition_learning_rate must be a number above 0"),
        ({"shrinkage_penalty": -1.0}, "shrinkage_penalty must be a number at least 0"),
    ],
)
def test_settings_out_of_bounds_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        DecompositionSettings(**wrong)

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
import torch
from builders import LAWS, episodes_of, layouts, normal, rows_of
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.buffers import RolloutBuffer
from torch import Tensor

from sb3_tare.advantages import sums
from sb3_tare.advantages.generalised import generalised_advantages, standardise
from sb3_tare.advantages.sums import discounted_sum, discounted_sum_by_doubling
from sb3_tare.data.cutting import cut_rollout
from sb3_tare.data.episodes import Episodes
from sb3_tare.data.rollout import Baseline

DISCOUNTS = st.sampled_from([0.0, 0.3, 0.95, 1.0])
SEEDS = st.integers(0, 1000)


def dense_map(episodes: Episodes, discount: float) -> Tensor:
    """The matrix of the discounted sum, entry by entry."""
    matrix = torch.zeros(episodes.n_steps, episodes.n_steps, dtype=torch.float64)
    for piece in range(len(episodes)):
        rows = rows_of(episodes, piece)
        for i, row in enumerate(rows):
            for j in range(i, len(rows)):
                matrix[row, rows[j]] = discount ** (j - i)
    return matrix


# Discounted sums


@LAWS
@given(layouts(max_length=20), DISCOUNTS, SEEDS)
def test_a_discounted_sum_is_what_a_plain_loop_sums(episodes, discount, seed):
    deltas = normal(episodes.n_steps, seed=seed)
    expected = torch.zeros_like(deltas)
    for piece in range(len(episodes)):
        following = 0.0
        for row in reversed(rows_of(episodes, piece)):
            following = deltas[row] + discount * following
            expected[row] = following
    torch.testing.assert_close(discounted_sum(deltas, episodes, discount), expected, rtol=1e-13, atol=1e-13)


@LAWS
@given(layouts(), DISCOUNTS, SEEDS)
def test_it_is_linear(episodes, discount, seed):
    u, v = normal(2, episodes.n_steps, seed=seed)
    together = discounted_sum(2.0 * u - 3.0 * v, episodes, discount)
    apart = 2.0 * discounted_sum(u, episodes, discount) - 3.0 * discounted_sum(v, episodes, discount)
    torch.testing.assert_close(together, apart, rtol=1e-12, atol=1e-12)


@LAWS
@given(layouts(max_length=20), DISCOUNTS, SEEDS)
def test_its_gradient_is_its_transpose(episodes, discount, seed):
    u, v = normal(2, episodes.n_steps, seed=seed)
    v.requires_grad_()
    mapped = discounted_sum(v, episodes, discount)
    (gradient,) = torch.autograd.grad(mapped, v, u)
    torch.testing.assert_close(u @ mapped, gradient @ v, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient, dense_map(episodes, discount).T @ u, rtol=1e-12, atol=1e-12)


def test_its_gradient_is_what_finite_differences_say():
    deltas = normal(11, seed=0).requires_grad_()
    episodes = episodes_of([4, 1, 6])
    assert torch.autograd.gradcheck(lambda x: discounted_sum(x, episodes, 0.9), deltas)


def test_what_is_built_on_it_has_the_right_second_derivative():
    episodes, deltas = episodes_of([3, 1, 2]), normal(6, seed=0)
    hessian = torch.autograd.functional.hessian(lambda x: discounted_sum(x, episodes, 0.9).pow(3).sum() / 6, deltas)
    matrix = dense_map(episodes, 0.9)
    torch.testing.assert_close(hessian, matrix.T @ torch.diag(matrix @ deltas) @ matrix)


def test_the_gradient_of_a_plain_sum_is_right_though_its_cotangent_is_one_number_in_memory():
    deltas = normal(7, seed=0).requires_grad_()
    discounted_sum(deltas, episodes_of([4, 3]), 0.5).sum().backward()
    assert deltas.grad.tolist() == [1.0, 1.5, 1.75, 1.875, 1.0, 1.5, 1.75]


@LAWS
@given(layouts(), SEEDS)
def test_without_discount_it_is_the_sum_of_what_is_to_come(episodes, seed):
    deltas = normal(episodes.n_steps, seed=seed)
    expected = torch.cat([piece.flip(0).cumsum(0).flip(0) for piece in deltas.split(episodes.lengths.tolist())])
    torch.testing.assert_close(discounted_sum(deltas, episodes, 1.0), expected)


@LAWS
@given(layouts(), SEEDS)
def test_with_discount_zero_it_changes_nothing(episodes, seed):
    deltas = normal(episodes.n_steps, seed=seed)
    assert torch.equal(discounted_sum(deltas, episodes, 0.0), deltas)


def test_it_writes_neither_to_its_input_nor_to_its_cotangent():
    deltas, cotangent = normal(6, seed=0).requires_grad_(), normal(6, seed=1)
    before = deltas.detach().clone(), cotangent.clone()
    torch.autograd.grad(discounted_sum(deltas, episodes_of([6]), 0.9), deltas, cotangent)
    assert torch.equal(deltas.detach(), before[0])
    assert torch.equal(cotangent, before[1])


def test_one_infinite_delta_stays_in_its_piece():
    deltas = torch.tensor([1.0, 2.0, torch.inf, 1.0, 2.0])
    assert discounted_sum(deltas, episodes_of([2, 1, 2]), 0.5).tolist() == [2.0, 2.0, torch.inf, 2.0, 2.0]


def test_single_precision_stays_single():
    assert discounted_sum(torch.ones(3), episodes_of([3]), 0.9).dtype == torch.float32


@LAWS
@given(layouts(max_length=20), DISCOUNTS, SEEDS, st.sampled_from([torch.float32, torch.float64]))
def test_scans_of_arrays_and_of_numbers_give_the_same_bits(episodes, discount, seed, dtype):
    results = []
    for many in (0, 1_000):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sums, "MANY", many)
            deltas = normal(episodes.n_steps, seed=seed).to(dtype).requires_grad_()
            summed = discounted_sum(deltas, episodes, discount)
            (gradient,) = torch.autograd.grad(summed, deltas, normal(episodes.n_steps, seed=seed + 1).to(dtype))
            results.append((summed.detach(), gradient))
    assert all(map(torch.equal, *results))


@LAWS
@given(layouts(max_length=20), DISCOUNTS, SEEDS)
def test_sums_by_doubling_are_the_same_and_so_are_their_gradients(episodes, discount, seed):
    cotangent = normal(episodes.n_steps, seed=seed + 1)
    results = []
    for kind in (discounted_sum, discounted_sum_by_doubling):
        deltas = normal(episodes.n_steps, seed=seed).requires_grad_()
        summed = kind(deltas, episodes, discount)
        results.append((summed.detach(), *torch.autograd.grad(summed, deltas, cotangent)))
    torch.testing.assert_close(results[1], results[0], rtol=1e-13, atol=1e-13)


def test_by_doubling_one_infinite_delta_stays_in_its_piece():
    deltas = torch.tensor([1.0, 1.0, math.inf, 1.0])
    assert discounted_sum_by_doubling(deltas, episodes_of([2, 1, 1]), 0.5).tolist() == [1.5, 1.0, math.inf, 1.0]


@pytest.mark.parametrize("shape", [(5,), (7,), (6, 1), ()])
def test_deltas_that_have_not_one_entry_a_row_are_refused(shape):
    with pytest.raises(ValueError, match="one entry a row"):
        discounted_sum(torch.zeros(shape), episodes_of([4, 2]), 0.9)


# Generalised advantages


class Collected(NamedTuple):
    """A rollout ``[T, N]`` as a host sees it."""

    rewards: np.ndarray
    values: np.ndarray
    last_values: np.ndarray
    terminal_values: np.ndarray
    """Value of the terminal observation, used at timeouts alone"""
    dones: np.ndarray
    timeouts: np.ndarray

    def episodes(self) -> Episodes:
        flags = torch.from_numpy(self.dones), torch.from_numpy(self.timeouts)
        return cut_rollout(*flags, torch.zeros(self.dones.shape, dtype=torch.int64))

    def next_values(self) -> np.ndarray:
        following = np.concatenate([self.values[1:], self.last_values[None]])
        return np.where(self.dones, 0.0, following).astype(self.values.dtype)


def collect(n_steps: int, n_envs: int, seed: int, dtype: type = np.float64, end_rate: float = 0.3) -> Collected:
    rng = np.random.default_rng(seed)
    dones = rng.random((n_steps, n_envs)) < end_rate
    return Collected(
        rewards=rng.normal(size=(n_steps, n_envs)).astype(dtype),
        values=rng.normal(size=(n_steps, n_envs)).astype(dtype),
        last_values=rng.normal(size=n_envs).astype(dtype),
        terminal_values=rng.normal(size=(n_steps, n_envs)).astype(dtype),
        dones=dones,
        timeouts=dones & (rng.random((n_steps, n_envs)) < 0.5),
    )


def flat(array: np.ndarray) -> Tensor:
    return torch.from_numpy(array.T.reshape(-1).copy())


def baseline_of(rollout: Collected, gamma: float) -> Baseline:
    bootstraps = np.where(rollout.timeouts, gamma * rollout.terminal_values, 0.0)
    return Baseline(flat(rollout.values), flat(rollout.next_values()), flat(bootstraps))


def slow_advantages(rollout: Collected, gamma: float, gae_lambda: float) -> np.ndarray:
    """Sum of all discounted TD errors up to the piece's end, with a loop for each step."""
    n_steps, n_envs = rollout.dones.shape
    advantages = np.zeros((n_steps, n_envs))
    for env in range(n_envs):
        for start in range(n_steps):
            for step in range(start, n_steps):
                if rollout.timeouts[step, env]:
                    following = rollout.terminal_values[step, env]
                elif rollout.dones[step, env]:
                    following = 0.0
                elif step == n_steps - 1:
                    following = rollout.last_values[env]
                else:
                    following = rollout.values[step + 1, env]
                error = rollout.rewards[step, env] + gamma * following - rollout.values[step, env]
                advantages[start, env] += (gamma * gae_lambda) ** (step - start) * error
                if rollout.dones[step, env]:
                    break
    return advantages


@LAWS
@given(st.integers(1, 9), st.integers(1, 3), SEEDS, st.sampled_from([(0.9, 0.8), (0.99, 1.0), (1.0, 0.5), (0.9, 0.0)]))
def test_advantages_are_those_of_plain_loops(n_steps, n_envs, seed, discounts):
    rollout = collect(n_steps, n_envs, seed)
    advantages = generalised_advantages(
        flat(rollout.rewards), baseline_of(rollout, discounts[0]), rollout.episodes(), *discounts
    )
    torch.testing.assert_close(advantages, flat(slow_advantages(rollout, *discounts)), rtol=1e-12, atol=1e-12)


def host_advantages(rollout: Collected, gamma: float, gae_lambda: float) -> tuple[RolloutBuffer, np.ndarray]:
    """Let SB3's buffer do it, as its ``collect_rollouts`` would; also the rewards with bootstrapped values."""
    n_steps, n_envs = rollout.dones.shape
    box = spaces.Box(-1, 1, (1,))
    buffer = RolloutBuffer(n_steps, box, box, gamma=gamma, gae_lambda=gae_lambda, n_envs=n_envs)
    episode_starts = np.ones(n_envs, dtype=bool)
    for step in range(n_steps):
        rewards = rollout.rewards[step].copy()
        for env in np.nonzero(rollout.timeouts[step])[0]:
            rewards[env] += gamma * torch.from_numpy(rollout.terminal_values)[step, env]
        values = torch.from_numpy(rollout.values[step])
        nothing = np.zeros((n_envs, 1))
        buffer.add(nothing, nothing, rewards, episode_starts, values, torch.zeros(n_envs))
        episode_starts = rollout.dones[step]
    buffer.compute_returns_and_advantage(torch.from_numpy(rollout.last_values), rollout.dones[-1])
    return buffer, buffer.advantages


@pytest.mark.parametrize("reward_type", [np.float32, np.float64])
@pytest.mark.parametrize(("n_envs", "gamma", "gae_lambda"), [(1, 0.99, 0.95), (4, 0.99, 0.95), (3, 0.9, 1.0), (2, 1.0, 0.0)])
def test_advantages_are_the_hosts_own_to_the_bit(reward_type, n_envs, gamma, gae_lambda):
    for seed in range(5):
        rollout = collect(150, n_envs, seed, np.float32, end_rate=0.05)
        rollout = rollout._replace(rewards=rollout.rewards.astype(reward_type) * reward_type(0.1))
        buffer, advantages = host_advantages(rollout, gamma, gae_lambda)
        added = buffer.rewards.astype(np.float64) - rollout.rewards.astype(np.float64)
        bootstraps = flat(np.where(rollout.timeouts, added, 0.0))
        baseline = Baseline(flat(rollout.values), flat(rollout.next_values()), bootstraps)
        ours = generalised_advantages(flat(rollout.rewards), baseline, rollout.episodes(), gamma, gae_lambda)
        assert ours.dtype == torch.float32
        assert torch.equal(ours.view(torch.int32), flat(advantages).view(torch.int32))


def test_with_lambda_one_they_are_returns_minus_values():
    rollout, gamma = collect(30, 2, seed=1), 0.9
    ours = generalised_advantages(flat(rollout.rewards), baseline_of(rollout, gamma), rollout.episodes(), gamma, 1.0)
    returns = np.zeros_like(rollout.rewards)
    following = rollout.last_values.copy()
    for step in reversed(range(30)):
        following = np.where(
            rollout.timeouts[step], rollout.terminal_values[step], np.where(rollout.dones[step], 0, following)
        )
        following = returns[step] = rollout.rewards[step] + gamma * following
    torch.testing.assert_close(ours, flat(returns - rollout.values), rtol=1e-12, atol=1e-12)


def test_a_critic_that_knows_the_returns_leaves_no_advantage():
    rollout, gamma = collect(12, 1, seed=2), 0.9
    zero = np.zeros_like(rollout.values)
    returns = slow_advantages(rollout._replace(values=zero, last_values=zero[0], terminal_values=zero), gamma, 1.0)
    perfect = rollout._replace(values=returns, last_values=zero[0], terminal_values=zero)
    for gae_lambda in (0.0, 0.7, 1.0):
        ours = generalised_advantages(
            flat(rollout.rewards), baseline_of(perfect, gamma), rollout.episodes(), gamma, gae_lambda
        )
        torch.testing.assert_close(ours, torch.zeros(12, dtype=torch.float64))


def test_their_gradient_in_the_rewards_is_that_of_the_discounted_sum_and_passes_through_standardisation():
    rollout = collect(6, 2, seed=3)
    episodes, baseline = rollout.episodes(), baseline_of(rollout, 0.9)
    rewards = flat(rollout.rewards).requires_grad_()
    cotangent = normal(12, seed=0)
    (gradient,) = torch.autograd.grad(generalised_advantages(rewards, baseline, episodes, 0.9, 0.8), rewards, cotangent)
    torch.testing.assert_close(gradient, dense_map(episodes, 0.72).T @ cotangent)
    assert torch.autograd.gradcheck(
        lambda x: standardise(generalised_advantages(x, baseline, episodes, 0.9, 0.8)), rewards, rtol=1e-4
    )


# Standardisation


def test_standardised_advantages_have_mean_zero_and_deviation_one():
    advantages = 3.0 + 5.0 * normal(50, seed=0)
    standardised = standardise(advantages)
    assert abs(float(standardised.mean())) < 1e-12
    assert float(standardised.std(unbiased=True)) == pytest.approx(1.0, abs=1e-8)
    torch.testing.assert_close(standardise(7.0 * advantages - 2.0), standardised, rtol=1e-7, atol=1e-7)


def test_standardisation_keeps_order_and_its_gradient_is_blind_to_shift_and_scale():
    advantages = normal(9, seed=1).requires_grad_()
    standardised = standardise(advantages)
    assert torch.equal(standardised.argsort(), advantages.argsort())
    (gradient,) = torch.autograd.grad(standardised @ normal(9, seed=2), advantages)
    assert abs(float(gradient.sum())) < 1e-10
    assert abs(float(gradient @ advantages.detach())) < 1e-6
    assert float(gradient.norm()) > 0.1


def test_advantages_that_are_all_alike_become_zero():
    assert standardise(torch.full((4,), 2.5)).tolist() == [0.0] * 4

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from builders import LAWS, normal
from hypothesis import given
from hypothesis import strategies as st
from sb3_contrib.common.maskable.distributions import (
    MaskableBernoulliDistribution,
    MaskableCategoricalDistribution,
    MaskableMultiCategoricalDistribution,
)
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
    SquashedDiagGaussianDistribution,
    StateDependentNoiseDistribution,
)
from stable_baselines3.common.distributions import kl_divergence as sb3_kl_divergence
from torch import Tensor
from torch.distributions import Beta, Categorical, MixtureSameFamily
from torch.distributions import kl_divergence as torch_kl_divergence

from sb3_tare.policy.distributions import detached, kl_divergence, parameters_of
from sb3_tare.policy.objectives import advantage_weighted, advantage_weights, log_likelihood, surrogate

N = 5
MASKS = torch.tensor([[1, 1, 0, 1, 1], [1, 0, 1, 1, 0], [0, 0, 1, 0, 1], [1, 1, 1, 1, 1], [0, 1, 1, 1, 0]], dtype=torch.bool)


def gaussian(seed: int) -> Any:
    distribution = DiagGaussianDistribution(2)
    return distribution.proba_distribution(normal(N, 2, seed=seed), 0.3 * normal(2, seed=seed + 100))


def squashed(seed: int) -> Any:
    distribution = SquashedDiagGaussianDistribution(2)
    return distribution.proba_distribution(normal(N, 2, seed=seed), 0.3 * normal(2, seed=seed + 100))


def state_dependent(seed: int, squash_output: bool = False) -> Any:
    distribution = StateDependentNoiseDistribution(2, squash_output=squash_output)
    distribution.proba_distribution_net(3, latent_sde_dim=3)
    log_std, latent = 0.3 * normal(3, 2, seed=seed + 100), normal(N, 3, seed=seed + 200)
    return distribution.proba_distribution(normal(N, 2, seed=seed), log_std, latent)


def squashed_state_dependent(seed: int) -> Any:
    return state_dependent(seed, squash_output=True)


def categorical(seed: int) -> Any:
    return CategoricalDistribution(4).proba_distribution(normal(N, 4, seed=seed))


def multi_categorical(seed: int) -> Any:
    return MultiCategoricalDistribution([2, 3]).proba_distribution(normal(N, 5, seed=seed))


def bernoulli(seed: int) -> Any:
    return BernoulliDistribution(3).proba_distribution(normal(N, 3, seed=seed))


def masked_categorical(seed: int) -> Any:
    distribution = MaskableCategoricalDistribution(5).proba_distribution(normal(N, 5, seed=seed))
    distribution.apply_masking(MASKS)
    return distribution


def masked_multi_categorical(seed: int) -> Any:
    distribution = MaskableMultiCategoricalDistribution([2, 3]).proba_distribution(normal(N, 5, seed=seed))
    distribution.apply_masking(MASKS | torch.tensor([True, False, False, False, True]))
    return distribution


def masked_bernoulli(seed: int) -> Any:
    distribution = MaskableBernoulliDistribution(2).proba_distribution(normal(N, 4, seed=seed))
    distribution.apply_masking(MASKS[:, :4] | torch.tensor([True, False, False, True]))
    return distribution


def gaussian_closed_form(p: Any, q: Any) -> Tensor:
    p, q = p.distribution, q.distribution
    squares = (p.scale.square() + (p.loc - q.loc).square()) / (2.0 * q.scale.square())
    return (torch.log(q.scale / p.scale) + squares - 0.5).sum(dim=1)


def sum_over_actions(p: Any, q: Any) -> Tensor:
    """Sum of p log(p / q), action by action, where p is not zero."""
    p_parts = getattr(p, "distributions", None) or p.distribution
    q_parts = getattr(q, "distributions", None) or q.distribution
    if not isinstance(p_parts, list):
        p_parts, q_parts = [p_parts], [q_parts]
    totals = torch.zeros(N, dtype=torch.float64)
    for p_part, q_part in zip(p_parts, q_parts, strict=True):
        for row in range(N):
            for p_a, q_a in zip(p_part.probs[row].tolist(), q_part.probs[row].tolist(), strict=True):
                totals[row] += p_a * math.log(p_a / q_a) if p_a > 0 else 0.0
    return totals


def sum_over_bits(p: Any, q: Any) -> Tensor:
    p, q = p.distribution.probs, q.distribution.probs
    return (p * torch.log(p / q) + (1 - p) * torch.log((1 - p) / (1 - q))).sum(dim=1)


CLOSED_FORMS: dict[Callable[[int], Any], Callable[[Any, Any], Tensor]] = {
    gaussian: gaussian_closed_form,
    squashed: gaussian_closed_form,
    state_dependent: gaussian_closed_form,
    squashed_state_dependent: gaussian_closed_form,
    categorical: sum_over_actions,
    multi_categorical: sum_over_actions,
    bernoulli: sum_over_bits,
    masked_categorical: sum_over_actions,
    masked_multi_categorical: sum_over_actions,
    masked_bernoulli: sum_over_actions,
}
every_distribution = pytest.mark.parametrize("make", CLOSED_FORMS, ids=lambda make: make.__name__)


def leaves_of(distribution: Any) -> list[dict[str, Tensor]]:
    return [
        {name: value.detach().clone().requires_grad_() for name, value in component.items()}
        for component in parameters_of(distribution)
    ]


def values_of(parameters: list[dict[str, Tensor]]) -> list[Tensor]:
    return [value for component in parameters for value in component.values()]


# Kullback-Leibler divergence


@every_distribution
def test_the_divergence_is_the_closed_form_summed_over_dimensions_and_averaged_over_the_batch(make):
    p, q = make(0), make(1)
    expected = CLOSED_FORMS[make](p, q)
    assert expected.shape == (N,)
    for reference in (parameters_of(p), detached(parameters_of(p))):
        torch.testing.assert_close(kl_divergence(reference, parameters_of(q)), expected.mean(), rtol=1e-10, atol=1e-10)
    assert not torch.isclose(kl_divergence(parameters_of(p), parameters_of(q)), CLOSED_FORMS[make](q, p).mean(), rtol=1e-3)


@pytest.mark.parametrize("make", [gaussian, state_dependent, categorical, multi_categorical, bernoulli])
def test_the_divergence_is_the_one_of_sb3(make):
    p, q = make(2), make(3)
    expected = sb3_kl_divergence(p, q)
    expected = expected if expected.dim() == 1 else expected.sum(dim=1)
    torch.testing.assert_close(kl_divergence(parameters_of(p), parameters_of(q)), expected.mean())


@pytest.mark.parametrize("make", [masked_categorical, masked_multi_categorical, masked_bernoulli])
def test_the_divergence_of_masked_distributions_is_the_one_of_torch(make):
    p, q = make(2), make(3)
    p_parts, q_parts = (getattr(x, "distributions", None) or [x.distribution] for x in (p, q))
    expected = sum(torch_kl_divergence(a, b) for a, b in zip(p_parts, q_parts, strict=True)).mean()
    torch.testing.assert_close(kl_divergence(parameters_of(p), parameters_of(q)), expected)


@every_distribution
def test_the_divergence_from_itself_is_zero_and_flat_and_a_minimum(make):
    distribution = make(4)
    leaves = leaves_of(distribution)
    divergence = kl_divergence(detached(parameters_of(distribution)), leaves)
    assert abs(float(divergence.detach())) < 1e-12
    gradients = torch.autograd.grad(divergence, values_of(leaves))
    assert max(float(gradient.abs().max()) for gradient in gradients) < 1e-12
    assert float(kl_divergence(parameters_of(distribution), parameters_of(make(5)))) > 1e-3


@every_distribution
def test_the_gradient_of_the_divergence_is_that_of_finite_differences(make):
    reference, leaves = parameters_of(make(6)), leaves_of(make(7))
    gradients = torch.autograd.grad(kl_divergence(reference, leaves), values_of(leaves))
    directions = [normal(*value.shape, seed=i) for i, value in enumerate(values_of(leaves))]
    slope = sum(float((g * d).sum()) for g, d in zip(gradients, directions, strict=True))

    def moved(step: float) -> float:
        remaining = iter(directions)
        nearby = [{name: value.detach() + step * next(remaining) for name, value in part.items()} for part in leaves]
        return float(kl_divergence(reference, nearby))

    assert slope == pytest.approx((moved(1e-6) - moved(-1e-6)) / 2e-6, rel=1e-6)


def test_actions_that_are_masked_out_have_no_part_in_the_divergence():
    mask, logits, others = torch.tensor([[True, True, False]] * N), normal(N, 3, seed=0), normal(N, 3, seed=1)
    masked = [MaskableCategoricalDistribution(3).proba_distribution(x) for x in (logits, others)]
    for distribution in masked:
        distribution.apply_masking(mask)
    possible = [CategoricalDistribution(2).proba_distribution(x[:, :2]) for x in (logits, others)]
    divergences = [kl_divergence(*(parameters_of(x) for x in pair)) for pair in (masked, possible)]
    torch.testing.assert_close(divergences[0], divergences[1])


@pytest.mark.parametrize(
    ("distribution", "n_outputs"),
    [(CategoricalDistribution(4), 4), (MultiCategoricalDistribution([2, 3]), 5), (BernoulliDistribution(3), 3)],
)
def test_parameters_are_attached_to_the_policys_graph_until_they_are_detached(distribution, n_outputs):
    attached = parameters_of(distribution.proba_distribution(normal(N, n_outputs, seed=0).requires_grad_()))
    assert all(value.requires_grad for value in values_of(attached))
    apart = detached(attached)
    assert not any(value.requires_grad for value in values_of(apart))
    for value, same in zip(values_of(attached), values_of(apart), strict=True):
        assert torch.equal(value, same)


@pytest.mark.parametrize(
    ("make", "n_components"),
    [
        (gaussian, 1),
        (state_dependent, 1),
        (categorical, 1),
        (bernoulli, 1),
        (multi_categorical, 2),
        (masked_categorical, 1),
        (masked_multi_categorical, 2),
        (masked_bernoulli, 2),
    ],
)
def test_there_are_as_many_components_as_independent_distributions(make, n_components):
    assert len(parameters_of(make(0))) == n_components


def test_a_squashed_gaussian_is_the_gaussian_before_squashing():
    for plain, squash in ((gaussian(3), squashed(3)), (state_dependent(3), squashed_state_dependent(3))):
        for value, same in zip(values_of(parameters_of(plain)), values_of(parameters_of(squash)), strict=True):
            assert torch.equal(value, same)


def test_a_distribution_without_a_divergence_is_refused_by_name():
    class MixtureDistribution:
        distribution = MixtureSameFamily(Categorical(torch.ones(N, 2)), Beta(torch.ones(N, 2), torch.ones(N, 2)))

    with pytest.raises(TypeError, match="Mixture"):
        parameters_of(MixtureDistribution())


# What hosts maximise

SIZES = st.integers(1, 20)


@LAWS
@given(SIZES, st.integers(0, 1000))
def test_the_surrogate_is_the_mean_of_ratio_times_advantage(n, seed):
    new, old, advantages = normal(3, n, seed=seed)
    expected = sum(math.exp(new[i] - old[i]) * float(advantages[i]) for i in range(n)) / n
    assert float(surrogate(new, old, advantages)) == pytest.approx(expected, rel=1e-12, abs=1e-12)


@LAWS
@given(SIZES, st.integers(0, 1000))
def test_the_log_likelihood_is_weighted_by_advantages_and_blind_to_the_old_policy(n, seed):
    new, old, advantages = normal(3, n, seed=seed)
    expected = sum(float(new[i]) * float(advantages[i]) for i in range(n)) / n
    assert float(log_likelihood(new, old, advantages)) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    assert torch.equal(log_likelihood(new, old, advantages), log_likelihood(new, old + 1.0, advantages))


def test_at_the_policy_that_acted_both_have_the_same_gradient():
    old, advantages = normal(2, 7, seed=0)
    gradients = []
    for objective in (surrogate, log_likelihood):
        new = old.clone().requires_grad_()
        gradients.append(torch.autograd.grad(objective(new, old, advantages), new)[0])
    torch.testing.assert_close(gradients[0], gradients[1])
    torch.testing.assert_close(gradients[0], advantages / 7)


@LAWS
@given(st.integers(1, 20), st.integers(0, 1000), st.sampled_from([0.05, 1.0, 3.0]), st.sampled_from([0.5, 20.0]))
def test_advantage_weights_are_exponentials_up_to_the_clip(n, seed, temperature, max_weight):
    advantages = 3.0 * normal(n, seed=seed)
    weights = advantage_weights(advantages, temperature, max_weight)
    expected = [min(math.exp(min(float(a) / temperature, 700.0)), max_weight) for a in advantages]
    torch.testing.assert_close(weights, torch.tensor(expected, dtype=torch.float64), rtol=1e-12, atol=0.0)


def test_the_gradient_of_advantage_weights_is_their_own_over_the_temperature_and_zero_where_they_are_clipped():
    advantages = torch.tensor([-1.0, 0.5, 10.0, 1e4, 1e30], requires_grad=True)  # the last would overflow
    (gradient,) = torch.autograd.grad(advantage_weights(advantages, 2.0, 20.0).sum(), advantages)
    expected = torch.tensor([math.exp(-0.5) / 2.0, math.exp(0.25) / 2.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(gradient, expected)


def test_the_objective_of_awr_is_the_mean_log_probability_by_weight():
    log_probs, advantages = normal(7, seed=0), 4.0 * normal(7, seed=1)
    weights = [min(math.exp(float(a) / 0.5), 20.0) for a in advantages]
    assert 20.0 in weights
    assert min(weights) < 20.0
    expected = sum(float(p) * w for p, w in zip(log_probs, weights, strict=True)) / 7
    value = advantage_weighted(log_probs, normal(7, seed=2), advantages, temperature=0.5, max_weight=20.0)
    assert float(value) == pytest.approx(expected, rel=1e-12)


def test_with_weights_the_divergence_is_the_weighted_mean_over_steps():
    reference, moved = (parameters_of(gaussian(seed)) for seed in (0, 1))
    each = torch_kl_divergence(gaussian(0).distribution, gaussian(1).distribution).sum(dim=1)
    weights = normal(N, seed=3).exp()
    torch.testing.assert_close(kl_divergence(reference, moved, weights), (weights * each).mean())
    torch.testing.assert_close(kl_divergence(reference, moved, torch.ones(N)), kl_divergence(reference, moved))

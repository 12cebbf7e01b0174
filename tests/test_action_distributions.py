"""A reward is learned for any action distribution that torch knows a KL divergence of, and for others without one."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from builders import normal
from sb3_contrib import TRPO
from stable_baselines3.common import distributions as sb3
from stable_baselines3.common.policies import ActorCriticPolicy
from torch import Tensor, distributions, nn
from torch.nn.functional import softplus
from toys import TINY_NET, differences, not_finite, policy_of, ppo, tare, vec_env

from sb3_tare import RewardLearner
from sb3_tare.policy.distributions import FAMILIES, kl_divergence, parameters_of

N = 5
Make = Callable[[Tensor], distributions.Distribution]


def positive(values: Tensor) -> Tensor:
    return softplus(values) + 0.1


def beta(outputs: Tensor) -> distributions.Distribution:
    return distributions.Beta(*positive(outputs).chunk(2, dim=1))


def scaled_beta(outputs: Tensor) -> distributions.Distribution:
    return distributions.TransformedDistribution(beta(outputs), [distributions.AffineTransform(-1.0, 2.0)])


def gaussian(outputs: Tensor) -> distributions.Normal:
    loc, scale = outputs.chunk(2, dim=1)
    return distributions.Normal(loc, positive(scale))


def squashed(outputs: Tensor) -> distributions.Distribution:
    return distributions.TransformedDistribution(gaussian(outputs), [distributions.TanhTransform(cache_size=1)])


def correlated(outputs: Tensor) -> distributions.Distribution:
    loc, below = outputs.chunk(2, dim=1)
    factor = torch.diag_embed(positive(below)) + torch.tril(below[:, :, None] * loc[:, None, :], diagonal=-1)
    return distributions.MultivariateNormal(loc, scale_tril=factor)


def mixture(outputs: Tensor) -> distributions.Distribution:
    halves = torch.stack([outputs, outputs.flip(1)], dim=1)
    parts = distributions.Independent(distributions.Normal(halves[..., :2], positive(halves[..., 2:])), 1)
    return distributions.MixtureSameFamily(distributions.Categorical(logits=outputs[:, :2]), parts)


def learned_squash(outputs: Tensor) -> distributions.Distribution:
    loc, scale = outputs.chunk(2, dim=1)
    unit = distributions.Normal(torch.zeros_like(loc), torch.ones_like(loc))
    return distributions.TransformedDistribution(unit, [distributions.AffineTransform(loc, positive(scale))])


WITH_KL: dict[str, Make] = {
    "Beta": beta,
    "scaled Beta": scaled_beta,
    "MultivariateNormal": correlated,
    "Independent": lambda outputs: distributions.Independent(gaussian(outputs), 1),
    "Independent squashed": lambda outputs: distributions.Independent(squashed(outputs), 1),
    "squashed": squashed,
    "Laplace": lambda outputs: distributions.Laplace(outputs[:, :2], positive(outputs[:, 2:])),
    "LogNormal": lambda outputs: distributions.LogNormal(outputs[:, :2], positive(outputs[:, 2:])),
    "LowRankMultivariateNormal": lambda outputs: distributions.LowRankMultivariateNormal(
        outputs[:, :2], outputs[:, 2:, None], positive(outputs[:, 2:])
    ),
    "OneHotCategorical": lambda outputs: distributions.OneHotCategorical(logits=outputs),
    "Categorical of probabilities": lambda outputs: distributions.Categorical(probs=positive(outputs)),
    "Dirichlet": lambda outputs: distributions.Dirichlet(positive(outputs)),
    "Gamma": lambda outputs: distributions.Gamma(*positive(outputs).chunk(2, dim=1)),
    "Cauchy": lambda outputs: distributions.Cauchy(outputs[:, :2], positive(outputs[:, 2:])),
    "Exponential": lambda outputs: distributions.Exponential(positive(outputs)),
    "Poisson": lambda outputs: distributions.Poisson(positive(outputs)),
    "Geometric": lambda outputs: distributions.Geometric(logits=outputs),
    "ContinuousBernoulli": lambda outputs: distributions.ContinuousBernoulli(logits=outputs),
}
WITHOUT_KL: dict[str, Make] = {"MixtureSameFamily": mixture, "TransformedDistribution": learned_squash}


class OfTorch(sb3.Distribution):
    """A distribution of torch in the clothes of one of SB3's."""

    def __init__(self, make: Make) -> None:
        super().__init__()
        self.make = make

    def proba_distribution_net(self, latent_dim: int) -> nn.Module:
        return nn.Linear(latent_dim, 4)

    def proba_distribution(self, outputs: Tensor) -> "OfTorch":
        self.distribution = self.make(outputs)
        return self

    def log_prob(self, actions: Tensor) -> Tensor:
        return sb3.sum_independent_dims(self.distribution.log_prob(actions).view(len(actions), -1))

    def entropy(self) -> None:
        return None

    def sample(self) -> Tensor:
        return self.distribution.sample()

    def mode(self) -> Tensor:
        return self.distribution.sample()

    def actions_from_params(self, outputs: Tensor, deterministic: bool = False) -> Tensor:
        return self.proba_distribution(outputs).get_actions(deterministic)

    def log_prob_from_params(self, outputs: Tensor) -> tuple[Tensor, Tensor]:
        actions = self.actions_from_params(outputs)
        return actions, self.log_prob(actions)


class OwnDistributionPolicy(ActorCriticPolicy):
    """An actor whose actions follow a distribution that SB3 does not have."""

    def __init__(self, *args: Any, make: Make = beta, **kwargs: Any) -> None:
        self.make = make
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        del self.log_std
        self.action_dist = OfTorch(self.make)
        self.action_net = self.action_dist.proba_distribution_net(self.mlp_extractor.latent_dim_pi)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)

    def _get_action_dist_from_latent(self, latent_pi: Tensor) -> Any:
        return self.action_dist.proba_distribution(self.action_net(latent_pi))


def host(make: Make) -> dict[str, Any]:
    return {"policy_kwargs": {"net_arch": [16], "make": make}}


def plain(distribution: distributions.Distribution) -> sb3.Distribution:
    wrapped = OfTorch(lambda outputs: distribution)
    return wrapped.proba_distribution(torch.zeros(1))


def innermost(distribution: distributions.Distribution) -> distributions.Distribution:
    return innermost(distribution.base_dist) if hasattr(distribution, "base_dist") else distribution


@pytest.mark.parametrize("name", WITH_KL)
def test_the_divergence_is_that_of_torch(name):
    pair = [WITH_KL[name](normal(N, 4, seed=seed)) for seed in (0, 1)]
    expected = distributions.kl_divergence(*map(innermost, pair)).reshape(N, -1).sum(dim=1).mean()
    torch.testing.assert_close(kl_divergence(*(parameters_of(plain(each)) for each in pair)), expected)


def test_squashing_does_not_change_the_divergence():
    pairs = [[make(normal(N, 4, seed=seed)) for seed in (0, 1)] for make in (gaussian, squashed)]
    values = [float(kl_divergence(*(parameters_of(plain(each)) for each in pair))) for pair in pairs]
    assert values[0] == values[1] > 0.0


def test_every_family_is_known_by_its_names_alone():
    names = [frozenset(each) for family, each in FAMILIES.items() if family is not distributions.OneHotCategorical]
    assert len({*names}) == len(names)


@pytest.mark.parametrize("curvature", ["fisher", "hessian"])
@pytest.mark.parametrize("name", ["Beta", "scaled Beta", "MultivariateNormal", "Independent squashed"])
def test_a_reward_is_learned_for_actions_of_torchs_distributions(name, curvature):
    model = tare(vec_env(), OwnDistributionPolicy, host(WITH_KL[name]), curvature=curvature).learn(3 * 64)
    assert not not_finite(policy_of(model))
    assert any(parameter.abs().sum() > 0 for parameter in model.reward_learner.trainer.reward_model.network.head.parameters())


@pytest.mark.parametrize("curvature", ["fisher", "hessian"])
@pytest.mark.parametrize("name", WITHOUT_KL)
def test_a_distribution_without_a_divergence_is_refused_when_the_model_is_made(name, curvature):
    with pytest.raises(TypeError, match=f"no KL divergence for {name}.*curvature='identity' needs none"):
        tare(vec_env(), OwnDistributionPolicy, host(WITHOUT_KL[name]), curvature=curvature)


@pytest.mark.parametrize("name", WITHOUT_KL)
def test_without_curvature_no_divergence_is_needed(name):
    model = tare(vec_env(), OwnDistributionPolicy, host(WITHOUT_KL[name]), curvature="identity").learn(2 * 64)
    assert any(parameter.abs().sum() > 0 for parameter in model.reward_learner.trainer.reward_model.network.head.parameters())


@pytest.mark.parametrize("curvature", ["fisher", "hessian"])
def test_a_frozen_learner_needs_no_divergence_and_follows_ppo(curvature):
    settings = {"validation": "next_rollout", "n_reward_updates": 0, "curvature": curvature}
    learned = tare(vec_env(), OwnDistributionPolicy, host(mixture), **settings).learn(2 * 64)
    assert not differences(policy_of(ppo(vec_env(), OwnDistributionPolicy, **host(mixture)).learn(2 * 64)), policy_of(learned))


def test_the_callback_refuses_it_when_learning_begins():
    model = TRPO(OwnDistributionPolicy, vec_env(), n_steps=64, batch_size=64, policy_kwargs={**TINY_NET, "make": mixture})
    with pytest.raises(TypeError, match="curvature='identity' needs none"):
        model.learn(64, callback=RewardLearner(preset="implicit"))
    assert model.num_timesteps == 0

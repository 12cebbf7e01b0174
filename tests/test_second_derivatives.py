"""Policies with layers that torch's fastest kernels cannot differentiate twice, or that torch cannot at all."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from builders import normal
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention
from toys import AS_HOST, SMALL, TINY_NET, differences, generators, policy_of, ppo, set_generators, tare, tare_awr, vec_env

from sb3_tare import LIRPG, RewardLearner
from sb3_tare.hypergradient.implicit import mixed_product, mixed_product_by_differences
from sb3_tare.policy.derivatives import derivatives_of
from sb3_tare.policy.kernels import differentiable_kernels

WIDTH = 8


class Attention(nn.Module):
    """Attention as a function."""

    def forward(self, tokens: Tensor) -> Tensor:
        heads = tokens[:, None]
        return scaled_dot_product_attention(heads, heads, heads)[:, 0]


class OnItself(nn.Module):
    """A layer of attention that takes its arguments more than once."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, tokens: Tensor) -> Tensor:
        n_arguments = 3 if isinstance(self.layer, nn.MultiheadAttention) else 2
        output = self.layer(*[tokens] * n_arguments)
        return output[0] if isinstance(output, tuple) else output


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LSTM(WIDTH, WIDTH, batch_first=True)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.layer(tokens)[0]


class Bag(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.EmbeddingBag(4, WIDTH)

    def forward(self, tokens: Tensor) -> Tensor:
        return tokens + self.layer((tokens[:, :, :3] > 0).long().flatten(0, 1)).view(tokens.shape)


class Distances(nn.Module):
    def forward(self, tokens: Tensor) -> Tensor:
        return tokens * torch.cdist(tokens, tokens).sum(dim=2, keepdim=True)


DIFFERENTIABLE: dict[str, Callable[[], nn.Module]] = {
    "scaled_dot_product_attention": Attention,
    "MultiheadAttention": lambda: OnItself(nn.MultiheadAttention(WIDTH, 2, batch_first=True)),
    "TransformerEncoderLayer": lambda: nn.TransformerEncoderLayer(WIDTH, 2, 16, dropout=0.0, batch_first=True),
    "TransformerDecoderLayer": lambda: OnItself(nn.TransformerDecoderLayer(WIDTH, 2, 16, dropout=0.0, batch_first=True)),
    "Transformer": lambda: OnItself(nn.Transformer(WIDTH, 2, 1, 1, 16, dropout=0.0, batch_first=True)),
    "LSTM": Recurrent,
    "Hardswish": nn.Hardswish,
}
ONCE: dict[str, Callable[[], nn.Module]] = {"Hardsigmoid": nn.Hardsigmoid, "EmbeddingBag": Bag, "Distances": Distances}


class Tokens(BaseFeaturesExtractor):
    """Two tokens of each observation, through any layer."""

    def __init__(self, observation_space: spaces.Box, make: Callable[[], nn.Module]) -> None:
        super().__init__(observation_space, WIDTH)
        self.tokens = nn.Linear(observation_space.shape[0], 2 * WIDTH)
        self.layer = make()

    def forward(self, observations: Tensor) -> Tensor:
        return self.layer(self.tokens(observations).view(-1, 2, WIDTH)).mean(dim=1)


def host(make: Callable[[], nn.Module]) -> dict[str, Any]:
    extractor = {"features_extractor_class": Tokens, "features_extractor_kwargs": {"make": make}}
    return {"policy_kwargs": {**TINY_NET, **extractor}}


def has_learned(model: Any) -> bool:
    head = model.reward_learner.trainer.reward_model.network.head
    return bool(torch.stack([parameter.abs().sum() for parameter in head.parameters()]).isfinite().all()) and any(
        parameter.abs().sum() > 0 for parameter in head.parameters()
    )


@pytest.mark.parametrize("name", DIFFERENTIABLE)
def test_a_reward_is_learned_under_kernels_that_can_be_differentiated_twice(name):
    assert has_learned(tare(host=host(DIFFERENTIABLE[name])).learn(2 * 64))


@pytest.mark.parametrize("curvature", ["hessian", "identity"])
def test_each_curvature_learns_a_reward_of_a_policy_with_attention(curvature):
    assert has_learned(tare(host=host(Attention), curvature=curvature).learn(2 * 64))


def test_tareawr_learns_a_reward_of_an_actor_with_attention():
    model = tare_awr(host={**host(Attention), "train_freq": 64, "buffer_size": 256, "critic_steps": 128, "actor_steps": 96})
    assert has_learned(model.learn(2 * 64))


@pytest.mark.parametrize("curvature", ["fisher", "hessian"])
@pytest.mark.parametrize("name", ONCE)
def test_a_layer_without_a_second_derivative_is_named_when_the_model_is_made(name, curvature):
    with pytest.raises(ValueError, match=rf"for the layer {name} \(.*set curvature='identity'"):
        tare(host=host(ONCE[name]), curvature=curvature)


def test_the_callback_names_it_when_learning_begins():
    model = ppo(**host(nn.Hardsigmoid))
    with pytest.raises(ValueError, match="for the layer Hardsigmoid"):
        model.learn(64, callback=RewardLearner(preset="implicit", curvature="fisher"))
    assert model.num_timesteps == 0


@pytest.mark.parametrize("name", ONCE)
def test_without_curvature_no_second_derivative_is_needed(name):
    assert has_learned(tare(host=host(ONCE[name]), curvature="identity").learn(2 * 64))


def test_lirpg_needs_no_second_derivative():
    model = LIRPG("MlpPolicy", vec_env(), reward_kwargs={"zero_head": True}, **{**SMALL, **host(nn.Hardsigmoid)})
    assert has_learned(model.learn(64))


@pytest.mark.parametrize("name", ["scaled_dot_product_attention", "Hardsigmoid"])
def test_a_frozen_learner_follows_ppo_whatever_the_layers(name):
    arguments = host({**DIFFERENTIABLE, **ONCE}[name])
    learned = tare(host=arguments, **AS_HOST).learn(3 * 64)
    assert not differences(policy_of(ppo(**arguments).learn(3 * 64)), policy_of(learned))


def test_differences_give_the_mixed_product():
    parameters = [normal(4, 3, seed=0).requires_grad_(), normal(4, seed=1).requires_grad_()]
    inputs, advantages, x = normal(20, 3, seed=2), normal(20, seed=3).requires_grad_(), normal(16, seed=4)

    def objective(theta: Any, weights: Tensor) -> Tensor:
        return (torch.log_softmax(inputs @ theta[0].T + theta[1], dim=1)[:, 0].exp() * weights).mean()

    exact = mixed_product(objective(parameters, advantages), advantages, parameters, x)
    close = mixed_product_by_differences(objective, advantages, parameters, x)
    torch.testing.assert_close(close, exact, rtol=1e-6, atol=1e-8)
    assert exact.abs().max() > 1e-4
    assert not mixed_product_by_differences(objective, advantages, parameters, torch.zeros(16)).any()


def test_policies_that_need_no_other_kernels_get_none_and_the_process_keeps_its_own():
    assert derivatives_of(ppo().policy).kernels is not differentiable_kernels
    attention = ppo(**host(Attention)).policy
    before = backends()
    assert derivatives_of(attention).kernels is differentiable_kernels
    with differentiable_kernels():
        assert backends() == before or torch.cuda.is_available()
    assert backends() == before


def backends() -> tuple[bool, ...]:
    cuda = torch.backends.cuda
    return cuda.flash_sdp_enabled(), cuda.math_sdp_enabled(), cuda.mem_efficient_sdp_enabled(), torch.backends.cudnn.enabled


def test_trying_the_derivatives_leaves_policy_generators_and_space_alone():
    policy = ppo(**host(nn.Hardsigmoid)).policy
    policy.train()
    before, states = policy_of(ppo(**host(nn.Hardsigmoid))), generators()
    assert derivatives_of(policy).obstacle.startswith("Hardsigmoid")
    assert all(torch.equal(torch.as_tensor(a), torch.as_tensor(b)) for a, b in zip(states[2], generators()[2], strict=True))
    assert (states[0], str(states[1])) == (generators()[0], str(generators()[1]))
    assert all(module.training for module in policy.modules())
    assert all(parameter.grad is None for parameter in policy.parameters())
    assert not any(module._forward_pre_hooks for module in policy.modules())
    assert not differences(before, policy_of(type("Model", (), {"policy": policy})()))
    set_generators(states)

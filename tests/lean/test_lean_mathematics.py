"""What is written out is what autograd, torch's distributions, torch's Adam and SB3's buffer compute."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from gymnasium import spaces
from lean_toys import assert_same, box
from stable_baselines3.common.buffers import RolloutBuffer
from torch import nn
from torch.distributions import Categorical, Normal
from torch.nn import functional as F

from sb3_tare.lean import adam, categorical, gae, gaussian, networks, objective
from sb3_tare.lean.parameters import ParameterVector
from sb3_tare.lean.settings import UpdateSettings
from sb3_tare.lean.statistics import Losses, Statistics

SEEDS = range(3)


def normal(*shape: int, seed: int = 0, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("activation", [nn.Tanh, nn.ReLU])
@pytest.mark.parametrize("widths", [(3, 1), (4, 5, 2), (17, 16, 16, 6), (1, 3, 2, 4, 1)])
@pytest.mark.parametrize("n_rows", [1, 7, 64])
def test_a_perceptron_computes_what_modules_and_autograd_do(activation, widths, n_rows):
    torch.manual_seed(0)
    linears = [nn.Linear(k, m) for k, m in pairwise(widths)]
    modules = nn.Sequential(*[module for linear in linears for module in (linear, activation())][:-1])
    inputs, cotangent = normal(n_rows, widths[0]), normal(n_rows, widths[-1], seed=1)
    expected = modules(inputs)
    expected.backward(cotangent)
    layers = [
        networks.Layer(linear.weight.data, linear.bias.data, torch.zeros_like(linear.weight), torch.zeros_like(linear.bias))
        for linear in linears
    ]
    net = networks.Perceptron(layers, networks.ACTIVATIONS[activation], n_rows)
    assert_same(expected.detach(), net.forward(inputs))
    net.backward(cotangent)
    assert_same(
        [parameter.grad for linear in linears for parameter in linear.parameters()], [x for y in layers for x in y[2:]]
    )


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("n_rows", "n_actions"), [(1, 1), (9, 1), (9, 17), (64, 6)])
def test_a_gaussian_has_the_log_probabilities_and_gradients_of_torch(n_rows, n_actions, seed):
    means = normal(n_rows, n_actions, seed=seed).requires_grad_()
    log_std = normal(n_actions, seed=seed + 10).requires_grad_()
    actions, cotangent = normal(n_rows, n_actions, seed=seed + 20), normal(n_rows, seed=seed + 30)
    distribution = Normal(means, torch.ones_like(means) * log_std.exp())
    log_probs, entropies = distribution.log_prob(actions).sum(1), distribution.entropy().sum(1)
    given = gaussian.evaluate(means.detach().numpy(), gaussian.Spread.of(log_std.detach()), actions.numpy())
    assert_same(log_probs.detach(), given.log_probs)
    np.testing.assert_allclose(given.entropies, entropies[:1].detach(), rtol=1e-6)
    (log_probs @ cotangent + 0.25 * entropies.sum()).backward()
    assert_same((means.grad, log_std.grad), gaussian.pull_back(given, cotangent.numpy(), np.float32(0.25)))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("n_rows", "n_actions"), [(1, 2), (9, 3), (64, 18)])
def test_a_categorical_has_the_log_probabilities_and_gradients_of_torch(n_rows, n_actions, seed):
    logits = normal(n_rows, n_actions, seed=seed, scale=3).requires_grad_()
    cotangent = normal(n_rows, seed=seed + 1)
    actions = torch.randint(n_actions, (n_rows,), generator=torch.Generator().manual_seed(seed))
    distribution = Categorical(logits=logits)
    log_probs, entropies = distribution.log_prob(actions), distribution.entropy()
    given = categorical.evaluate(logits.detach(), actions[:, None])
    assert_same(log_probs.detach(), given.log_probs)
    np.testing.assert_allclose(given.entropies, entropies.detach(), rtol=1e-6)
    (log_probs @ cotangent + 0.25 * entropies.sum()).backward()
    assert_same(logits.grad, categorical.pull_back(given, cotangent, 0.25))


@pytest.mark.parametrize("clip_range", [0.01, 0.2])
@pytest.mark.parametrize("seed", SEEDS)
def test_the_clipped_surrogate_has_autograds_gradient(seed, clip_range):
    log_probs, old = normal(50, seed=seed).requires_grad_(), normal(50, seed=seed) + normal(50, seed=seed + 1, scale=0.1)
    old[:5] = log_probs[:5].detach()  # ratios of one
    advantages = normal(50, seed=seed + 2)
    advantages[3:8] = 0  # ties outside of the range
    ratios = torch.exp(log_probs - old)
    values = torch.min(advantages * ratios, advantages * torch.clamp(ratios, 1 - clip_range, 1 + clip_range))
    (-values.mean()).backward()
    given = objective.clipped_surrogate(log_probs.detach(), old.numpy(), advantages.numpy(), clip_range)
    assert_same(values.detach().numpy(), given.values)
    assert_same(log_probs.grad.numpy(), given.gradient)


def test_a_tie_that_rounding_makes_outside_of_the_range_halves_the_slope_as_autograd_does():
    above = np.nextafter(np.float32(1.2), np.float32(2))
    log_probs = torch.tensor([np.log(np.float64(above))], dtype=torch.float32)
    candidates = torch.linspace(0.5, 2, 2001)
    ratio, bound = torch.exp(log_probs), torch.tensor(1.2)
    tied = candidates[(ratio * candidates == bound * candidates) & (ratio != bound)]
    assert len(tied)
    log_probs = log_probs.expand(len(tied)).clone().requires_grad_()
    ratios = torch.exp(log_probs)
    (-torch.min(tied * ratios, tied * torch.clamp(ratios, 0.8, 1.2)).mean()).backward()
    given = objective.clipped_surrogate(log_probs.detach(), np.zeros(len(tied), np.float32), tied.numpy(), 0.2)
    assert_same(log_probs.grad.numpy(), given.gradient)


@pytest.mark.parametrize("clip_range", [None, 0.3])
def test_the_value_loss_has_autograds_gradient(clip_range):
    values, old, returns = normal(31).requires_grad_(), normal(31, seed=1), normal(31, seed=2)
    moved = values if clip_range is None else old + torch.clamp(values - old, -clip_range, clip_range)
    loss = F.mse_loss(returns, moved)
    (0.5 * loss).backward()
    arrays = [tensor.detach().numpy() for tensor in (values, old, returns)]
    if clip_range is None:
        given = objective.value_loss(arrays[0], arrays[2], 0.5)
    else:
        given = objective.clipped_value_loss(*arrays, 0.5, clip_range)
    assert_same(values.grad.numpy(), given.gradient)
    assert np.square(given.errors).mean() == pytest.approx(loss.item(), rel=1e-5)


@pytest.mark.parametrize("n_rows", [2, 7, 64, 100])
def test_advantages_are_normalised_as_in_ppo(n_rows):
    advantages = normal(n_rows, scale=3) + 1
    expected = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    assert_same(expected.numpy(), objective.normalised(advantages))


@pytest.mark.parametrize("max_norm", [0.5, 100.0])
def test_steps_on_one_vector_are_those_of_adam_behind_a_clipped_gradient(max_norm):
    shapes = [(17, 3), (5,), (1, 8), (1,), (64, 17)]
    parameters = [nn.Parameter(normal(*shape, seed=i)) for i, shape in enumerate(shapes)]
    twins = [nn.Parameter(parameter.detach().clone()) for parameter in parameters]
    optimizer, twin = (torch.optim.Adam(ps, lr=1e-2, betas=(0.8, 0.99), eps=1e-5) for ps in (parameters, twins))
    settings = adam.Adam(1e-2, (0.8, 0.99), 1e-5)
    for update in range(2):  # the second goes on from the state that the first gives back
        vector = ParameterVector(twins, twin)
        for step in range(3):
            gradients = [normal(*shape, seed=100 * update + 10 * step + i) for i, shape in enumerate(shapes)]
            for parameter, view, gradient in zip(parameters, vector.views(vector.gradient), gradients, strict=True):
                parameter.grad = gradient.clone()
                view.copy_(gradient)
            torch.nn.utils.clip_grad_norm_(parameters, max_norm)
            optimizer.step()
            vector.gradient.mul_(min(1.0, adam.clip_scale(vector.views(vector.gradient), max_norm)))
            vector.count += 1
            root = torch.empty_like(vector.values)
            adam.step_(vector.values, vector.gradient, vector.first, vector.second, vector.count, settings, root)
        vector.give_back()
        assert_same([p.detach() for p in parameters], [p.detach() for p in twins])
        assert_same([p.grad for p in parameters], [p.grad for p in twins])
        assert_same(optimizer.state_dict()["state"], twin.state_dict()["state"])


@pytest.mark.parametrize("gamma", [0.99, 1.0, np.float64(0.9)])
@pytest.mark.parametrize("n_envs", [1, 3, 8])
def test_advantages_are_those_of_sb3s_buffer(n_envs, gamma):
    generator = np.random.default_rng(0)
    buffer = RolloutBuffer(20, box(1), spaces.Discrete(2), "cpu", gae_lambda=0.95, gamma=gamma, n_envs=n_envs)
    buffer.rewards[:], buffer.values[:] = generator.normal(size=(2, 20, n_envs))
    buffer.episode_starts[:] = generator.random((20, n_envs)) < 0.3
    last, dones = generator.normal(size=n_envs).astype(np.float32), generator.random(n_envs) < 0.5
    buffer.compute_returns_and_advantage(torch.from_numpy(last), dones)
    given = gae.advantages_of(buffer.rewards, buffer.values, buffer.episode_starts, last, dones, gamma, 0.95)
    assert np.array_equal(buffer.advantages, given)


def test_what_is_logged_are_means_of_means_over_mini_batches_of_any_size():
    statistics = Statistics()
    for size in (3, 2):
        rows = np.arange(size, dtype=np.float32)
        log_ratios, one = rows / 10, np.ones(1, np.float32)
        statistics.add(surrogates=rows, log_ratios=log_ratios, ratios=np.exp(log_ratios), errors=rows, entropies=one)
    losses = Losses.of(statistics, clip_range=0.15)
    np.testing.assert_allclose(losses.policy, [-1, -0.5])
    np.testing.assert_allclose(losses.value, [5 / 3, 0.5])
    np.testing.assert_allclose(losses.entropy, [-1, -1])
    np.testing.assert_allclose(losses.clip_fraction, [1 / 3, 0])
    np.testing.assert_allclose(
        losses.kl, [(np.expm1(0.1) - 0.1 + np.expm1(0.2) - 0.2) / 3, (np.expm1(0.1) - 0.1) / 2], rtol=1e-5
    )
    settings = UpdateSettings(1, 3, 0.15, None, True, 0.1, 0.5, 0.5, None)
    np.testing.assert_allclose(losses.total(settings), [-1 - 0.1 + 5 / 6, -0.5 - 0.1 + 0.25])

"""A step of Adam is PyTorch's, and its derivative is that of an unrolled one."""

from itertools import pairwise

import pytest
import torch
from builders import normal, unrolled_adam
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam

from sb3_tare.hosts.optimiser_steps import flat, watched_steps
from sb3_tare.hypergradient.adam import AdamStep

P = 7
NORM = float(normal(P, seed=0).norm())
with_and_without_clipping = pytest.mark.parametrize("max_norm", [0.3 * NORM, 3.0 * NORM], ids=["clipped", "not clipped"])


def train(module: nn.Module, optimiser: Adam, losses: list[Tensor], max_norm: float) -> list[Tensor]:
    """As SB3's PPO does it; norms before clipping."""
    norms = []
    for loss in losses:
        optimiser.zero_grad()
        loss.backward()
        norms.append(clip_grad_norm_(module.parameters(), max_norm))
        optimiser.step()
    return norms


def losses_of(module: nn.Module, n: int) -> list[Tensor]:
    return [(module(normal(5, 3, seed=k)) ** 2 * normal(5, 2, seed=100 + k)).sum() for k in range(n)]


def small_module() -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()


def steps_of(max_norm: float, n: int = 4, **optimiser_kwargs) -> list[tuple[AdamStep, Tensor, Tensor]]:
    """Steps, parameters after them, and norms before clipping."""
    module = small_module()
    optimiser = Adam(module.parameters(), lr=1e-2, **optimiser_kwargs)
    steps, norms = [], []
    with watched_steps(optimiser, max_norm, lambda step, parameters: steps.append((step, flat(parameters)))):
        for k in range(n):
            norms += train(module, optimiser, losses_of(module, k + 1)[k:], max_norm)
    return [(*step, norm) for step, norm in zip(steps, norms, strict=True)]


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
@pytest.mark.parametrize("kwargs", [{}, {"fused": True}, {"eps": 1e-2, "betas": (0.5, 0.7)}], ids=str)
def test_a_step_arrives_where_pytorchs_adam_arrives(max_norm, kwargs):
    for step, arrived, norm in steps_of(max_norm, **kwargs):
        torch.testing.assert_close(step.arrive(), arrived, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(step.norm, norm)
        assert (step.norm > max_norm) == (max_norm == 0.5)


def test_steps_are_counted_and_follow_one_another():
    steps = steps_of(0.5)
    assert [step.count.unique().item() for step, _, _ in steps] == [1, 2, 3, 4]
    for (_, arrived, _), (following, _, _) in pairwise(steps):
        assert torch.equal(arrived, following.parameters)


def test_parameters_without_a_gradient_are_no_part_of_a_step():
    module = small_module()
    optimiser = Adam(module.parameters())
    moved = []
    with watched_steps(optimiser, 0.5, lambda step, parameters: moved.append((step, list(parameters)))):
        train(module, optimiser, [module[0](normal(5, 3, seed=0)).sum()], 0.5)
    ((step, parameters),) = moved
    assert [id(parameter) for parameter in parameters] == [id(parameter) for parameter in module[0].parameters()]
    assert len(step.parameters) == len(step.count) == 16


@pytest.mark.parametrize("fails", [False, True])
def test_an_optimiser_is_left_without_hooks(fails):
    module = small_module()
    optimiser = Adam(module.parameters())
    calls = []
    try:
        with watched_steps(optimiser, 0.5, lambda *_: calls.append(1)):
            train(module, optimiser, losses_of(module, 1), 0.5)
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    train(module, optimiser, losses_of(module, 1), 0.5)
    assert calls == [1]
    assert not optimiser._optimizer_step_pre_hooks
    assert not any(parameter._post_accumulate_grad_hooks for parameter in module.parameters())


def step_of(raw: Tensor, max_norm: float, count: int) -> AdamStep:
    """A step on the gradient ``raw``, from moments of ``count - 1`` others."""
    moments = normal(P, seed=2) if count > 1 else torch.zeros(P, dtype=torch.float64)
    gradient = raw * min(1.0, max_norm / (float(raw.norm()) + 1e-6))
    return AdamStep(
        parameters=normal(P, seed=1),
        gradient=gradient,
        norm=raw.norm(),
        exp_avg=moments,
        exp_avg_sq=moments**2,
        count=torch.tensor(float(count)),
        learning_rate=1e-2,
        betas=(0.9, 0.999),
        eps=1e-5,
        max_norm=max_norm,
    )


@with_and_without_clipping
@pytest.mark.parametrize("through_second_moment", [True, False])
@pytest.mark.parametrize("count", [1, 2, 1000])
def test_pulling_back_is_the_derivative_of_an_unrolled_step(count, through_second_moment, max_norm):
    raw, cotangent = normal(P, seed=0).requires_grad_(), normal(P, seed=3)
    step = step_of(raw.detach(), max_norm, count)
    moments = step.exp_avg, step.exp_avg_sq
    arrived = unrolled_adam(step.parameters, raw, *moments, count, max_norm, through_second_moment=through_second_moment)
    torch.testing.assert_close(step.arrive(), arrived.detach())
    (expected,) = torch.autograd.grad(arrived, raw, cotangent)
    torch.testing.assert_close(step.pull_back(cotangent, through_second_moment), expected, rtol=1e-8, atol=1e-12)


def test_entries_that_never_had_a_gradient_pull_back_no_nan():
    raw = torch.cat([normal(P - 1, seed=0), torch.zeros(1, dtype=torch.float64)])
    pulled = step_of(raw, 1e3, 1).pull_back(torch.ones(P, dtype=torch.float64))
    assert torch.isfinite(pulled).all()
    # where all moments are zero, the first step is linear: lr (1 - beta1) / (1 - beta1) / eps
    torch.testing.assert_close(pulled[-1], torch.tensor(-1e-2 / 1e-5, dtype=torch.float64))

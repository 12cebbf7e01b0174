"""The unrolled gradient, and that the implicit one is its limit."""

import torch

from sb3_tare.hypergradient.implicit import implicit_weights
from sb3_tare.hypergradient.unrolled import unrolled_weights
from sb3_tare.hypergradient.unrolled_adam import AdamState, unrolled_adam
from sb3_tare.hypergradient.update import PolicyUpdate
from sb3_tare.policy.products import hessian_product

torch.set_num_threads(1)


def quadratic_problem():
    """Inner: maximise sum_t A_t (F theta)_t - theta' H theta / 2; outer: linear in theta."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(7, 4, generator=generator, dtype=torch.float64)
    root = torch.randn(4, 4, generator=generator, dtype=torch.float64)
    hessian = root @ root.T + torch.eye(4, dtype=torch.float64)
    target = torch.randn(4, generator=generator, dtype=torch.float64)
    advantages = torch.randn(7, generator=generator, dtype=torch.float64)

    def training(parameters, advantages):
        (theta,) = parameters
        return advantages @ (features @ theta) - theta @ hessian @ theta / 2

    def validation(parameters):
        return target @ parameters[0]

    return features, hessian, target, advantages, training, validation


def test_one_step_gives_the_closed_form():
    features, _, target, advantages, training, validation = quadratic_problem()
    start = [torch.zeros(4, dtype=torch.float64)]
    update = PolicyUpdate(start, advantages.requires_grad_(), training, validation)
    weights, _ = unrolled_weights(update, n_steps=1, learning_rate=0.1)
    torch.testing.assert_close(weights, 0.1 * features @ target)


def test_many_steps_give_the_implicit_gradient():
    features, hessian, target, advantages, training, validation = quadratic_problem()
    theta = torch.linalg.solve(hessian, features.T @ advantages).requires_grad_()
    leaf = advantages.clone().requires_grad_()
    curvature = hessian_product(-training([theta], advantages), [theta])
    implicit, _ = implicit_weights(PolicyUpdate([theta], leaf, training, validation), curvature)
    start = [torch.zeros_like(theta)]
    unrolled, _ = unrolled_weights(PolicyUpdate(start, leaf, training, validation), 2000, learning_rate=0.02)
    torch.testing.assert_close(implicit, features @ torch.linalg.solve(hessian, target))
    torch.testing.assert_close(unrolled, implicit)


def test_adam_unrolled_is_torchs_adam_behind_a_clipped_gradient():
    features, hessian, _, advantages, _, _ = quadratic_problem()
    batches = [torch.tensor(rows) for rows in ([0, 1, 2], [3, 4, 5, 6], [1, 5], [0, 2, 6])]
    loss = loss_on(features, hessian)
    theta = torch.nn.Parameter(torch.full((4,), 0.3, dtype=torch.float64))
    optimiser = torch.optim.Adam([theta], lr=0.05, eps=1e-5)
    for rows in batches:
        optimiser.zero_grad()
        loss([theta], advantages, rows).backward()
        torch.nn.utils.clip_grad_norm_([theta], 0.5)
        optimiser.step()
    (arrived,), state = unrolled_adam([torch.full_like(theta, 0.3)], start(4, 0.5), loss, advantages, batches)
    torch.testing.assert_close(arrived, theta)
    torch.testing.assert_close(state.second, optimiser.state[theta]["exp_avg_sq"])
    assert state.count == 4


def test_its_weights_are_the_differences_that_other_advantages_make():
    features, hessian, target, advantages, _, _ = quadratic_problem()
    batches = [torch.tensor(rows) for rows in ([0, 1, 2], [3, 4, 5, 6], [1, 5])]

    def reached(advantages):
        (theta,), _ = unrolled_adam([torch.zeros_like(target)], start(4, 2.0), loss_on(features, hessian), advantages, batches)
        return target @ theta

    leaf = advantages.clone().requires_grad_()
    (weights,) = torch.autograd.grad(reached(leaf), leaf)
    nudges = 1e-5 * torch.eye(7, dtype=torch.float64)
    expected = torch.stack([(reached(leaf + nudge) - reached(leaf - nudge)) / 2e-5 for nudge in nudges])
    torch.testing.assert_close(weights, expected.detach(), rtol=1e-4, atol=1e-6)
    assert float(weights.norm()) > 1e-3


def loss_on(features, hessian):
    """Minus the training objective of the rows of a mini-batch."""
    return lambda parameters, advantages, rows: (
        parameters[0] @ hessian @ parameters[0] / 2 - advantages[rows] @ (features[rows] @ parameters[0])
    )


def start(size, max_norm):
    """An Adam that has not moved yet."""
    zero = torch.zeros(size, dtype=torch.float64)
    return AdamState(zero, zero, 0, learning_rate=0.05, eps=1e-5, max_norm=max_norm)

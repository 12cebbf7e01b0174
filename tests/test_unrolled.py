"""The unrolled gradient, and that the implicit one is its limit."""

import torch

from sb3_tare.hypergradient.implicit import implicit_weights
from sb3_tare.hypergradient.unrolled import unrolled_weights
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

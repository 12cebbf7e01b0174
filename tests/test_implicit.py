from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from builders import LAWS, episodes_of, generator, normal, reward_inputs
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.distributions import kl_divergence as sb3_kl_divergence
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.nn.functional import one_hot
from toys import ppo

from sb3_tare.advantages.generalised import standardise
from sb3_tare.advantages.sums import discounted_sum
from sb3_tare.data.rollout import PolicySteps
from sb3_tare.hosts.on_policy import OnPolicyHost
from sb3_tare.hypergradient import implicit
from sb3_tare.hypergradient.conjugate_gradient import Solution, conjugate_gradient
from sb3_tare.hypergradient.implicit import implicit_weights, reward_weights
from sb3_tare.hypergradient.update import Estimate, PolicyUpdate
from sb3_tare.networks.inputs import RewardInputs
from sb3_tare.networks.registry import ARCHITECTURES
from sb3_tare.policy.curvature import CURVATURES
from sb3_tare.policy.gradients import Batch, PolicyGradients
from sb3_tare.policy.objectives import HostObjective, log_likelihood, surrogate
from sb3_tare.policy.products import LinearMap, flat_gradient, gauss_newton_product, hessian_product

Objective = Callable[[Tensor, Tensor, Tensor], Tensor]


def advantage_weighted(log_probs: Tensor, old_log_probs: Tensor, advantages: Tensor) -> Tensor:
    """AWR's, which is not linear in the advantages."""
    return (log_probs * torch.exp(advantages / 2.0)).mean()


def weights_of(
    validation: Tensor,
    training: Tensor,
    advantages: Tensor,
    parameters: Sequence[Tensor],
    curvature: LinearMap | None,
    cg_steps: int = 10,
) -> Estimate:
    """Of objectives whose graphs are there already."""
    update = PolicyUpdate(parameters, advantages, lambda theta, given: training, lambda theta: validation)
    return implicit_weights(update, curvature, cg_steps)


every_objective = pytest.mark.parametrize("objective", [surrogate, log_likelihood, advantage_weighted])


# Conjugate gradient


def positive_definite(size: int, seed: int) -> Tensor:
    root = normal(size, size, seed=seed)
    return root @ root.T / size + 0.1 * torch.eye(size, dtype=torch.float64)


def symmetric(size: int, seed: int) -> Tensor:
    matrix = normal(size, size, seed=seed)
    return (matrix + matrix.T) / 2.0


class Counted:
    """A matrix as a linear map that knows how often it was asked."""

    def __init__(self, matrix: Tensor) -> None:
        self.matrix = matrix
        self.calls = 0

    def __call__(self, vector: Tensor) -> Tensor:
        self.calls += 1
        return self.matrix @ vector


def relative_residual(matrix: Tensor, x: Tensor, target: Tensor) -> float:
    return float((target - matrix @ x).norm() / target.norm())


def assert_never_nan(solution: Solution) -> None:
    assert torch.isfinite(solution.x).all()
    assert not math.isnan(solution.residual)


@LAWS
@given(st.integers(1, 12), st.integers(0, 1000))
def test_conjugate_gradient_is_a_dense_solve_where_the_map_is_positive_definite(size, seed):
    matrix, target = positive_definite(size, seed), normal(size, seed=seed + 1)
    solution = conjugate_gradient(lambda v: matrix @ v, target, max_steps=10 * size)
    torch.testing.assert_close(solution.x, torch.linalg.solve(matrix, target), rtol=1e-7, atol=1e-7)
    assert not solution.negative_curvature


@LAWS
@given(st.integers(2, 12), st.integers(0, 1000), st.integers(1, 6))
def test_the_reported_residual_and_steps_are_true(size, seed, max_steps):
    product, target = Counted(positive_definite(size, seed)), normal(size, seed=seed + 1)
    solution = conjugate_gradient(product, target, max_steps)
    assert solution.residual == pytest.approx(relative_residual(product.matrix, solution.x, target), rel=1e-6, abs=1e-9)
    assert solution.steps == product.calls <= max_steps


@LAWS
@given(st.integers(1, 10), st.integers(0, 1000), st.integers(1, 10))
def test_for_any_symmetric_map_the_solution_is_finite_and_ascends(size, seed, max_steps):
    matrix, target = symmetric(size, seed), normal(size, seed=seed + 1)
    solution = conjugate_gradient(lambda v: matrix @ v, target, max_steps)
    assert_never_nan(solution)
    assert float(solution.x @ target) > 0
    assert solution.residual == pytest.approx(relative_residual(matrix, solution.x, target), rel=1e-6, abs=1e-9)


def test_it_takes_as_many_steps_as_there_are_different_eigenvalues():
    matrix = torch.diag(torch.tensor([1.0, 2.0, 2.0, 5.0, 1.0, 5.0], dtype=torch.float64))
    solution = conjugate_gradient(lambda v: matrix @ v, normal(6, seed=0), max_steps=20)
    assert solution.steps == 3
    assert solution.residual < 1e-10


def test_each_step_comes_closer_in_the_maps_own_norm():
    matrix, target = positive_definite(12, seed=0), normal(12, seed=1)
    exact = torch.linalg.solve(matrix, target)
    errors = [conjugate_gradient(lambda v: matrix @ v, target, max_steps=k).x - exact for k in range(8)]
    distances = [float(error @ matrix @ error) for error in errors]
    assert all(later < 0.999 * earlier for earlier, later in itertools.pairwise(distances))


@pytest.mark.parametrize("scale", [1e-30, 1e-8, 1e8, 1e30])
def test_the_scale_of_the_target_is_that_of_the_solution(scale):
    matrix, target = positive_definite(5, seed=0), normal(5, seed=1)
    solution = conjugate_gradient(lambda v: matrix @ v, scale * target, max_steps=50)
    torch.testing.assert_close(solution.x / scale, torch.linalg.solve(matrix, target), rtol=1e-7, atol=1e-7)


def test_a_direction_of_negative_curvature_ends_the_search_at_the_iterate_so_far():
    matrix = torch.diag(torch.tensor([1.0, 3.0, -1.0], dtype=torch.float64))
    target = torch.tensor([1.0, 1.0, 0.1], dtype=torch.float64)
    solution = conjugate_gradient(lambda v: matrix @ v, target, max_steps=10)
    first = (target @ target) / (target @ matrix @ target) * target
    second = conjugate_gradient(lambda v: matrix @ v, target, max_steps=2).x
    assert solution.negative_curvature
    assert solution.steps in (1, 2)
    torch.testing.assert_close(solution.x, first if solution.steps == 1 else second)
    assert solution.residual == pytest.approx(relative_residual(matrix, solution.x, target))


def test_negative_curvature_in_the_second_direction_leaves_the_first_iterate():
    matrix = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    target = torch.tensor([2.0, 1.0], dtype=torch.float64)
    solution = conjugate_gradient(lambda v: matrix @ v, target)
    assert solution == (solution.x, solution.residual, 1, True)
    torch.testing.assert_close(solution.x, 5.0 / 3.0 * target)
    assert solution.residual == pytest.approx(relative_residual(matrix, solution.x, target))


@pytest.mark.parametrize("factor", [-1.0, 0.0])
def test_in_the_first_step_it_leaves_the_target_itself(factor):
    target = normal(4, seed=0)
    solution = conjugate_gradient(lambda v: factor * v, target)
    assert torch.equal(solution.x, target)
    assert solution.negative_curvature
    assert solution.steps == 0
    assert solution.residual == pytest.approx(1.0 - factor)


def test_a_target_of_zero_has_the_solution_zero():
    for matrix in (positive_definite(3, seed=0), -positive_definite(3, seed=0), torch.zeros(3, 3, dtype=torch.float64)):
        solution = conjugate_gradient(lambda v, matrix=matrix: matrix @ v, torch.zeros(3, dtype=torch.float64))
        assert solution.x.tolist() == [0.0] * 3
        assert solution.residual == 0.0
        assert not solution.negative_curvature


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("after", [0, 1, 3])
@pytest.mark.parametrize("where", [slice(None), slice(0, 1)])
def test_a_map_that_breaks_down_never_gives_nan(broken, after, where):
    matrix, target = positive_definite(6, seed=0), normal(6, seed=1)
    calls = itertools.count()

    def product(vector: Tensor) -> Tensor:
        image = matrix @ vector
        if next(calls) >= after:
            image[where] = broken
        return image

    solution = conjugate_gradient(product, target, max_steps=10)
    assert_never_nan(solution)
    assert solution.negative_curvature
    assert solution.steps == after
    if after == 0:
        assert torch.equal(solution.x, target)
    else:
        assert solution.residual == pytest.approx(relative_residual(matrix, solution.x, target))


@pytest.mark.parametrize("curvature", [1e-45, 1e-40, 1e-30, 1e30, 1e38])
def test_a_map_at_the_edge_of_single_precision_never_gives_nan(curvature):
    assert_never_nan(conjugate_gradient(lambda v: curvature * v, torch.tensor([1.0, -2.0, 0.0])))


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e18, 1e20, 1e37])
def test_a_target_at_the_edge_of_single_precision_never_gives_nan(scale):
    assert_never_nan(conjugate_gradient(lambda v: 2.0 * v, scale * torch.tensor([1.0, -2.0, 0.0])))


def test_solving_leaves_the_target_as_it_was():
    target = normal(5, seed=0)
    before, matrix = target.clone(), positive_definite(5, seed=1)
    for product in (lambda v: matrix @ v, lambda v: -v):
        solution = conjugate_gradient(product, target)
        solution.x.add_(1.0)
        assert torch.equal(target, before)


# Curvature products


def quartic(x: Tensor) -> Tensor:
    return (x.pow(4).sum() + (x[0] * x[1] * x[2]).sin() + torch.exp(x @ x / 5.0)) / 3.0


def test_a_hessian_product_is_the_product_with_autograds_hessian():
    point, vector = normal(5, seed=0).requires_grad_(), normal(5, seed=1)
    hessian = torch.autograd.functional.hessian(quartic, point.detach())
    torch.testing.assert_close(hessian_product(quartic(point), [point])(vector), hessian @ vector)
    damped = hessian_product(quartic(point), [point], damping=0.3)(vector)
    torch.testing.assert_close(damped, hessian @ vector + 0.3 * vector)


def test_a_hessian_product_is_symmetric_and_linear_and_can_be_asked_again():
    parameters = [normal(*shape, seed=seed).requires_grad_() for seed, shape in enumerate([(2, 3), (2,), (1,)])]
    weights, bias, slope = parameters
    objective = torch.tanh(weights @ normal(3, seed=3) * slope + bias).square().sum() + (weights.exp().sum() * slope).cos()
    product = hessian_product(objective, parameters)
    u, v = normal(2, 9, seed=4)
    torch.testing.assert_close(u @ product(v), product(u) @ v)
    torch.testing.assert_close(product(2.0 * u - v), 2.0 * product(u) - product(v))
    assert float(product(v).norm()) > 0.1
    assert not product(v).requires_grad


def test_a_parameter_that_the_objective_does_not_see_has_no_curvature():
    seen, unseen = normal(2, seed=0).requires_grad_(), normal(3, seed=1).requires_grad_()
    product = hessian_product(seen.pow(3).sum(), [unseen, seen], damping=0.5)
    vector = normal(5, seed=2)
    expected = torch.cat([0.5 * vector[:3], (6.0 * seen.detach() + 0.5) * vector[3:]])
    torch.testing.assert_close(product(vector), expected)


def test_a_linear_objective_has_no_curvature_but_the_damping():
    point, vector = normal(3, seed=0).requires_grad_(), normal(3, seed=1)
    product = hessian_product(2.0 * point.sum(), [point], damping=0.1)
    torch.testing.assert_close(product(vector), 0.1 * vector)


def two_layers(first: Tensor, second: Tensor) -> list[Tensor]:
    hidden = torch.tanh(normal(6, 3, seed=10) @ first)
    return [hidden @ second, hidden.square().sum(dim=1) * second.sum()]


def test_a_gauss_newton_product_is_the_jacobian_around_the_hessian_of_the_loss():
    parameters = (normal(3, 4, seed=0).requires_grad_(), normal(4, 2, seed=1).requires_grad_())

    def loss(outputs: list[Tensor]) -> Tensor:
        return (outputs[0].pow(4).sum() + (outputs[1] * outputs[0][:, 0]).cos().sum()) / 6.0

    def flat_outputs(*parameters: Tensor) -> Tensor:
        return torch.cat([output.reshape(-1) for output in two_layers(*parameters)])

    def flat_loss(outputs: Tensor) -> Tensor:
        return loss([outputs[:12].view(6, 2), outputs[12:]])

    jacobian = torch.cat(
        [part.reshape(18, -1) for part in torch.autograd.functional.jacobian(flat_outputs, parameters)], dim=1
    )
    hessian = torch.autograd.functional.hessian(flat_loss, flat_outputs(*parameters).detach())
    vector = normal(20, seed=2)
    product = gauss_newton_product(loss, two_layers(*parameters), parameters, damping=0.2)
    torch.testing.assert_close(product(vector), jacobian.T @ hessian @ jacobian @ vector + 0.2 * vector)


def test_where_the_loss_is_at_its_minimum_gauss_newton_is_the_hessian():
    parameters = (normal(3, 4, seed=0).requires_grad_(), normal(4, 2, seed=1).requires_grad_())
    outputs = two_layers(*parameters)
    targets = [output.detach() for output in outputs]

    def loss(outputs: Sequence[Tensor]) -> Tensor:
        return sum((output - target).square().sum() for output, target in zip(outputs, targets, strict=True))

    vector = normal(20, seed=2)
    expected = hessian_product(loss(outputs), parameters)(vector)
    torch.testing.assert_close(gauss_newton_product(loss, outputs, parameters)(vector), expected)
    assert float(expected.norm()) > 0.1


def test_flat_gradients_lie_in_the_order_of_the_parameters():
    first, second = normal(2, 2, seed=0).requires_grad_(), normal(3, seed=1).requires_grad_()
    gradient = flat_gradient(first.square().sum() + second.pow(3).sum(), [second, first])
    torch.testing.assert_close(gradient, torch.cat([3.0 * second.detach().square(), 2.0 * first.detach().flatten()]))


# The mixed product: sum_t w_t dA_t/dphi against the second derivative itself


class Problem(NamedTuple):
    """A small policy and a small learned reward, all of it one differentiable function."""

    theta: list[Tensor]
    network: nn.Module
    inputs: RewardInputs
    old_log_probs: Tensor

    def advantages(self) -> Tensor:
        return standardise(discounted_sum(self.network(self.inputs), self.inputs.episodes, 0.9))

    def log_probs(self, theta: Sequence[Tensor] | None = None) -> Tensor:
        """Of Gaussian actions around the output of a tanh policy."""
        first, second, log_std = self.theta if theta is None else theta
        errors = (self.inputs.actions - torch.tanh(self.inputs.observations @ first) @ second) / log_std.exp()
        return (-0.5 * errors.square() - log_std).sum(dim=1)


def small_problem(name: str) -> Problem:
    episodes = episodes_of([5, 1, 4], [0, 3, 2])
    theta = [normal(*shape, seed=seed).mul(0.5).requires_grad_() for seed, shape in enumerate([(3, 4), (4, 2), (2,)])]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        width = {"lstm_hidden_size": 3} if name.startswith("LSTM") else {"hidden_size": 8}
        network = ARCHITECTURES[name](3, 2, **width).double()
    problem = Problem(theta, network, reward_inputs(episodes, seed=5), torch.zeros(10))
    return problem._replace(old_log_probs=problem.log_probs().detach() + 0.2 * normal(10, seed=20))


def mixed_derivative(training_objective: Tensor, theta: Sequence[Tensor], phi: Sequence[Tensor]) -> Tensor:
    """``[p, q]`` second derivative, a row for each entry of theta."""
    gradient = flat_gradient(training_objective, theta, create_graph=True)
    return torch.stack([flat_gradient(entry, phi) for entry in gradient])


@every_objective
@pytest.mark.parametrize("name", ["LSTMbMul", "LSTMf", "MLPConcat"])
def test_weights_times_advantages_have_the_gradient_of_the_mixed_second_derivative(name, objective: Objective):
    problem = small_problem(name)
    phi = list(problem.network.parameters())
    validation = (problem.log_probs() * normal(10, seed=30)).mean()
    advantages = problem.advantages().detach().requires_grad_()
    training = objective(problem.log_probs(), problem.old_log_probs, advantages)
    weights, solution = weights_of(validation, training, advantages, problem.theta, curvature=None)
    torch.testing.assert_close(solution.x, flat_gradient(validation, problem.theta))
    shortcut = flat_gradient((weights * problem.advantages()).sum(), phi)
    whole = objective(problem.log_probs(), problem.old_log_probs, problem.advantages())
    brute_force = solution.x @ mixed_derivative(whole, problem.theta, phi)
    torch.testing.assert_close(shortcut, brute_force, rtol=1e-8, atol=1e-12)
    assert float(brute_force.norm()) > 1e-4


@every_objective
def test_weights_are_directional_derivatives_along_the_solution(objective: Objective):
    """The table of each host's w_t: of the ratio or of the log-probability, by finite differences in theta."""
    problem = small_problem("MLPConcat")
    validation = (problem.log_probs() * normal(10, seed=30)).mean()
    advantages = problem.advantages().detach().requires_grad_()
    training = objective(problem.log_probs(), problem.old_log_probs, advantages)
    weights, (x, *_) = weights_of(validation, training, advantages, problem.theta, curvature=None)
    parts = [part.view_as(p) for part, p in zip(x.split([p.numel() for p in problem.theta]), problem.theta, strict=True)]
    ahead, behind = (
        problem.log_probs([p.detach() + step * part for p, part in zip(problem.theta, parts, strict=True)])
        for step in (1e-5, -1e-5)
    )
    with torch.no_grad():
        expected = {
            surrogate: (torch.exp(ahead - problem.old_log_probs) - torch.exp(behind - problem.old_log_probs)),
            log_likelihood: ahead - behind,
            advantage_weighted: (ahead - behind) * torch.exp(advantages / 2.0) / 2.0,
        }[objective] / (2e-5 * 10)
    torch.testing.assert_close(weights, expected, rtol=1e-6, atol=1e-9)


def test_with_curvature_the_weights_belong_to_the_solution_of_the_dense_system():
    problem = small_problem("LSTMbMul")
    phi = list(problem.network.parameters())
    validation = (problem.log_probs() * normal(10, seed=30)).mean()
    advantages = problem.advantages().detach().requires_grad_()
    training = surrogate(problem.log_probs(), problem.old_log_probs, advantages)
    matrix = positive_definite(22, seed=7)
    weights, solution = weights_of(validation, training, advantages, problem.theta, lambda v: matrix @ v, cg_steps=60)
    x = torch.linalg.solve(matrix, flat_gradient(validation, problem.theta))
    torch.testing.assert_close(solution.x, x, rtol=1e-7, atol=1e-9)
    whole = surrogate(problem.log_probs(), problem.old_log_probs, problem.advantages())
    expected = x @ mixed_derivative(whole, problem.theta, phi)
    torch.testing.assert_close(flat_gradient((weights * problem.advantages()).sum(), phi), expected, rtol=1e-6, atol=1e-10)


def test_as_many_steps_of_conjugate_gradient_are_taken_as_were_asked_for():
    problem = small_problem("MLPConcat")
    advantages = problem.advantages().detach().requires_grad_()
    training = surrogate(problem.log_probs(), problem.old_log_probs, advantages)
    for cg_steps in (1, 4):
        product = Counted(positive_definite(22, seed=7))
        _, solution = weights_of(problem.log_probs().sum(), training, advantages, problem.theta, product, cg_steps)
        assert product.calls == solution.steps == cg_steps


def test_implicit_weights_leave_gradients_and_generators_alone():
    problem = small_problem("LSTMbMul")
    advantages = problem.advantages().detach().requires_grad_()
    training = surrogate(problem.log_probs(), problem.old_log_probs, advantages)
    curvature = hessian_product(-training, problem.theta, damping=1.0)
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002 the global generator is what must not move
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    for each in (None, curvature):
        weights_of(problem.log_probs().sum(), training, advantages, problem.theta, each)
    assert all(tensor.grad is None for tensor in (*problem.theta, *problem.network.parameters(), advantages))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert (np.random.get_state()[1] == before[1]).all()  # noqa: NPY002


# The implicit gradient against problems whose inner optimum is known


def test_on_a_quadratic_inner_problem_the_implicit_gradient_is_the_closed_form():
    """theta* = P^-1 B' A(phi) maximises A' B theta - theta' P theta / 2; the outer objective is another quadratic."""
    n, p, q = 7, 4, 5
    B, P, Q, c = normal(n, p, seed=0), positive_definite(p, seed=1), positive_definite(p, seed=2), normal(p, seed=3)
    K, phi = normal(n, q, seed=4), normal(q, seed=5).requires_grad_()

    def advantages_of(phi: Tensor) -> Tensor:
        return torch.sin(K @ phi) + (K @ phi).pow(3) / 10.0

    optimum = torch.linalg.solve(P, B.T @ advantages_of(phi).detach())
    theta = optimum.clone().requires_grad_()
    advantages = advantages_of(phi).detach().requires_grad_()
    training = advantages @ B @ theta - theta @ P @ theta / 2.0
    validation = c @ theta - theta @ Q @ theta / 2.0
    curvature = hessian_product(-training, [theta])
    weights, solution = weights_of(validation, training, advantages, [theta], curvature, cg_steps=20)
    hypergradient = flat_gradient((weights * advantages_of(phi)).sum(), [phi])
    with torch.no_grad():
        slopes = torch.cos(K @ phi) + 3.0 * (K @ phi).square() / 10.0
        expected = (c - Q @ optimum) @ torch.linalg.solve(P, B.T @ (slopes[:, None] * K))
    torch.testing.assert_close(hypergradient, expected, rtol=1e-8, atol=1e-10)
    assert solution.residual < 1e-9


class TabularProblem:
    """A softmax policy over a few states, optimised to the end on a learned reward with a KL penalty.

    The last action's logit is held at zero, so that the optimum is a point.
    """

    N_STATES, N_ACTIONS, KL_COEF = 3, 3, 6.0

    def __init__(self, name: str, objective: Objective) -> None:
        self.objective = objective
        self.behaviour = torch.log_softmax(normal(self.N_STATES, self.N_ACTIONS, seed=0), dim=1)
        self.states, self.actions, old = self._act(14, seed=1)
        self.old_log_probs = old
        self.held_out_states, self.held_out_actions, self.held_out_old = self._act(11, seed=2)
        self.held_out_advantages = normal(11, seed=3)
        episodes = episodes_of([6, 5, 3], [0, 2, 0])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            width = {"lstm_hidden_size": 3} if name.startswith("LSTM") else {"hidden_size": 8}
            self.network = ARCHITECTURES[name](self.N_STATES, self.N_ACTIONS, **width).double()
        for seed, parameter in enumerate(self.network.parameters()):
            parameter.data += 0.1 * normal(*parameter.shape, seed=seed + 50)
        rewards = normal(14, seed=4)
        states, actions = (one_hot(x, 3).double() for x in (self.states, self.actions))
        self.inputs = RewardInputs(states, actions, rewards, rewards, episodes)

    def _act(self, n: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
        states = torch.randint(self.N_STATES, (n,), generator=generator(seed))
        actions = torch.multinomial(self.behaviour.exp()[states], 1, generator=generator(seed + 10))[:, 0]
        return states, actions, self.behaviour[states, actions]

    def log_policy(self, theta: Tensor) -> Tensor:
        free = theta.view(self.N_STATES, self.N_ACTIONS - 1)
        return torch.log_softmax(torch.cat([free, torch.zeros(self.N_STATES, 1, dtype=free.dtype)], dim=1), dim=1)

    def advantages(self) -> Tensor:
        return standardise(discounted_sum(self.network(self.inputs), self.inputs.episodes, 0.8))

    def training(self, theta: Tensor, advantages: Tensor) -> Tensor:
        log_policy = self.log_policy(theta)
        divergence = (self.behaviour.exp() * (self.behaviour - log_policy)).sum(dim=1)[self.states].mean()
        value = self.objective(log_policy[self.states, self.actions], self.old_log_probs, advantages)
        return value - self.KL_COEF * divergence

    def validation(self, theta: Tensor) -> Tensor:
        log_probs = self.log_policy(theta)[self.held_out_states, self.held_out_actions]
        return surrogate(log_probs, self.held_out_old, self.held_out_advantages)

    def optimum(self) -> Tensor:
        """By Newton's method from the policy that acted."""
        advantages = self.advantages().detach()
        theta = (self.behaviour[:, :-1] - self.behaviour[:, -1:]).flatten()
        for _ in range(50):
            theta.requires_grad_()
            gradient = flat_gradient(self.training(theta, advantages), [theta])
            hessian = torch.autograd.functional.hessian(lambda x: -self.training(x, advantages), theta.detach())
            if float(gradient.norm()) < 1e-14:
                break
            theta = theta.detach() + torch.linalg.solve(hessian, gradient)
        assert float(gradient.norm()) < 1e-13
        assert float(torch.linalg.eigvalsh(hessian).min()) > 0
        return theta.detach()

    def hypergradient(self, curved: bool = True) -> Tensor:
        theta = self.optimum().requires_grad_()
        advantages = self.advantages().detach().requires_grad_()
        training = self.training(theta, advantages)
        curvature = hessian_product(-training, [theta]) if curved else None
        weights, _ = weights_of(self.validation(theta), training, advantages, [theta], curvature, cg_steps=30)
        return flat_gradient((weights * self.advantages()).sum(), list(self.network.parameters()))

    def slope(self, direction: Sequence[Tensor], step: float = 1e-5) -> float:
        """Central difference of the held-out objective at re-solved optima."""
        sides = []
        for sign in (1.0, -1.0):
            for parameter, part in zip(self.network.parameters(), direction, strict=True):
                parameter.data += sign * step * part
            sides.append(float(self.validation(self.optimum())))
            for parameter, part in zip(self.network.parameters(), direction, strict=True):
                parameter.data -= sign * step * part
        return (sides[0] - sides[1]) / (2.0 * step)


@every_objective
@pytest.mark.parametrize("name", ["LSTMbMul", "LSTMf", "MLPConcat"])
def test_the_implicit_gradient_is_the_slope_of_the_held_out_objective_at_resolved_optima(name, objective: Objective):
    problem = TabularProblem(name, objective)
    implicit_gradient, one_step = problem.hypergradient(), problem.hypergradient(curved=False)
    parameters = list(problem.network.parameters())
    along_itself = implicit_gradient / implicit_gradient.norm()
    for direction in (along_itself, *(x / x.norm() for x in normal(2, len(along_itself), seed=9))):
        sizes = [parameter.numel() for parameter in parameters]
        parts = [part.view_as(p) for part, p in zip(direction.split(sizes), parameters, strict=True)]
        slope = problem.slope(parts)
        assert float(implicit_gradient @ direction) == pytest.approx(slope, rel=1e-6)
        assert float(one_step @ direction) != pytest.approx(slope, rel=1e-2)


# Through the public class, on policies of Stable-Baselines3

OBSERVATIONS = spaces.Box(-np.inf, np.inf, (3,), dtype=np.float32)
ACTIONS: dict[str, spaces.Space] = {
    "gaussian": spaces.Box(-1, 1, (2,), dtype=np.float32),
    "gsde": spaces.Box(-1, 1, (2,), dtype=np.float32),
    "categorical": spaces.Discrete(3),
    "multi_categorical": spaces.MultiDiscrete([2, 3]),
    "bernoulli": spaces.MultiBinary(2),
}
DISCRETE = ("categorical", "multi_categorical", "bernoulli")
every_kind = pytest.mark.parametrize("kind", ACTIONS)


class DoubleExtractor(BaseFeaturesExtractor):
    """SB3's preprocessing gives single precision; this takes it back to the policy's own."""

    def __init__(self, observation_space: spaces.Space) -> None:
        super().__init__(observation_space, features_dim=3)
        self.layer = nn.Linear(3, 3)

    def forward(self, observations: Tensor) -> Tensor:
        return torch.tanh(self.layer(observations.to(self.layer.weight.dtype)))


class RestlessExtractor(BaseFeaturesExtractor):
    """In training mode its statistics move and it draws from the global generator."""

    def __init__(self, observation_space: spaces.Space) -> None:
        super().__init__(observation_space, features_dim=3)
        self.norm = nn.BatchNorm1d(3)
        self.dropout = nn.Dropout(0.5)

    def forward(self, observations: Tensor) -> Tensor:
        return self.dropout(self.norm(observations.to(self.norm.weight.dtype)))


def policy_of(
    kind: str, extractor: type[BaseFeaturesExtractor] = DoubleExtractor, policy_class: Any = ActorCriticPolicy
) -> Any:
    """A tiny policy in double precision, with weights well away from where SB3 starts them."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        policy = policy_class(
            OBSERVATIONS,
            ACTIONS[kind],
            lambda _: 1e-3,
            net_arch={"pi": [3], "vf": [3]},
            features_extractor_class=extractor,
            **({"use_sde": True} if kind == "gsde" else {}),
        ).double()
        return moved(policy, 0.4, seed=1)


def moved(policy: Any, size: float, seed: int) -> Any:
    with torch.no_grad():
        for i, parameter in enumerate(policy.parameters()):
            parameter += size * normal(*parameter.shape, seed=seed + 1000 * i).to(parameter)
    return policy


def steps_of(policy: Any, n: int, seed: int, masks: Tensor | None = None) -> PolicySteps:
    """Random states, and what ``policy`` does in them."""
    observations = normal(n, 3, seed=seed).float()
    keywords = {} if masks is None else {"action_masks": masks}
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        policy.eval()
        distribution = policy.get_distribution(observations, **keywords)
        actions = distribution.distribution.sample() if hasattr(distribution.distribution, "sample") else distribution.sample()
        old_log_probs = distribution.log_prob(actions)
    return PolicySteps(observations, actions, old_log_probs, masks)


class FixedHost(NamedTuple):
    """A policy and what it maximises."""

    policy: Any
    objective: HostObjective
    optimiser: Any = None


def gradients_of(
    policy: Any, objective: Objective = surrogate, curvature: str = "fisher", actor_parameters: str = "all", **settings: float
) -> PolicyGradients:
    excluded = ("log_std",) if actor_parameters == "without_log_std" else ()
    return PolicyGradients(FixedHost(policy, HostObjective(objective)), CURVATURES[curvature](**settings), excluded)


class Setting(NamedTuple):
    """A policy that has moved since it acted, what it did, and the class under test."""

    policy: Any
    behaviour: Any
    gradients: PolicyGradients
    training: Batch
    validation: Batch
    curved: Batch
    cg_steps: int = 10

    def reward_weights(self) -> Estimate:
        return reward_weights(self.gradients, self.training, self.validation, self.curved, self.cg_steps)

    def operator(self, monkeypatch: pytest.MonkeyPatch) -> LinearMap:
        """The map that :meth:`reward_weights` solves with."""
        seen: list[LinearMap] = []

        def spy(product: LinearMap, target: Tensor, *_: Any) -> Solution:
            seen.append(product)
            return Solution(target, 0.0, 0, False)

        with monkeypatch.context() as patched:
            patched.setattr(implicit, "conjugate_gradient", spy)
            self.reward_weights()
        return seen[0]

    def actor(self) -> list[Tensor]:
        """In the policy's order."""
        return [p for name, p in self.policy.named_parameters() if "value_net" not in name and not name.startswith("vf_")]


def setting_of(
    kind: str, objective: Objective = surrogate, extractor: type[BaseFeaturesExtractor] = DoubleExtractor, **settings: Any
) -> Setting:
    behaviour = policy_of(kind, extractor)
    policy = moved(policy_of(kind, extractor), 0.1, seed=3)
    cg_steps = settings.pop("cg_steps", 10)
    gradients, acted = (gradients_of(each, objective, **settings) for each in (policy, behaviour))
    batches = []
    for seed, n in ((10, 8), (11, 7), (12, 9)):
        steps = steps_of(behaviour, n, seed)
        steps = replace(steps, behaviour=acted.behaviour(steps))
        batches.append(Batch(steps, standardise(normal(n, seed=seed + 5))))
    return Setting(policy, behaviour, gradients, *batches, cg_steps=cg_steps)


def dense(product: LinearMap, size: int) -> Tensor:
    return torch.stack([product(row) for row in torch.eye(size, dtype=torch.float64)])


def log_prob_gradients(policy: Any, observations: Tensor, actions: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """``[n, p]`` score of each action."""
    log_probs = policy.get_distribution(observations).log_prob(actions)
    return torch.stack([flat_gradient(log_prob, parameters) for log_prob in log_probs])


def fisher_by_enumeration(setting: Setting, kind: str) -> Tensor:
    """Mean over states of the sum over actions of pi(a) score(a) score(a)'."""
    observations = setting.curved.steps.observations
    choices = {
        "categorical": [(a,) for a in range(3)],
        "multi_categorical": list(itertools.product(range(2), range(3))),
        "bernoulli": list(itertools.product(range(2), repeat=2)),
    }[kind]
    total: Any = 0.0
    for choice in choices:
        actions = torch.tensor([choice] * len(observations), dtype=torch.float64)
        actions = actions[:, 0] if kind == "categorical" else actions
        scores = log_prob_gradients(setting.policy, observations, actions, setting.actor())
        with torch.no_grad():
            probabilities = setting.policy.get_distribution(observations).log_prob(actions).exp()
        total = total + scores.T @ (probabilities[:, None] * scores)
    return total / len(observations)


def fisher_of_gaussian(setting: Setting) -> Tensor:
    """Mean over states of J_loc' J_loc / scale^2 + 2 J_scale' J_scale / scale^2, summed over action dimensions."""
    gaussian = setting.policy.get_distribution(setting.curved.steps.observations).distribution
    loc, scale = gaussian.loc.flatten(), gaussian.scale.flatten()
    loc_jacobian, scale_jacobian = (
        torch.stack([flat_gradient(y, setting.actor()) for y in output]) for output in (loc, scale)
    )
    precision = scale.detach().pow(-2)[:, None]
    total = loc_jacobian.T @ (precision * loc_jacobian) + 2.0 * scale_jacobian.T @ (precision * scale_jacobian)
    return total / len(setting.curved.steps.observations)


@every_kind
def test_the_fisher_map_is_the_fisher_matrix_times_the_coefficient_plus_damping(kind, monkeypatch):
    setting = setting_of(kind, curvature="fisher", kl_coef=0.7, damping=0.03)
    fisher = fisher_by_enumeration(setting, kind) if kind in DISCRETE else fisher_of_gaussian(setting)
    expected = 0.7 * fisher + 0.03 * torch.eye(len(fisher), dtype=torch.float64)
    torch.testing.assert_close(dense(setting.operator(monkeypatch), len(fisher)), expected, rtol=1e-9, atol=1e-10)
    assert float(fisher.norm()) > 0.01


@every_kind
def test_the_fisher_map_is_symmetric_and_positive_semi_definite(kind, monkeypatch):
    setting = setting_of(kind, curvature="fisher", damping=0.0)
    product = setting.operator(monkeypatch)
    size = sum(parameter.numel() for parameter in setting.actor())
    vectors = normal(20, size, seed=0)
    images = torch.stack([product(vector) for vector in vectors])
    torch.testing.assert_close(images @ vectors.T, vectors @ images.T, rtol=1e-9, atol=1e-10)
    forms = (images * vectors).sum(dim=1)
    assert float(forms.min()) >= -1e-12
    assert float(forms.max()) > 0.01
    assert float(torch.linalg.eigvalsh(dense(product, size)).min()) >= -1e-12


@every_kind
@pytest.mark.parametrize("objective", [surrogate, log_likelihood])
def test_the_hessian_map_is_that_of_the_penalty_minus_the_objective(kind, objective: Objective, monkeypatch):
    setting = setting_of(kind, objective, curvature="hessian", kl_coef=0.6, damping=0.02)
    steps, advantages = setting.curved
    distribution = setting.policy.get_distribution(steps.observations)
    with torch.no_grad():
        before = setting.behaviour.get_distribution(steps.observations)
    divergence = sb3_kl_divergence(before, distribution)
    divergence = (divergence if divergence.dim() == 1 else divergence.sum(dim=1)).mean()
    value = objective(distribution.log_prob(steps.actions), steps.old_log_probs, advantages)
    gradient = flat_gradient(0.6 * divergence - value, setting.actor(), create_graph=True)
    hessian = torch.stack([flat_gradient(entry, setting.actor()) for entry in gradient])
    expected = hessian + 0.02 * torch.eye(len(hessian), dtype=torch.float64)
    torch.testing.assert_close(dense(setting.operator(monkeypatch), len(hessian)), expected, rtol=1e-8, atol=1e-10)


@every_kind
def test_without_curvature_the_solution_is_the_held_out_gradient(kind):
    setting = setting_of(kind, curvature="identity")
    solution = setting.reward_weights()[1]
    torch.testing.assert_close(solution.x, setting.gradients.gradient(setting.validation))


@every_kind
@pytest.mark.parametrize("objective", [surrogate, log_likelihood])
def test_the_gradient_is_the_mean_of_scores_times_advantages(kind, objective: Objective):
    setting = setting_of(kind, objective)
    steps, advantages = setting.training
    scores = log_prob_gradients(setting.policy, steps.observations, steps.actions, setting.actor())
    with torch.no_grad():
        log_probs = setting.policy.get_distribution(steps.observations).log_prob(steps.actions)
    ratios = torch.exp(log_probs - steps.old_log_probs) if objective is surrogate else torch.ones(8, dtype=torch.float64)
    gradient = setting.gradients.gradient(setting.training)
    torch.testing.assert_close(gradient, (ratios * advantages) @ scores / 8)
    assert not gradient.requires_grad


@pytest.mark.parametrize(("curved", "passes"), [("validation", 2), ("training", 3)])
def test_the_validation_objective_and_the_curvature_on_its_steps_share_a_pass_through_the_policy(curved, passes, monkeypatch):
    setting = setting_of("gaussian", curvature="hessian")
    batch = Batch(getattr(setting, curved).steps, getattr(setting, curved).advantages + 1.0)
    copied = Batch(replace(batch.steps), batch.advantages)
    arguments = (setting.gradients, setting.training, setting.validation)
    apart = reward_weights(*arguments, copied)
    seen: list[int] = []
    evaluate = setting.gradients.evaluate
    monkeypatch.setattr(setting.gradients, "evaluate", lambda *args: (seen.append(1), evaluate(*args))[1])
    shared = reward_weights(*arguments, batch)
    assert len(seen) == passes
    assert torch.equal(shared.weights, apart.weights)


@every_kind
@pytest.mark.parametrize("objective", [surrogate, log_likelihood])
def test_weights_are_scores_along_the_solution_of_the_damped_fisher_system(kind, objective: Objective):
    setting = setting_of(kind, objective, curvature="fisher", kl_coef=0.7, damping=0.05, cg_steps=100)
    weights, solution = setting.reward_weights()
    fisher = fisher_by_enumeration(setting, kind) if kind in DISCRETE else fisher_of_gaussian(setting)
    matrix = 0.7 * fisher + 0.05 * torch.eye(len(fisher), dtype=torch.float64)
    x = torch.linalg.solve(matrix, setting.gradients.gradient(setting.validation))
    torch.testing.assert_close(solution.x, x, rtol=1e-6, atol=1e-9)
    steps = setting.training.steps
    scores = log_prob_gradients(setting.policy, steps.observations, steps.actions, setting.actor())
    with torch.no_grad():
        log_probs = setting.policy.get_distribution(steps.observations).log_prob(steps.actions)
    ratios = torch.exp(log_probs - steps.old_log_probs) if objective is surrogate else torch.ones(8, dtype=torch.float64)
    torch.testing.assert_close(weights, ratios * (scores @ x) / 8, rtol=1e-6, atol=1e-9)
    assert float(weights.abs().max()) > 1e-4


def test_masked_actions_are_masked_in_objective_and_curvature(monkeypatch):
    """With one action masked everywhere the policy is one of two actions, whatever the third one's logit."""
    masks = torch.tensor([[True, True, False]] * 8)
    policy = policy_of("categorical", policy_class=MaskableActorCriticPolicy)
    batch = Batch(steps_of(policy, 8, seed=10, masks=masks), normal(8, seed=5))
    gradients = gradients_of(policy)
    setting = Setting(policy, policy, gradients, batch, batch, batch)
    operator, before = setting.operator(monkeypatch), setting.reward_weights()
    vector = normal(before[1].x.numel(), seed=7)
    image = operator(vector)
    with torch.no_grad():
        policy.action_net.bias[2] += 3.0
    torch.testing.assert_close(setting.reward_weights(), before)
    torch.testing.assert_close(setting.operator(monkeypatch)(vector), image)
    with torch.no_grad():
        policy.action_net.bias[1] += 3.0
    assert not torch.allclose(setting.reward_weights()[0], before[0])


@pytest.mark.parametrize("kind", ["gaussian", "gsde"])
@pytest.mark.parametrize("curvature", ["fisher", "hessian", "identity"])
def test_without_log_std_only_the_other_parameters_enter(kind, curvature, monkeypatch):
    settings = {"curvature": curvature, "kl_coef": 2.0, "damping": 1.0, "cg_steps": 60}
    everything = setting_of(kind, **settings)
    without = setting_of(kind, **settings, actor_parameters="without_log_std")
    assert next(iter(dict(everything.policy.named_parameters()))) == "log_std"
    n_std = everything.policy.log_std.numel()
    gradient = everything.gradients.gradient(everything.validation)
    torch.testing.assert_close(without.gradients.gradient(without.validation), gradient[n_std:])
    x = without.reward_weights()[1].x
    if curvature == "identity":
        torch.testing.assert_close(x, gradient[n_std:])
    else:
        matrix = dense(everything.operator(monkeypatch), len(gradient))[n_std:, n_std:]
        assert float(torch.linalg.eigvalsh(matrix).min()) > 0
        torch.testing.assert_close(x, torch.linalg.solve(matrix, gradient[n_std:]), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("curvature", ["fisher", "hessian", "identity"])
@pytest.mark.parametrize("kind", ["gaussian", "gsde"])
def test_a_frozen_log_std_stays_out_of_it(kind, curvature):
    frozen = setting_of(kind, curvature=curvature, damping=1.0)
    frozen.policy.log_std.requires_grad_(False)
    without = setting_of(kind, curvature=curvature, damping=1.0, actor_parameters="without_log_std")
    for ours, expected in zip(frozen.reward_weights(), without.reward_weights(), strict=True):
        torch.testing.assert_close(ours, expected)


def test_a_layer_enters_the_gradient_when_it_is_unfrozen():
    setting, never_frozen = setting_of("categorical"), setting_of("categorical")
    layer = setting.policy.features_extractor.layer
    layer.requires_grad_(False)
    without = setting.gradients.gradient(setting.validation)
    layer.requires_grad_(True)
    gradient = setting.gradients.gradient(setting.validation)
    assert len(gradient) == len(without) + 12
    torch.testing.assert_close(gradient, never_frozen.gradients.gradient(never_frozen.validation))


def test_advantages_are_standardised_as_the_host_does_it_or_left_as_they_are():
    advantages = normal(6, seed=0)
    standardising, plain = (OnPolicyHost(ppo(normalize_advantage=flag)) for flag in (True, False))
    expected = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    assert torch.equal(standardising.standardise(advantages), expected)
    assert torch.equal(plain.standardise(advantages), advantages)


def snapshot(policy: Any) -> dict[str, Any]:
    """All that measuring a gradient must leave as it was."""
    return copy.deepcopy(
        {
            "weights and buffers": policy.state_dict(),
            "gradients": [None if p.grad is None else p.grad for p in policy.parameters()],
            "needs gradient": [p.requires_grad for p in policy.parameters()],
            "modes": [module.training for module in policy.modules()],
            "optimiser": policy.optimizer.state_dict(),
            "torch": torch.get_rng_state(),
            "numpy": np.random.get_state(),  # noqa: NPY002
        }
    )


def assert_same(before: Any, after: Any, path: str = "") -> None:
    assert type(before) is type(after), path
    if isinstance(before, dict):
        assert before.keys() == after.keys(), path
        for key, value in before.items():
            assert_same(value, after[key], f"{path}/{key}")
    elif isinstance(before, (list, tuple)):
        assert len(before) == len(after), path
        for i, (one, other) in enumerate(zip(before, after, strict=True)):
            assert_same(one, other, f"{path}/{i}")
    elif isinstance(before, (Tensor, np.ndarray)):
        assert torch.equal(torch.as_tensor(before), torch.as_tensor(after)), path
    else:
        assert before == after, path


@every_kind
@pytest.mark.parametrize("curvature", ["fisher", "hessian", "identity"])
def test_measuring_gradients_leaves_the_policy_its_optimiser_and_the_generators_as_they_were(kind, curvature):
    setting = setting_of(kind, extractor=RestlessExtractor, curvature=curvature)
    policy = setting.policy
    policy.set_training_mode(True)
    policy.mlp_extractor.eval()
    loss = policy.get_distribution(setting.training.steps.observations).log_prob(setting.training.steps.actions).sum()
    loss.backward()
    policy.optimizer.step()
    before = snapshot(policy)
    assert before["optimiser"]["state"]
    assert before["modes"].count(False)
    assert policy.features_extractor.norm.num_batches_tracked == 1
    first = setting.gradients.gradient(setting.validation), setting.reward_weights()
    setting.gradients.behaviour(setting.training.steps)
    assert_same(before, snapshot(policy))
    again = setting.gradients.gradient(setting.validation), setting.reward_weights()
    assert_same(first, again)


def test_modes_are_given_back_even_if_the_policy_fails():
    setting = setting_of("categorical", extractor=RestlessExtractor)
    setting.policy.set_training_mode(True)
    steps, advantages = setting.training
    broken = Batch(replace(steps, observations=torch.zeros(8, 5)), advantages)
    with pytest.raises(RuntimeError):
        setting.gradients.gradient(broken)
    assert all(module.training for module in setting.policy.modules())


def in_single_precision(batch: Batch) -> Batch:
    steps = batch.steps
    behaviour = steps.behaviour and [
        {name: value.float() for name, value in component.items()} for component in steps.behaviour
    ]
    return Batch(replace(steps, old_log_probs=steps.old_log_probs.float(), behaviour=behaviour), batch.advantages.float())


@every_kind
@pytest.mark.parametrize("curvature", ["fisher", "hessian", "identity"])
def test_in_single_precision_too_everything_is_finite(kind, curvature):
    setting = setting_of(kind, curvature=curvature)
    setting.policy.float()
    batches = [in_single_precision(batch) for batch in (setting.training, setting.validation, setting.curved)]
    weights, solution = reward_weights(setting.gradients, *batches)
    assert weights.dtype == torch.float32
    assert torch.isfinite(weights).all()
    assert float(weights.abs().max()) > 0
    assert 0.0 <= solution.residual < math.inf

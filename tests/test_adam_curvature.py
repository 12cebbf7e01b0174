"""The curvature that is read from the host's own Adam: exact, as the optimiser left it, and refused where there is none."""

from typing import Any

import pytest
import torch
from builders import normal
from sb3_contrib import TRPO, MaskablePPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3 import A2C, PPO
from toys import ITERATION, SMALL, TINY_NET, Toy, all_of, differences, generators, ppo, set_generators, tare, tare_awr, vec_env

from sb3_tare import LIRPG, TAREPPO, RewardLearner, RewardSettings
from sb3_tare.hypergradient.conjugate_gradient import conjugate_gradient
from sb3_tare.hypergradient.implicit import implicit_weights, solved
from sb3_tare.hypergradient.update import PolicyUpdate
from sb3_tare.policy.adam_diagonal import adam_diagonal
from sb3_tare.policy.curvature import CURVATURES
from sb3_tare.policy.products import Diagonal

ADAM = {"reward_every": 0, "preset": "implicit", "curvature": "adam"}
AS_CALLBACK = {
    PPO: {"batch_size": 32, "n_epochs": 2},
    A2C: {"use_rms_prop": False},
    MaskablePPO: {"batch_size": 32, "n_epochs": 2},
}


def walks(n_envs: int = 2) -> Any:
    return vec_env(n_envs, lambda: Toy(p_end=0.05))


def of_state(optimiser: torch.optim.Adam, parameters: list[torch.Tensor]) -> torch.Tensor:
    """sqrt(v) + eps over its mean, as the paper of Adam has v."""
    (group,) = optimiser.param_groups
    divisors = []
    for parameter in parameters:
        state = optimiser.state[parameter]
        v = state["exp_avg_sq"].double() / (1 - group["betas"][1] ** int(state["step"]))
        divisors.append((v.sqrt() + group["eps"]).flatten())
    return torch.cat(divisors) / torch.cat(divisors).mean()


# Mathematics


def test_the_solution_is_that_of_a_dense_solve_and_of_conjugate_gradient():
    diagonal, target = normal(9, seed=0).square() + 0.1, normal(9, seed=1)
    solution = solved(Diagonal(diagonal), target, cg_steps=1)
    torch.testing.assert_close(solution.x, torch.linalg.solve(torch.diag(diagonal), target))
    torch.testing.assert_close(solution.x, conjugate_gradient(Diagonal(diagonal), target, max_steps=50).x)
    assert solution == (solution.x, 0.0, 0, False)


def test_where_the_hessian_is_that_diagonal_the_weights_are_the_closed_form():
    """Maximise A'F theta - theta'D theta / 2, D diagonal: theta* = F'A / D, and d(c'theta*)/dA = F c / D."""
    features, target, diagonal = normal(7, 4, seed=0), normal(4, seed=1), normal(4, seed=2).square() + 0.5
    theta = normal(4, seed=3).requires_grad_()
    update = PolicyUpdate(
        [theta],
        normal(7, seed=4).requires_grad_(),
        lambda parameters, advantages: advantages @ (features @ parameters[0]) - diagonal @ parameters[0].square() / 2,
        lambda parameters: target @ parameters[0],
    )
    torch.testing.assert_close(implicit_weights(update, Diagonal(diagonal)).weights, features @ (target / diagonal))


@pytest.mark.parametrize("amsgrad", [False, True])
def test_behind_many_equal_gradients_it_is_their_size(amsgrad):
    gradient = normal(5, seed=0)
    parameter = torch.nn.Parameter(torch.zeros(5, dtype=torch.float64))
    optimiser = torch.optim.Adam([parameter], amsgrad=amsgrad, eps=0.01)
    for _ in range(3):
        parameter.grad = gradient.clone()
        optimiser.step()
    expected = gradient.abs() + 0.01
    torch.testing.assert_close(adam_diagonal(optimiser, [parameter]), expected / expected.mean())


def test_an_adam_that_has_not_moved_yet_has_no_diagonal():
    parameter = torch.nn.Parameter(torch.zeros(2))
    with pytest.raises(RuntimeError, match="train the policy first"):
        adam_diagonal(torch.optim.Adam([parameter]), [parameter])
    with pytest.raises(TypeError, match="needs the state of an Adam, got SGD"):
        adam_diagonal(torch.optim.SGD([parameter], lr=0.1), [parameter])


# Hosts


@pytest.mark.parametrize("validation", ["split", "next_rollout"])
def test_behind_leanppos_flat_adam_it_is_the_same_as_behind_sb3s(validation):
    settings = {**ADAM, "validation": validation}
    learner, model = RewardLearner(**settings), ppo(walks())
    model.learn(3 * 2 * ITERATION, callback=learner)
    lean = tare(walks(), **settings).learn(3 * 2 * ITERATION)
    assert not differences(all_of(lean), all_of(model, learner))
    actor = lean.reward_learner.trainer.gradients.actor_parameters(_objective_of(lean))
    diagonal = adam_diagonal(lean.policy.optimizer, actor)
    torch.testing.assert_close(diagonal.double(), of_state(lean.policy.optimizer, actor), rtol=1e-5, atol=1e-6)
    assert float(diagonal.std()) > 0.1


def _objective_of(model: Any) -> torch.Tensor:
    distribution = model.policy.get_distribution(torch.zeros(2, 3))
    return distribution.log_prob(torch.zeros(2, 2)).sum()


@pytest.mark.parametrize("algorithm", AS_CALLBACK, ids=lambda algorithm: algorithm.__name__)
def test_as_a_callback_it_reads_every_host_that_has_an_adam(algorithm):
    env = InvalidActionEnvDiscrete(dim=8, n_invalid_actions=4) if algorithm is MaskablePPO else walks()
    model = algorithm("MlpPolicy", env, n_steps=ITERATION, seed=0, policy_kwargs=dict(TINY_NET), **AS_CALLBACK[algorithm])
    learner = RewardLearner(**ADAM)
    model.learn(3 * model.n_envs * ITERATION, callback=learner)
    logged = model.logger.name_to_value
    assert logged["reward/hypergradient_norm"] > 0.0
    assert (logged["reward/cg_steps"], logged["reward/cg_residual"]) == (0.0, 0.0)


def test_between_the_hosts_epochs_it_is_as_they_have_left_it():
    model = tare(walks(), interleave=True, **ADAM).learn(2 * 2 * ITERATION)
    learner, plain = RewardLearner(interleave=True, **ADAM), ppo(walks())
    plain.learn(2 * 2 * ITERATION, callback=learner)
    assert not differences(all_of(model), all_of(plain, learner))


def test_it_is_another_gradient_than_the_identitys():
    adam, identity = (
        tare(walks(), preset="implicit", curvature=name).learn(2 * 2 * ITERATION) for name in ("adam", "identity")
    )
    assert differences(all_of(adam), all_of(identity))


def test_awr_with_an_adam_of_its_own_is_a_host_too():
    host = {"policy_kwargs": {**TINY_NET, "optimizer_class": torch.optim.Adam}, "learning_rate": 1e-3}
    model = tare_awr(walks(1), host=host, sampled_steps=64, **ADAM)
    model.learn(3 * ITERATION)
    assert model.logger.name_to_value["reward/hypergradient_norm"] > 0.0


def test_a_saved_run_goes_on_as_if_it_had_not_been_interrupted(tmp_path):
    settings = {**ADAM, "validation": "next_rollout"}
    set_generators(start := generators())
    whole = tare(vec_env(1, lambda: Toy(horizon=16)), **settings).learn(6 * ITERATION)
    set_generators(start)
    first = tare(vec_env(1, lambda: Toy(horizon=16)), **settings)
    env = first.get_env()
    first.learn(3 * ITERATION)
    first.save(tmp_path / "model")
    second = TAREPPO.load(tmp_path / "model", env=env, force_reset=False)
    second.learn(3 * ITERATION, reset_num_timesteps=False)
    assert not differences(all_of(whole), all_of(second))


# The default


def curvature_on(algorithm: Any) -> Any:
    model = algorithm("MlpPolicy", walks(), n_steps=64, seed=0)
    learner = RewardLearner(preset="implicit")
    learner.attach(model)
    return type(learner.trainer.gradients.curvature)


def test_it_is_the_default_on_hosts_that_have_an_adam_and_the_fisher_matrix_on_others():
    assert curvature_on(PPO) is CURVATURES["adam"]
    assert curvature_on(lambda *args, **kwargs: A2C(*args, use_rms_prop=False, **kwargs)) is CURVATURES["adam"]
    assert curvature_on(A2C) is curvature_on(TRPO) is CURVATURES["fisher"]
    assert type(tare_awr(walks(1), preset="implicit").reward_learner.trainer.gradients.curvature) is CURVATURES["fisher"]


def test_the_papers_presets_keep_the_papers_curvatures():
    settings = {preset: RewardSettings(preset=preset).gradient for preset in ("paper", "paper_literal")}
    assert [(each.curvature, each.damping) for each in settings.values()] == [("fisher", 0.1), ("hessian", 0.1)]
    assert {each.curvature_episodes for each in settings.values()} == {"validation"}


# Refusals


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: A2C("MlpPolicy", walks(), n_steps=64), "A2C's is moved by RMSprop: use .*'optimizer_class'"),
        (lambda: TRPO("MlpPolicy", walks(), n_steps=64), "TRPO's is moved by no optimiser of torch: use curvature='fisher'"),
        (
            lambda: PPO("MlpPolicy", walks(), n_steps=64, policy_kwargs={"optimizer_class": torch.optim.SGD}),
            "PPO's is moved by SGD",
        ),
    ],
    ids=["A2C", "TRPO", "SGD"],
)
def test_a_host_whose_actor_no_adam_moves_is_refused_at_once(make, message):
    with pytest.raises(ValueError, match=f"curvature='adam' is read from the Adam that moves the actor, and {message}"):
        RewardLearner(**ADAM).attach(make())


def test_awr_as_its_authors_have_it_is_refused():
    with pytest.raises(ValueError, match="TAREAWR's is moved by SGD"):
        tare_awr(walks(1), **ADAM)


def test_lirpg_which_goes_through_the_step_of_adam_itself_has_no_choice_of_curvature():
    with pytest.raises(ValueError, match="curvature"):
        LIRPG("MlpPolicy", walks(), reward_kwargs={"curvature": "adam"}, **SMALL)

"""LIRPG: its gradient is that of an unrolled step of PPO, its place is after each of them, and the rest is TAREPPO's."""

import copy
import re
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from builders import unrolled_adam
from gymnasium import spaces
from sb3_contrib import MaskablePPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3 import A2C
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn
from torch.func import functional_call
from toys import (
    BOX,
    ITERATION,
    OBSERVATION,
    SMALL,
    TINY_NET,
    LinearReward,
    NormDropoutExtractor,
    NotANumber,
    Toy,
    all_of,
    differences,
    generators,
    not_finite,
    policy_of,
    ppo,
    set_generators,
    snapshot,
    tare,
    vec_env,
)

from sb3_tare import LIRPG
from sb3_tare.algorithms.lirpg import LIRPGLearner
from sb3_tare.data.rollout import Rollout
from sb3_tare.policy.objectives import clipped_surrogate

torch.set_num_threads(1)

AS_PPO = {"reward_mode": "add", "n_reward_updates": 0}
N_STEPS = SMALL["n_epochs"] * ITERATION // SMALL["batch_size"]
"""Steps of the policy in an iteration."""


def lirpg(env: Any = None, policy: Any = "MlpPolicy", host: Any = SMALL, **reward_kwargs: Any) -> LIRPG:
    return LIRPG(policy, vec_env() if env is None else env, reward_kwargs=reward_kwargs, **{**SMALL, **host})


# Its gradient


class DoubleExtractor(BaseFeaturesExtractor):
    """Lets a policy be one of double precision once ``double()`` has made it one."""

    precision: Tensor

    def __init__(self, observation_space: spaces.Box) -> None:
        super().__init__(observation_space, observation_space.shape[0])
        self.register_buffer("precision", torch.zeros(()))

    def forward(self, observations: Tensor) -> Tensor:
        return observations.to(self.precision.dtype)


class Evaluation(nn.Module):
    """A policy's ``evaluate_actions`` as a module, for ``functional_call``."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.policy = policy

    def forward(self, observations: Tensor, actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.policy.evaluate_actions(observations, actions)


def timing_of(model: LIRPG) -> Any:
    return model.reward_learner._attached.iteration.timing


def unrolled(model: LIRPG, rollout: Rollout, rows: Tensor, step: Any, parameters: Any) -> tuple[Tensor, list[Tensor]]:
    """Where a step of PPO on the learned reward leads, and the gradient in phi of the extrinsic objective there."""
    trainer, steps = model.reward_learner.trainer, rollout.policy
    module = Evaluation(model.policy)
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    sizes = [parameter.numel() for parameter in parameters]

    def evaluate(vector: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        parts = zip(parameters, vector.split(sizes), strict=True)
        named = {names[id(parameter)]: part.view_as(parameter) for parameter, part in parts}
        return functional_call(module, named, (steps.observations[rows], steps.actions[rows]), tie_weights=False)

    def objective(log_probs: Tensor, advantages: Tensor) -> Tensor:
        standardised = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        return clipped_surrogate(log_probs, steps.old_log_probs[rows], standardised, model.clip_range(1.0))

    phi = list(trainer.reward_model.network.parameters())
    advantages = trainer.advantages.parameterised(
        rollout, trainer.reward_model(rollout.reward), trainer.advantages.extrinsic(rollout)
    )[rows]
    theta = step.parameters.clone().requires_grad_()
    values, log_probs, entropy = evaluate(theta)
    extrinsic = trainer.advantages.extrinsic(rollout)
    returns = (extrinsic + rollout.policy_critic.values)[rows]
    critic_loss = nn.functional.mse_loss(values.flatten(), returns)
    loss = -objective(log_probs, advantages) - model.ent_coef * entropy.mean() + model.vf_coef * critic_loss
    (gradient,) = torch.autograd.grad(loss, theta, create_graph=True)
    arrived = unrolled_adam(
        theta.detach(), gradient, step.exp_avg, step.exp_avg_sq, int(step.count[0]), model.max_grad_norm,
        through_second_moment=trainer.settings.one_step.through_second_moment,
    )  # fmt: skip
    outer = objective(evaluate(arrived)[1], extrinsic[rows])
    return arrived.detach(), list(torch.autograd.grad(outer, phi))


@pytest.mark.parametrize("max_grad_norm", [0.5, 1e6], ids=["clipped", "not clipped"])
@pytest.mark.parametrize("through_second_moment", [True, False])
@pytest.mark.parametrize("action_space", [BOX, spaces.Discrete(3)], ids=["continuous", "discrete"])
@pytest.mark.parametrize("reward_mode", ["replace", "add"])
def test_the_reward_follows_the_gradient_of_an_unrolled_step(
    action_space, through_second_moment, max_grad_norm, reward_mode, monkeypatch
):
    model = lirpg(
        vec_env(2, lambda: Toy(action_space=action_space, p_end=0.05)),
        host={
            "policy_kwargs": {**TINY_NET, "features_extractor_class": DoubleExtractor},
            "learning_rate": 1e-2,
            "clip_range": 0.1,
            "ent_coef": 0.01,
            "max_grad_norm": max_grad_norm,
            "n_steps": 32,
        },
        through_second_moment=through_second_moment,
        reward_mode=reward_mode,
        zero_head=False,
    )
    model.policy.double()
    trainer, timing = model.reward_learner.trainer, timing_of(model)
    trainer.reward_model.double()
    expected, followed, scales = [], [], []
    reward_step, step_along = timing._reward_step, trainer.step_along

    def reward_step_too(labelled, rows, step, parameters):
        arrived, gradients = unrolled(model, labelled.sample, rows, step, parameters)
        torch.testing.assert_close(arrived, nn.utils.parameters_to_vector(parameters).detach(), rtol=1e-5, atol=1e-6)
        expected.append(gradients)
        scales.append(float(step.norm) / max_grad_norm)
        reward_step(labelled, rows, step, parameters)

    def step_along_too(weights, advantages):
        loss = trainer.objective(weights, advantages)
        phi = list(trainer.reward_model.network.parameters())
        followed.append([-gradient for gradient in torch.autograd.grad(loss, phi, retain_graph=True)])
        step_along(weights, advantages)

    monkeypatch.setattr(timing, "_reward_step", reward_step_too)
    monkeypatch.setattr(trainer, "step_along", step_along_too)
    model.learn(ITERATION)
    assert len(followed) == N_STEPS
    assert all((scale > 1) == (max_grad_norm == 0.5) for scale in scales)
    for ours, theirs in zip(followed, expected, strict=True):
        ours, theirs = (torch.cat([gradient.flatten() for gradient in gradients]) for gradients in (ours, theirs))
        assert (ours - theirs).norm() < 1e-4 * theirs.norm()  # the host's advantages are in single precision


# Its place


def test_a_reward_step_follows_each_step_of_the_policy_and_relabels_the_mini_batches_after_it():
    model = lirpg(vec_env(2))
    trainer, timing = model.reward_learner.trainer, timing_of(model)
    seen, events = [], []
    reward_step, step_along = timing._reward_step, trainer.step_along

    def look(labelled, rows, *step):
        buffer, rollout = model.rollout_buffer, labelled.sample
        with torch.no_grad():
            expected = trainer.advantages.parameterised(
                rollout, trainer.reward_model(rollout.reward), trainer.advantages.extrinsic(rollout)
            )
        np.testing.assert_allclose(buffer.advantages.flatten(), expected, rtol=1e-6, atol=1e-7)
        np.testing.assert_allclose(
            buffer.returns.flatten(), trainer.advantages.extrinsic(rollout) + rollout.policy_critic.values, rtol=1e-6
        )
        seen.append(expected)
        events.append("batch")
        reward_step(labelled, rows, *step)

    def step(*arguments):
        step_along(*arguments)
        events.append("reward")

    timing._reward_step, trainer.step_along = look, step
    model.learn(2 * ITERATION)
    assert events == ["batch", "reward"] * (2 * N_STEPS)
    assert all(not torch.equal(first, second) for first, second in pairwise(seen))


def test_where_ppo_stops_early_no_reward_step_follows():
    model = lirpg(host={"target_kl": 1e-9, "n_epochs": 10}).learn(ITERATION)
    (step,) = {int(state["step"]) for state in model.policy.optimizer.state_dict()["state"].values()}
    (reward_step,) = {
        int(state["step"]) for state in model.reward_learner.state_dict()["optimisers"]["reward"]["state"].values()
    }
    assert reward_step == step < 10 * ITERATION // SMALL["batch_size"]


@pytest.mark.parametrize("critics", [1, 2])
@pytest.mark.parametrize("host", [{}, {"normalize_advantage": False}, {"target_kl": 1e-4}, {"batch_size": 21}], ids=str)
def test_with_a_reward_of_zero_that_is_not_updated_it_is_ppo(host, critics):
    set_generators(start := generators())
    plain = ppo(vec_env(2), **host).learn(3 * 2 * ITERATION)
    set_generators(start)
    learned = lirpg(vec_env(2), host=host, critics=critics, **AS_PPO).learn(3 * 2 * ITERATION)
    assert not differences(policy_of(plain), policy_of(learned))
    updated = lirpg(vec_env(2), host=host, critics=critics, reward_mode="add").learn(3 * 2 * ITERATION)
    assert differences(policy_of(plain), policy_of(updated))


def test_as_a_callback_of_ppo_it_trains_the_same_policy():
    learner = LIRPGLearner()
    model = ppo(vec_env(2)).learn(3 * 2 * ITERATION, callback=learner)
    assert not differences(all_of(lirpg(vec_env(2)).learn(3 * 2 * ITERATION)), all_of(model, learner))


def test_nothing_is_left_on_the_policys_optimiser():
    model = lirpg().learn(ITERATION)
    assert not model.policy.optimizer._optimizer_step_pre_hooks
    assert not model.policy.optimizer._optimizer_step_post_hooks
    assert not any(parameter._post_accumulate_grad_hooks for parameter in model.policy.parameters())


def test_reward_steps_leave_batch_norm_dropout_and_the_generators_alone():
    host = {"policy_kwargs": {**TINY_NET, "features_extractor_class": NormDropoutExtractor}}
    states = []
    for make in (ppo, lambda **host: lirpg(host=host, reward_mode="add", reward_coef=0.0)):
        model = make(**host).learn(ITERATION)
        states.append((policy_of(model), generators()))
    assert not differences(states[0][0], states[1][0])
    assert not differences(snapshot(states[0][1][2:]), snapshot(states[1][1][2:]))


# What it takes


def assert_learns(model: Any, callback: Any = None) -> None:
    """Every parameter of its reward network moves, and all stays finite."""
    learner = model.reward_learner if callback is None else callback
    learner.attach(model)
    before = [parameter.detach().clone() for parameter in learner.trainer.reward_model.network.parameters()]
    model.learn(2 * model.n_steps * model.n_envs, callback=callback)
    after = list(learner.trainer.reward_model.network.parameters())
    assert not any(torch.equal(*pair) for pair in zip(before, after, strict=True))
    assert not not_finite(all_of(model, learner))


@pytest.mark.parametrize("architecture", ["StateActionTanh", "LSTMbMul", "MLPConcat", LinearReward])
def test_any_reward_network_learns(architecture):
    assert_learns(lirpg(vec_env(2, lambda: Toy(p_end=0.05)), architecture=architecture))


@pytest.mark.parametrize(
    ("observation_space", "action_space", "policy"),
    [
        (OBSERVATION, spaces.MultiDiscrete([2, 3]), "MlpPolicy"),
        (OBSERVATION, spaces.MultiBinary(2), "MlpPolicy"),
        (spaces.Dict({"vector": OBSERVATION, "choice": spaces.Discrete(3)}), BOX, "MultiInputPolicy"),
    ],
    ids=["multi-discrete", "multi-binary", "dictionary"],
)
def test_it_learns_with_every_space_of_ppo(observation_space, action_space, policy):
    assert_learns(lirpg(vec_env(2, lambda: Toy(observation_space, action_space)), policy))


def test_a_last_mini_batch_of_one_step_is_trained_on_too():
    assert_learns(lirpg(host={"batch_size": 21}))


def test_it_learns_as_a_callback_of_maskable_ppo():
    env = InvalidActionEnvDiscrete(dim=8, n_invalid_actions=4)
    model = MaskablePPO("MlpPolicy", env, n_steps=64, batch_size=32, n_epochs=2, seed=0, device="cpu")
    assert_learns(model, LIRPGLearner())


def test_it_logs_the_reward_and_no_conjugate_gradient():
    model = lirpg().learn(ITERATION)
    logged = {name for name in model.logger.name_to_value if name.startswith("reward/")}
    assert {"reward/learned_mean", "reward/alignment_learned", "reward/hypergradient_norm", "reward/critic_loss"} <= logged
    assert not [name for name in logged if "cg_" in name or "curvature" in name]


# What is saved


@pytest.mark.parametrize("settings", [{}, {"reward_mode": "add", "critics": 1}, {"architecture": "LSTMbMul"}], ids=str)
def test_a_saved_run_goes_on_as_if_it_had_not_been_interrupted(settings, tmp_path):
    env = vec_env(2, lambda: Toy(horizon=90, p_end=0.02))
    model = lirpg(env, **settings).learn(2 * 2 * ITERATION)
    model.save(tmp_path / "model")
    env_then, generators_then = copy.deepcopy(env), generators()
    model.learn(2 * 2 * ITERATION, reset_num_timesteps=False)
    set_generators(generators_then)
    loaded = LIRPG.load(tmp_path / "model", env=env_then, force_reset=False)
    loaded.learn(2 * 2 * ITERATION, reset_num_timesteps=False)
    assert not differences(all_of(model), all_of(loaded))


def test_a_learner_saved_by_itself_goes_on(tmp_path):
    learner = LIRPGLearner(architecture="MLPMul")
    model = ppo(vec_env(2)).learn(2 * ITERATION, callback=learner)
    learner.save(tmp_path / "reward")
    again = LIRPGLearner.load(tmp_path / "reward")
    assert again.settings == learner.settings
    fresh = ppo(vec_env(2))
    fresh.set_parameters(model.get_parameters())
    again.attach(fresh)
    assert not differences(all_of(model, learner), all_of(fresh, again))


# What it refuses


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"curvature": "hessian"}, ValueError, "curvature='hessian' has no effect in LIRPG"),
        ({"validation": "split"}, ValueError, "validation='split' has no effect in LIRPG"),
        ({"preset": "paper"}, ValueError, "preset='paper' has no effect in LIRPG"),
        ({"n_reward_updates": 2}, ValueError, "n_reward_updates must be 0 or 1 in LIRPG, got 2"),
        ({"through_second_moment": "yes"}, ValueError, "through_second_moment must be True or False, got 'yes'"),
        ({"learning_rate": "1e-4"}, ValueError, "learning_rate must be a number"),
        ({"through_moment": True}, TypeError, "did you mean 'through_second_moment'?"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused_before_anything_is_built(settings, error, message):
    with pytest.raises(error, match=re.escape(message)):
        LIRPG("MlpPolicy", "no environment is made", reward_kwargs=settings)


@pytest.mark.parametrize(
    ("optimiser", "message"),
    [
        ({"optimizer_class": torch.optim.RMSprop}, "LIRPG differentiates through Adam, got optimizer_class=RMSprop"),
        ({"optimizer_kwargs": {"weight_decay": 0.1}}, "got Adam with weight_decay"),
        ({"optimizer_class": torch.optim.AdamW}, "got AdamW with weight_decay"),
        ({"optimizer_kwargs": {"amsgrad": True}}, "got Adam with amsgrad"),
    ],
    ids=str,
)
def test_optimisers_that_it_cannot_differentiate_are_refused(optimiser, message):
    with pytest.raises(ValueError, match=message):
        lirpg(host={"policy_kwargs": optimiser})


def test_hosts_that_do_not_step_by_mini_batches_are_refused():
    with pytest.raises(TypeError, match="LIRPG differentiates through PPO's steps on mini-batches; A2C does not"):
        A2C("MlpPolicy", vec_env(), n_steps=64).learn(64, callback=LIRPGLearner())


def test_a_reward_that_is_not_finite_stops_the_run_and_leaves_policy_and_buffer_whole():
    model = lirpg(architecture=NotANumber)
    before = policy_of(model)
    with pytest.raises(FloatingPointError, match="rewards that are not finite"):
        model.learn(ITERATION)
    assert not differences(before, policy_of(model))
    assert type(model.rollout_buffer).__name__ == "RolloutBuffer"
    assert not model.policy.optimizer._optimizer_step_pre_hooks


def test_its_defaults_are_those_of_the_authors_and_leave_tareppos_alone():
    settings = lirpg().reward_learner.settings
    chosen = {"architecture": "StateActionTanh", "reward_mode": "replace", "learning_rate": 1e-4, "max_grad_norm": 0.5}
    assert chosen.items() <= settings.flat().items()
    ours, tareppos = (
        model.get_parameters()["reward_optimisation"]["optimisers"]["reward"]["param_groups"][0] for model in (lirpg(), tare())
    )
    assert (ours["lr"], ours["eps"]) == (1e-4, 1e-5)
    assert tareppos["eps"] == 1e-8

"""TAREAWR learns its reward from the memory, by the gradient of AWR's own objective."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn
from toys import (
    AS_HOST,
    BOX,
    OBSERVATION,
    TINY_NET,
    TinyCNN,
    Toy,
    Watch,
    awr,
    awr_of,
    differences,
    not_finite,
    recorded_rollouts,
    tare_awr,
    vec_env,
)

from sb3_tare import RewardInputs
from sb3_tare.awr.updates import standardised
from sb3_tare.hypergradient.implicit import mixed_product, reward_weights
from sb3_tare.policy.gradients import Batch
from sb3_tare.policy.products import flat_gradient


class NoReward(nn.Module):
    """Returns zero."""

    def __init__(self, observation_dim: int, action_dim: int) -> None:
        super().__init__()

    def forward(self, inputs: RewardInputs) -> Tensor:
        return torch.zeros_like(inputs.rewards)


def ending(n_envs: int = 2, **kwargs):
    """Environments whose episodes end for good, by time limits, and by an iteration's edge."""
    return vec_env(n_envs, lambda: Toy(horizon=17, p_end=0.05, **kwargs))


# A reward that says nothing new


@pytest.mark.parametrize("settings", [{}, {"architecture": NoReward, "zero_head": False}, {"curvature": "hessian"}], ids=str)
@pytest.mark.parametrize("wrap", [lambda env: env, VecNormalize], ids=["raw", "VecNormalize"])
def test_a_reward_that_is_and_stays_zero_leaves_awr_bit_for_bit(settings, wrap):
    plain = awr_of(awr(wrap(ending())).learn(4 * 128))
    learned = awr_of(tare_awr(wrap(ending()), **AS_HOST, **settings).learn(4 * 128))
    assert not differences(plain, {name: value for name, value in learned.items() if "reward_learner" not in name})


@pytest.mark.parametrize("settings", [{"validation": "next_rollout"}, {**AS_HOST, "reward_mode": "replace"}, {}], ids=str)
def test_any_other_reward_does_not(settings):
    plain = awr_of(awr(ending()).learn(3 * 128))
    learned = awr_of(tare_awr(ending(), **settings).learn(3 * 128))
    changed = [name for name in differences(plain, learned) if "reward_learner" not in name]
    assert "/policy/action_net.weight" in changed
    # The critic is one of extrinsic returns; only what is collected, later, can change it.
    first = awr_of(awr(ending()).learn(128)), awr_of(tare_awr(ending(), **settings).learn(128))
    assert not [name for name in differences(*first) if "value_net" in name or "critic_optimiser" in name]


# Its gradient


FEW = {"sampled_steps": 48, "damping": 0.0}


def prepared(action_space: spaces.Space = BOX, **settings):
    """The gradients of a model with a few steps, one batch with advantages of which some weights are clipped, and more."""
    model = tare_awr(ending(action_space=action_space), host={"max_weight": 2.0, "temperature": 0.8}, **{**FEW, **settings})
    rollouts = recorded_rollouts(model.reward_learner)
    model.learn(256)
    trainer = model.reward_learner.trainer
    rollout = trainer.host.sample(rollouts[-1], trainer.generator)
    advantages = trainer.host.standardise(trainer.advantages.extrinsic(rollout)).detach()
    weights = torch.exp(advantages / 0.8)
    assert 0.05 < (weights > 2.0).float().mean() < 0.95
    batch = Batch(rollout.policy, advantages)
    parameters = trainer.gradients.actor_parameters(trainer.gradients.evaluate(batch).value)
    return model, trainer.gradients, batch, parameters, weights


def jacobian(outputs: Tensor, parameters: list[Tensor]) -> Tensor:
    """``[n, p]`` gradients of ``[n]`` outputs, one by one."""
    return torch.stack([flat_gradient(output, parameters) for output in outputs])


def dense(product, size: int) -> Tensor:
    return torch.stack([product(column) for column in torch.eye(size)], dim=1)


def test_advantages_of_a_sample_are_standardised_as_the_actors_fit_standardises_all():
    host = tare_awr(ending()).reward_learner.trainer.host
    whole = torch.randn(500, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 3.0 + 1.0
    sample = whole[100:150].clone().requires_grad_()
    torch.testing.assert_close(host.standardise(sample, whole), standardised(whole)[100:150], rtol=1e-12, atol=1e-12)
    constant = torch.ones(5, requires_grad=True)
    host.standardise(constant, torch.ones(9)).sum().backward()
    assert torch.isfinite(constant.grad).all()


def test_where_the_sample_is_all_its_standardisation_has_the_fits_derivative():
    host = tare_awr(ending()).reward_learner.trainer.host
    whole = torch.randn(40, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    weights = torch.randn(40, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    ours, theirs = whole.clone().requires_grad_(), whole.clone().requires_grad_()
    (weights * host.standardise(ours, whole)).sum().backward()
    (weights * standardised(theirs)).sum().backward()
    torch.testing.assert_close(ours.grad, theirs.grad)
    assert float(ours.grad.abs().max()) > 0.1


def test_a_waiting_reward_step_keeps_what_the_actor_was_fitted_to():
    env = vec_env(2, lambda: Toy(horizon=5))
    model = tare_awr(env, host={"buffer_size": 1024}, validation="next_rollout", sampled_steps=20).learn(2 * 128)
    waiting = model.reward_learner.trainer.take_waiting()
    assert len(waiting.advantages) == 256
    assert 20 <= len(waiting.sample) <= 25


@pytest.mark.parametrize("action_space", [BOX, spaces.Discrete(3)], ids=str)
def test_its_curvature_is_the_fisher_matrix_of_each_step_times_its_weight(action_space):
    model, gradients, batch, parameters, weights = prepared(action_space)
    distribution = model.policy.get_distribution(batch.steps.observations).distribution
    n, size = len(weights), sum(parameter.numel() for parameter in parameters)
    if isinstance(action_space, spaces.Discrete):
        outputs, probabilities = distribution.logits, distribution.probs.detach()
        hessians = torch.diag_embed(probabilities) - probabilities[:, :, None] * probabilities[:, None, :]
    else:
        outputs = distribution.mean
        hessians = torch.diag_embed(distribution.stddev.detach() ** -2)
    slopes = jacobian(outputs.flatten(), parameters).view(n, -1, size)
    expected = torch.einsum("t,tip,tij,tjq->pq", weights.clamp(max=2.0), slopes, hessians, slopes) / n
    matrix = dense(gradients.curvature_product(batch, parameters), size)
    torch.testing.assert_close(matrix, expected, rtol=1e-3, atol=1e-5 * float(expected.abs().max()))
    assert float(expected.abs().max()) > 0.1


def test_its_curvature_is_symmetric_and_positive_semi_definite():
    _, gradients, batch, parameters, _ = prepared()
    matrix = dense(gradients.curvature_product(batch, parameters), sum(parameter.numel() for parameter in parameters)).double()
    scale = float(matrix.abs().max())
    torch.testing.assert_close(matrix, matrix.T, rtol=0.0, atol=1e-5 * scale)
    assert float(torch.linalg.eigvalsh((matrix + matrix.T) / 2).min()) > -1e-5 * scale


def test_the_other_curvature_is_minus_the_hessian_of_its_objective():
    _, gradients, batch, parameters, weights = prepared(curvature="hessian")
    log_probs = gradients.evaluate(batch).log_probs
    slope = flat_gradient((weights.clamp(max=2.0) * log_probs).mean(), parameters, create_graph=True)
    expected = -torch.stack([flat_gradient(entry, parameters) for entry in slope])
    matrix = dense(gradients.curvature_product(batch, parameters), len(slope))
    torch.testing.assert_close(matrix, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_the_mixed_product_is_the_second_derivative_taken_by_brute_force():
    _, gradients, batch, parameters, weights = prepared()
    advantages = batch.advantages.clone().requires_grad_()
    log_probs = gradients.evaluate(batch).log_probs
    n = len(weights)
    slope = torch.where(weights < 2.0, weights / 0.8, 0.0) / n  # of a step's weight in its advantage
    mixed = jacobian(log_probs, parameters) * slope[:, None]
    x = torch.randn(mixed.shape[1], generator=torch.Generator().manual_seed(0))
    product = mixed_product(gradients.evaluate(Batch(batch.steps, advantages)).value, advantages, parameters, x)
    torch.testing.assert_close(product, mixed @ x, rtol=1e-3, atol=1e-5)
    assert torch.equal(product == 0.0, weights >= 2.0)


def test_the_weights_of_a_reward_step_are_those_of_dense_linear_algebra():
    _, gradients, batch, parameters, weights = prepared(damping=0.5, cg_steps=60)
    log_probs = gradients.evaluate(batch).log_probs
    slopes = jacobian(log_probs, parameters).double()
    target = (weights.clamp(max=2.0).double()[:, None] * slopes).mean(dim=0)
    curvature = dense(gradients.curvature_product(batch, parameters), len(target)).double()
    mixed = slopes * (torch.where(weights < 2.0, weights / 0.8, 0.0) / len(weights)).double()[:, None]
    expected = mixed @ torch.linalg.solve(curvature, target)
    found, solution = reward_weights(gradients, batch, batch, batch, cg_steps=60)
    assert solution.residual < 1e-4
    torch.testing.assert_close(found.double(), expected, rtol=1e-2, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("validation", ["split", "next_rollout"])
def test_a_small_temperature_whose_weights_overflow_leaves_the_gradient_finite(validation):
    model = tare_awr(ending(), host={"temperature": 0.01}, validation=validation, sampled_steps=64).learn(3 * 128)
    assert not not_finite(awr_of(model))


# Its iterations

SETTINGS = [
    {},
    {"swap": False},
    {"validation": "next_rollout"},
    {"curvature": "hessian"},
    {"curvature": "hessian", "validation": "next_rollout"},
    {"curvature": "identity", "curvature_episodes": "training"},
    {"features": "own", "center": True},
    {"features": "own", "validation": "next_rollout"},
    {"preset": "paper"},
    {"reward_mode": "replace", "architecture": "MLPMul", "n_reward_updates": 2},
]


def reward_of(model) -> dict:
    return {name: value for name, value in awr_of(model).items() if "/reward_model/network" in name}


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_each_setting_trains_the_reward_and_logs_how_well_it_points(settings):
    model = tare_awr(ending(), sampled_steps=48, **settings)
    before = reward_of(model)
    model.learn(3 * 128)
    assert not not_finite(awr_of(model))
    assert differences(before, reward_of(model))
    logged = model.logger.name_to_value
    for name in ("alignment_learned", "alignment_extrinsic"):
        assert -1.0 <= logged[f"reward/{name}"] <= 1.0
    assert {"reward/hypergradient_norm", "reward/learned_mean", "reward/critic_loss", "reward/seconds"} <= set(logged)


@pytest.mark.parametrize("action_space", [spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)], ids=str)
def test_the_reward_is_trained_for_any_actions(action_space):
    model = tare_awr(ending(action_space=action_space), sampled_steps=48)
    before = reward_of(model)
    assert differences(before, reward_of(model.learn(2 * 128)))


NAMED = spaces.Dict({"body": OBSERVATION, "mode": spaces.Discrete(3)})
IMAGE = spaces.Box(0, 255, (3, 16, 16), dtype=np.uint8)


@pytest.mark.parametrize("features", ["policy", "own"])
@pytest.mark.parametrize(
    ("policy", "space", "kwargs"),
    [("MultiInputPolicy", NAMED, {}), ("CnnPolicy", IMAGE, {"features_extractor_class": TinyCNN})],
    ids=["MultiInputPolicy", "CnnPolicy"],
)
def test_the_reward_is_trained_on_any_observations(policy, space, kwargs, features):
    env = vec_env(2, lambda: Toy(space, horizon=17))
    model = tare_awr(env, host={"policy_kwargs": {**TINY_NET, **kwargs}}, policy=policy, sampled_steps=48, features=features)
    before = reward_of(model)
    model.learn(3 * 128)
    assert differences(before, reward_of(model))
    assert not not_finite(awr_of(model))


def test_next_rollout_waits_for_what_the_updated_actor_collects():
    model = tare_awr(ending(), validation="next_rollout")
    before = reward_of(model)
    assert not differences(before, reward_of(model.learn(128)))
    assert model.reward_learner.state_dict()["waiting"] is not None
    assert differences(before, reward_of(model.learn(128, reset_num_timesteps=False)))


def validations(model) -> list:
    """A list to which the validation steps of each reward step will be added."""
    found, step = [], model.reward_learner.trainer.reward_step

    def noted(training, validation):
        found.append(validation)
        step(training, validation)

    model.reward_learner.trainer.reward_step = noted
    return found


def test_next_rollout_is_validated_by_the_steps_just_collected():
    model = tare_awr(ending(), validation="next_rollout")
    found = validations(model)
    model.learn(2 * 128)
    (validation,) = found
    memory = model.replay_buffer
    newest = memory.observations_at(memory.paths(128).rows)
    assert torch.equal(validation.sample.policy.observations, newest)
    assert torch.equal(validation.part.reward.rewards, memory.rewards_at(memory.paths(128).rows))
    assert torch.equal(validation.part.reward.episodes.lengths, memory.paths(128).episodes.lengths)


def test_split_trains_on_either_half_of_the_memory_and_validates_on_steps_of_the_other():
    model = tare_awr(ending(), sampled_steps=1000)
    found, fitted, fit_actor = validations(model), [], model.fit_actor

    def noted(paths, advantages, n_steps):
        fitted.append((paths, n_steps))
        fit_actor(paths, advantages, n_steps)

    model.fit_actor = noted
    model.learn(128)
    rows = [paths.rows.tolist() for paths, _ in fitted]
    assert sorted(rows[0] + rows[1]) == list(range(128))
    assert sum(n_steps for _, n_steps in fitted) in (6, 7)  # each rounded up
    observations = [model.replay_buffer.observations_at(paths.rows) for paths, _ in fitted]
    for validation, other in zip(found, reversed(observations), strict=True):
        assert torch.equal(validation.sample.policy.observations, other)


def rows_relabelled(model) -> list[tuple[bool, int]]:
    """A list to which rows of each pass of the reward network will be added, and whether it keeps a graph."""
    rows: list[tuple[bool, int]] = []

    def count(module, inputs):
        rows.append((torch.is_grad_enabled(), len(inputs[0].rewards)))

    model.reward_learner.trainer.reward_model.network.register_forward_pre_hook(count)
    return rows


@pytest.mark.parametrize("validation", ["split", "next_rollout"])
def test_relabelling_is_one_pass_over_the_memory_and_gradients_see_a_few_paths(validation):
    env = vec_env(2, lambda: Toy(horizon=5))
    model = tare_awr(env, host={"buffer_size": 1024}, validation=validation, sampled_steps=20)
    rows, in_iteration = rows_relabelled(model), []

    def note(_):
        in_iteration.append((sum(n for graph, n in rows if not graph), [n for graph, n in rows if graph]))
        rows.clear()

    model.learn(8 * 128, callback=Watch(rollout_start=note, training_end=note))
    in_iteration = in_iteration[1:]
    assert [relabelled for relabelled, _ in in_iteration] == [128 * k for k in range(1, 9)]
    if validation == "split":
        assert all(20 <= n <= 25 for _, sampled in in_iteration for n in sampled)
        assert {len(sampled) for _, sampled in in_iteration} <= {3, 4}  # before and between the reward steps
    else:
        assert max(n for _, sampled in in_iteration for n in sampled) <= 128  # those just collected


@pytest.mark.parametrize("sampled_steps", [2, 30, 10_000])
def test_as_many_steps_of_whole_paths_are_sampled_as_were_asked_for(sampled_steps):
    model = tare_awr(vec_env(1, lambda: Toy(horizon=8)), sampled_steps=sampled_steps)
    rollouts = recorded_rollouts(model.reward_learner)
    host = model.reward_learner.trainer.host
    samples, sample = [], host.sample
    host.sample = lambda *arguments: samples.append(sample(*arguments)) or samples[-1]
    model.learn(64)
    for part in samples:
        assert min(sampled_steps, 24) <= len(part) < sampled_steps + 8
        assert set(part.reward.episodes.lengths.tolist()) <= {8}
        assert len(part.policy.observations) == len(part)
    assert len(rollouts[0]) == 64


def test_the_statistics_of_rewards_see_each_step_once():
    model = tare_awr(ending()).learn(4 * 128)
    assert model.reward_learner.trainer.reward_model.statistics.count == 4 * 128


@pytest.mark.parametrize("when", ["actor", "reward"])
def test_after_an_error_the_run_can_go_on(when):
    model = tare_awr(ending()).learn(128)
    target = model if when == "actor" else model.reward_learner.trainer
    name = "fit_actor" if when == "actor" else "reward_step"
    original = getattr(target, name)

    def fail(*_):
        raise KeyboardInterrupt

    setattr(target, name, fail)
    with pytest.raises(KeyboardInterrupt):
        model.learn(128, reset_num_timesteps=False)
    setattr(target, name, original)
    assert model.reward_learner.trainer.host.fit is None
    before = reward_of(model)
    assert differences(before, reward_of(model.learn(128, reset_num_timesteps=False)))

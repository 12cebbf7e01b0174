"""Bounds on the cost of a reward phase: features held fixed, few steps for the curvature, gradients in chunks."""

from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from toys import ITERATION, TinyCNN, Toy, all_of, differences, not_finite, tare, tare_awr, vec_env

from sb3_tare.hosts.held import sees_images
from sb3_tare.hypergradient.implicit import reward_weights
from sb3_tare.policy.gradients import Batch

PICTURE = spaces.Box(0, 255, (36, 36, 1), np.uint8)
CNN = {"policy_kwargs": {"features_extractor_class": TinyCNN, "net_arch": [8]}}


def seeing(**reward_kwargs: Any) -> Any:
    """A tiny TAREPPO that sees pictures, after an iteration; a rollout waits for its reward step."""
    env = vec_env(2, lambda: Toy(PICTURE, spaces.Discrete(3)))
    return tare(env, "CnnPolicy", CNN, validation="next_rollout", **reward_kwargs).learn(2 * ITERATION)


def batch_of(model: Any) -> Batch:
    """The steps that wait, with features where the learner holds them fixed."""
    trainer = model.reward_learner.trainer
    return trainer.hypergradients.extrinsic_batch(trainer.appraise(trainer._waiting, trainer._waiting))


def estimate(model: Any, batch: Batch) -> Any:
    return reward_weights(model.reward_learner.trainer.gradients, batch, batch, batch)


# Features held fixed


def test_features_are_held_fixed_where_observations_are_images_and_nowhere_else():
    assert batch_of(seeing()).steps.features is not None
    assert batch_of(seeing(hold_features=False)).steps.features is None
    assert batch_of(tare(validation="next_rollout").learn(ITERATION)).steps.features is None
    assert sees_images(spaces.Dict({"camera": spaces.Box(0, 255, (3, 36, 36), np.uint8), "speed": spaces.Discrete(2)}))
    assert not sees_images(spaces.Dict({"speed": spaces.Discrete(2)}))


def test_to_hold_features_fixed_is_to_take_the_extractors_parameters_for_constants():
    model = seeing(hold_features=False)
    whole = batch_of(model)
    trainer = model.reward_learner.trainer
    held = whole._replace(steps=seeing().reward_learner.trainer.hypergradients.held(trainer._waiting))
    for parameter in model.policy.features_extractor.parameters():
        parameter.requires_grad_(False)
    for ours, expected in zip(estimate(model, held), estimate(model, whole), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-6)


def test_with_features_held_fixed_the_reward_goes_on_learning():
    model = seeing()
    before = {name: leaf for name, leaf in all_of(model).items() if "reward_model" in name and "weight" in name}
    model.learn(3 * 2 * ITERATION)
    assert differences(before, {name: leaf for name, leaf in all_of(model).items() if name in before})
    assert not not_finite(all_of(model))


def test_features_are_those_of_the_policy_as_it_is_now():
    model = seeing()
    before = batch_of(model).steps.features
    with torch.no_grad():
        for parameter in model.policy.features_extractor.parameters():
            parameter.mul_(1.5)
    assert not torch.allclose(batch_of(model).steps.features, before)


def test_a_policy_with_its_own_way_to_a_distribution_cannot_have_its_features_held_fixed():
    class Own(ActorCriticPolicy):
        def get_distribution(self, obs: Any) -> Any:
            return super().get_distribution(obs)

    tare(policy=Own).learn(ITERATION)
    with pytest.raises(ValueError, match="hold_features=True needs a policy with the get_distribution"):
        tare(policy=Own, hold_features=True)


# Few steps for the curvature


def test_the_curvature_is_taken_on_steps_drawn_by_the_learners_generator_where_there_are_more():
    trainer = tare(validation="next_rollout", curvature_samples=40).learn(ITERATION).reward_learner.trainer
    batch = trainer.hypergradients.extrinsic_batch(trainer.appraise(trainer._waiting, trainer._waiting))
    state = trainer.generator.get_state()
    drawn = trainer.hypergradients.drawn(batch)
    assert len(drawn.steps) == len(drawn.advantages) == 40
    assert not torch.equal(trainer.generator.get_state(), state)
    assert all((batch.steps.observations == row).all(1).any() for row in drawn.steps.observations)


def test_nothing_is_drawn_where_there_are_no_more_steps():
    trainer = tare(validation="next_rollout", curvature_samples=ITERATION).learn(ITERATION).reward_learner.trainer
    batch = trainer.hypergradients.extrinsic_batch(trainer.appraise(trainer._waiting, trainer._waiting))
    state = trainer.generator.get_state()
    assert trainer.hypergradients.drawn(batch) is batch
    assert torch.equal(trainer.generator.get_state(), state)


# Chunks


@pytest.mark.parametrize("settings", [{}, {"curvature": "hessian"}])
def test_gradients_in_chunks_are_those_of_all_steps_at_once(settings):
    model = tare(validation="next_rollout", **settings).learn(ITERATION)
    gradients, batch = model.reward_learner.trainer.gradients, batch_of(model)
    whole, gradient = estimate(model, batch), gradients.gradient(batch)
    gradients.chunk_rows = 7
    torch.testing.assert_close(gradients.gradient(batch), gradient, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(estimate(model, batch).weights, whole.weights, rtol=1e-3, atol=1e-6)


def test_images_pass_through_the_policys_extractor_in_chunks():
    trainer, sizes = seeing(chunk_rows=16).reward_learner.trainer, []
    observations = trainer._waiting.policy.observations
    whole = trainer.host.policy.extract_features(observations, trainer.host.policy.pi_features_extractor)
    trainer.host.policy.features_extractor.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    torch.testing.assert_close(trainer.host.actor_features(observations), whole, rtol=1e-4, atol=1e-6)
    assert sizes == [16] * (2 * ITERATION // 16)


def test_images_pass_through_the_rewards_own_extractor_in_chunks_with_the_same_gradients():
    trainer, sizes = seeing(features="own", chunk_rows=16).reward_learner.trainer, []
    model, steps = trainer.reward_model, trainer._waiting.reward
    model.extractor.register_forward_pre_hook(lambda _, given: sizes.append(len(given[0])))
    found = []
    for rows in (16, None):
        model.chunk_rows = rows
        rewards = model(steps)
        parameters = [*model.extractor.parameters()]
        found.append((rewards.detach(), *torch.autograd.grad(rewards.square().sum(), parameters)))
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-5)
    assert max(sizes[:-1]) == 16 < sizes[-1] == 2 * ITERATION


# The boundary


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"curvature_samples": 1}, "curvature_samples must be a whole number of at least 2"),
        ({"hold_features": "yes"}, "hold_features must be one of"),
        ({"chunk_rows": 0}, "chunk_rows must be a whole number of at least 1 or None"),
        ({"reward_every": -1}, "reward_every must be a whole number of at least 0"),
    ],
)
def test_a_bound_that_is_none_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        tare(**settings)


def test_a_memory_has_no_need_of_pooled_rollouts():
    with pytest.raises(ValueError, match="reward_every=512 pools short rollouts"):
        tare_awr(reward_every=512)

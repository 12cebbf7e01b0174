"""Short rollouts pooled for reward phases, and fits of return decomposition that wait for steps."""

from typing import Any

import pytest
import torch
from stable_baselines3 import A2C
from toys import (
    AS_HOST,
    ITERATION,
    TINY_NET,
    Toy,
    all_of,
    differences,
    implicit_learner,
    not_finite,
    policy_of,
    recorded_rollouts,
    tare,
    vec_env,
)

from sb3_tare import RewardLearner
from sb3_tare.data.rollout import joined

POOLED = {"reward_every": 3 * ITERATION}
SETTINGS = [
    {},
    {"validation": "next_rollout"},
    {"interleave": True},
    {"curvature": "hessian"},
    {"critics": 1},
    {"swap": False},
]
with_each_setting = pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: "-".join(settings) or "default")


def pooled(env: Any = None, **settings: Any) -> Any:
    return tare(vec_env(make=lambda: Toy(p_end=0.05)) if env is None else env, **{**POOLED, **settings})


def reward_steps(model: Any, learner: Any = None) -> int:
    """Steps that Adam has taken on the reward."""
    trainer = (learner or model.reward_learner).trainer
    states = trainer.optimisers.state_dict()["reward"]["state"].values()
    return max((int(state["step"]) for state in states), default=0)


@pytest.mark.parametrize(
    ("settings", "steps"), [({}, [0, 0, 2, 2, 2, 4]), ({"validation": "next_rollout"}, [0, 0, 0, 0, 0, 1])]
)
def test_a_reward_phase_follows_once_there_are_steps_enough(settings, steps):
    model, taken = pooled(**settings), []
    for _ in range(6):
        model.learn(ITERATION, reset_num_timesteps=False)
        taken.append(reward_steps(model))
    assert taken == steps


def test_rollouts_that_are_long_enough_are_not_pooled():
    assert reward_steps(pooled(reward_every=ITERATION).learn(ITERATION)) == 2


def test_the_policy_is_trained_on_each_rollout_as_ever():
    frozen = {"n_reward_updates": 0, "critic_epochs": 0, "zero_head": False}
    models = [pooled(**frozen, reward_every=every).learn(5 * ITERATION) for every in (0, 3 * ITERATION)]
    assert not differences(*map(policy_of, models))


@with_each_setting
def test_what_is_learned_is_finite_and_moves(settings):
    model = pooled(**settings)
    before = all_of(model)
    model.learn(7 * ITERATION)
    changed = differences(before, all_of(model))
    assert any("reward_model/network" in name for name in changed)
    assert any("reward_model/critic" in name for name in changed) == (settings.get("critics") != 1)
    assert not not_finite(all_of(model))


def test_pooled_rollouts_are_one_whose_episodes_stay_cut_at_their_edges():
    model = pooled()
    rollouts = recorded_rollouts(model.reward_learner)
    model.learn(3 * ITERATION)
    trainer, whole = model.reward_learner.trainer, joined(rollouts)
    assert len(whole) == 3 * ITERATION
    assert len(whole.reward.episodes) == sum(len(rollout.reward.episodes) for rollout in rollouts)
    own = torch.cat([trainer.advantages.extrinsic(rollout) for rollout in rollouts])
    torch.testing.assert_close(trainer.advantages.extrinsic(whole), own, rtol=0, atol=0)
    assert torch.equal(whole.policy.old_log_probs, torch.cat([rollout.policy.old_log_probs for rollout in rollouts]))


def test_learned_values_of_pooled_rollouts_are_in_the_unit_of_the_last():
    model = pooled()
    rollouts = recorded_rollouts(model.reward_learner)
    model.learn(6 * ITERATION)
    earlier, last = rollouts[-2:]
    assert earlier.reward.unit != last.reward.unit
    whole = joined([earlier, last])
    assert whole.reward.unit == last.reward.unit
    in_units = whole.reward_critic.values / last.reward.unit.scale
    own = [each.reward_critic.values / each.reward.unit.scale for each in (earlier, last)]
    torch.testing.assert_close(in_units, torch.cat(own))
    assert in_units.abs().max() > 0


def test_rollouts_of_another_policy_are_forgotten():
    model = pooled().learn(2 * ITERATION)
    with torch.no_grad():
        next(iter(model.policy.parameters())).mul_(1.5)
    model.learn(ITERATION, reset_num_timesteps=False)
    assert reward_steps(model) == 0
    model.learn(2 * ITERATION, reset_num_timesteps=False)
    assert reward_steps(model) == 2


def test_a_callback_pools_the_short_rollouts_of_a2c():
    learner = implicit_learner(reward_every=512)
    model = A2C("MlpPolicy", vec_env(4), n_steps=8, seed=0, policy_kwargs=dict(TINY_NET))
    model.learn(15 * 32, callback=learner)
    assert reward_steps(model, learner) == 0
    model.learn(2 * 32, callback=learner, reset_num_timesteps=False)
    assert reward_steps(model, learner) == 2


def test_return_decomposition_is_fitted_once_there_are_steps_enough():
    settings = {"preset": "decomposition", "decomposition_updates": 3}
    model, fits = tare(reward_every=3 * ITERATION, **settings), []
    for _ in range(6):
        model.learn(ITERATION, reset_num_timesteps=False)
        fits.append(model.reward_learner.trainer.decomposer.fits._n_fits)
    assert fits == [0, 0, 1, 1, 1, 2]
    assert len(model.reward_learner.trainer.decomposer.memory) == 6 * ITERATION // 20


def test_the_preset_of_return_decomposition_fits_in_proportion_to_steps():
    assert RewardLearner(preset="decomposition").settings.schedule.reward_every == 2048


def test_a_host_whose_reward_stays_as_it_is_pools_nothing():
    model = pooled(**AS_HOST, critics=1).learn(2 * ITERATION)
    assert model.reward_learner.trainer.pool.state_dict() == []

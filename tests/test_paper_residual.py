"""A learned reward that is the extrinsic one plus a network that starts at zero: the host, until it has learned something."""

from typing import Any

import numpy as np
import pytest
import torch
from sb3_contrib import TRPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import VecNormalize
from toys import (
    ITERATION,
    SMALL,
    TINY_NET,
    Toy,
    all_of,
    differences,
    generators,
    policy_of,
    ppo,
    set_generators,
    tare,
    vec_env,
)

from sb3_tare import TAREPPO, LearnedReward, RewardLearner, RewardSettings

RESIDUAL = {"reward_every": 0, "preset": "paper_residual"}
HOSTS = {PPO: {"batch_size": 32, "n_epochs": 2}, A2C: {}, TRPO: {"batch_size": 32}}


def normalized(n_envs: int = 2) -> VecNormalize:
    return VecNormalize(vec_env(n_envs, lambda: Toy(p_end=0.05)))


def weights(model: Any) -> list[torch.Tensor]:
    return [parameter.detach().clone() for parameter in model.reward_learner.trainer.reward_model.parameters()]


def test_it_is_the_papers_setting_but_for_what_its_name_says():
    paper, residual = RewardSettings(preset="paper").flat(), RewardSettings(preset="paper_residual").flat()
    changed = {name: residual[name] for name in paper if residual[name] != paper[name]}
    expected = {"residual": True, "critics": 1, "gae_lambda": None, "hypergradient_rollouts": 16, "curvature": None}
    assert changed == {"preset": "paper_residual", **expected}


@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.__name__)
def test_with_whole_rollouts_the_host_trains_as_alone_bit_for_bit_until_the_first_step(host):
    def trained(callback: RewardLearner | None) -> Any:
        model = host("MlpPolicy", normalized(), n_steps=64, seed=0, policy_kwargs=dict(TINY_NET), **HOSTS[host])
        return model.learn(4 * 2 * 64, callback=callback)

    learner = RewardLearner(validation="next_rollout", **RESIDUAL)
    assert not differences(policy_of(trained(learner)), policy_of(trained(None)))
    assert learner.trainer.average.state_dict()["count"] == 3


def test_each_half_is_given_the_hosts_own_advantages_bit_for_bit():
    model = tare(normalized(), **RESIDUAL)
    trainer, labels = model.reward_learner.trainer, []
    label = trainer.label

    def keep(appraised: Any) -> Any:
        labels.append(label(appraised))
        return labels[-1]

    trainer.label = keep
    model.learn(3 * 2 * ITERATION)
    assert len(labels) == 6
    for each in labels:
        assert torch.equal(each.advantages, each.appraised.extrinsic)
        assert torch.equal(each.rewards, each.part.reward.rewards)


def test_one_step_is_taken_on_the_gradients_of_as_many_rollouts_as_asked_for():
    settings = {**RESIDUAL, "hypergradient_rollouts": 3}
    start = weights(tare(normalized(), **settings))
    moved = [weights(tare(normalized(), **settings).learn(n * 2 * ITERATION)) for n in (2, 3, 5)]
    has_moved = [any(not torch.equal(ours, theirs) for ours, theirs in zip(start, each, strict=True)) for each in moved]
    assert has_moved == [False, True, True]


def test_without_a_mean_each_half_has_a_step_of_its_own():
    model = tare(normalized(), **{**RESIDUAL, "hypergradient_rollouts": 1}).learn(3 * 2 * ITERATION)
    states = model.reward_learner.trainer.optimisers.state_dict()["reward"]["state"].values()
    assert {int(state["step"]) for state in states} == {6}
    assert model.reward_learner.trainer.average.state_dict()["count"] == 0


def test_the_step_is_one_of_adam_on_their_mean():
    settings = {**RESIDUAL, "hypergradient_rollouts": 2}
    model = tare(normalized(), **settings)
    optimisers, taken = model.reward_learner.trainer.optimisers, []
    gradient, step_down = optimisers.gradient, optimisers.step_down
    optimisers.gradient = lambda *args: taken.append(gradient(*args)) or taken[-1]
    means: list[torch.Tensor] = []
    optimisers.step_down = lambda name, mean: means.append(mean.clone()) or step_down(name, mean)
    model.learn(4 * 2 * ITERATION)
    assert (len(taken), len(means)) == (8, 2)
    for mean, gradients in zip(means, (taken[:4], taken[4:]), strict=True):
        torch.testing.assert_close(mean, torch.stack(gradients).mean(0))
    states = optimisers.state_dict()["reward"]["state"].values()
    assert {int(state["step"]) for state in states} == {2}


def test_a_bare_callback_and_an_algorithm_that_owns_it_train_the_same():
    settings = {**RESIDUAL, "hypergradient_rollouts": 2}
    learner, model = RewardLearner(**settings), ppo(normalized())
    model.learn(5 * 2 * ITERATION, callback=learner)
    assert not differences(all_of(tare(normalized(), **settings).learn(5 * 2 * ITERATION)), all_of(model, learner))


def test_a_saved_run_goes_on_as_if_it_had_not_been_interrupted(tmp_path):
    settings = {**RESIDUAL, "hypergradient_rollouts": 2}
    set_generators(start := generators())
    whole = tare(vec_env(1, lambda: Toy(horizon=16)), **settings).learn(6 * ITERATION)
    set_generators(start)
    env = vec_env(1, lambda: Toy(horizon=16))
    tare(env, **settings).learn(3 * ITERATION).save(tmp_path / "model")
    second = TAREPPO.load(tmp_path / "model", env=env, force_reset=False)
    second.learn(3 * ITERATION, reset_num_timesteps=False)
    assert not differences(all_of(whole), all_of(second))


def test_an_exported_reward_has_the_extrinsic_one_in_it(tmp_path):
    model = TAREPPO("MlpPolicy", normalized(), reward_kwargs={**RESIDUAL, "hypergradient_rollouts": 1}, **SMALL)
    rng = np.random.default_rng(0)
    observations, actions = rng.normal(size=(30, 3)).astype(np.float32), rng.uniform(-1, 1, size=(30, 2))
    rewards = rng.normal(size=30)
    model.learn(2 * ITERATION)  # so that there are statistics
    with torch.no_grad():
        for parameter in model.reward_learner.trainer.reward_model.network.head.parameters():
            parameter.zero_()
    LearnedReward.of(model).save(tmp_path / "reward")
    paid = LearnedReward.load(tmp_path / "reward").relabel(observations, actions, rewards, [30])
    np.testing.assert_allclose(paid, rewards, rtol=1e-5, atol=1e-6)


def test_beside_the_extrinsic_reward_it_would_be_paid_twice():
    with pytest.raises(ValueError, match="residual=True puts the extrinsic reward into the learned one"):
        RewardLearner(preset="implicit", residual=True)
    with pytest.raises(ValueError, match="leave it out, or take preset='paper_residual'"):
        RewardLearner(preset="decomposition", residual=True)

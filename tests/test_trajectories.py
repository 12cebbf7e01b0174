"""What a learned reward says about whole episodes of a policy, and what studies make of it."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from torch import nn
from toys import Toy, ppo, recorded_rollouts, tare, vec_env

from sb3_tare.analysis import trajectories
from sb3_tare.analysis.trajectories import Trajectories, collect, learned_rewards
from sb3_tare.data.episodes import End
from sb3_tare.experiments.running.measures import rewards_along_training, rewards_by_action
from sb3_tare.hub.evaluating import evaluate
from sb3_tare.rewards.learned_reward import LearnedReward

DISCRETE = spaces.Discrete(3)


class Probe(nn.Module):
    """A reward of one of the network's inputs, as it is."""

    def __init__(self, observation_dim: int, action_dim: int, shows: str) -> None:
        super().__init__()
        self.shows = shows
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, inputs):
        times = inputs.episodes.times.float()
        shown = {"reward": inputs.rewards, "state": inputs.observations[:, 0], "action": inputs.actions[:, -1], "time": times}
        return self.weight * shown[self.shows]


def probe(shows: str, env=None, **settings):
    model = tare(env, architecture=Probe, architecture_kwargs={"shows": shows}, zero_head=False, **settings)
    model.reward_learner.trainer.reward_model.observe(torch.tensor([-1.0, 2.0]))
    return model


def test_episodes_are_whole_and_end_as_the_environment_says():
    env = vec_env(make=lambda: Toy(horizon=7, p_end=0.2))
    env.seed(0)
    trajectories = collect(ppo(env), env, 20)
    episodes = trajectories.episodes
    assert len(episodes) == 20
    assert episodes.n_steps == len(trajectories.rewards) == len(trajectories.actions) == len(trajectories.observations)
    assert set(episodes.ends.tolist()) == {End.TERMINATION, End.TIMEOUT}
    assert (episodes.lengths[episodes.ends == End.TIMEOUT] == 7).all()
    assert (episodes.first_times == 0).all()


def test_an_episode_that_does_not_end_is_refused_and_one_that_ends_in_time_is_whole(monkeypatch):
    env = vec_env(make=lambda: Toy(horizon=7, p_end=0.0))
    monkeypatch.setattr(trajectories, "LONGEST", 7)
    assert collect(ppo(env), env, 3).episodes.lengths.tolist() == [7, 7, 7]
    assert evaluate(ppo(env), env, 3, deterministic=True).n_episodes == 3
    monkeypatch.setattr(trajectories, "LONGEST", 6)
    for acting in (lambda: collect(ppo(env), env, 1), lambda: evaluate(ppo(env), env, 1, deterministic=True)):
        with pytest.raises(ValueError, match=r"has not ended after 6 steps: wrap the environment in .*TimeLimit"):
            acting()


def test_actions_are_those_that_the_policy_drew_and_the_environment_gets_them_clipped():
    env = vec_env()
    got = []
    step_async = env.step_async
    env.step_async = lambda actions: got.append(actions) or step_async(actions)  # type: ignore[method-assign]
    actions = collect(ppo(env), env, 3).actions.numpy()
    assert np.abs(actions).max() > 1
    np.testing.assert_array_equal(np.concatenate(got), actions.clip(-1, 1))


@pytest.mark.parametrize("features", ["policy", "own"])
def test_the_network_sees_state_action_reward_and_time_as_in_training(features):
    env = vec_env()
    trajectories = collect(ppo(env), env, 3)
    unit = probe("reward").reward_learner.trainer.reward_model.unit
    expected = {
        "reward": (trajectories.rewards - unit.mean) / unit.scale,
        "state": trajectories.observations[:, 0],
        "action": trajectories.actions[:, -1],
        "time": trajectories.episodes.times,
    }
    for shows, values in expected.items():
        rewards = learned_rewards(LearnedReward.of(probe(shows, features=features)), trajectories)
        np.testing.assert_allclose(rewards, unit.scale * values.double().numpy(), rtol=1e-5, atol=1e-6)


def test_discrete_actions_are_encoded_as_in_training():
    env = vec_env(make=lambda: Toy(action_space=DISCRETE))
    trajectories = collect(ppo(env), env, 3)
    rewards = learned_rewards(LearnedReward.of(probe("action", env)), trajectories)
    np.testing.assert_array_equal(rewards > 0, trajectories.actions.numpy() == 2)


def test_a_rollouts_steps_get_the_rewards_that_training_gave_them():
    model = tare(vec_env(), architecture="LSTMbMul", zero_head=False, n_reward_updates=0, validation="next_rollout")
    rollouts = recorded_rollouts(model.reward_learner)
    model.learn(64)
    (rollout,) = rollouts
    trained_on = model.reward_learner.trainer.learned_rewards(rollout).detach()
    extrinsic = rollout.reward.rewards
    again = Trajectories(
        rollout.policy.observations,
        rollout.policy.actions,
        extrinsic.float(),
        rollout.reward.episodes,
        *2 * [extrinsic.numpy()],
    )
    np.testing.assert_allclose(
        learned_rewards(LearnedReward.of(model), again), trained_on.double().numpy(), rtol=1e-5, atol=1e-7
    )


def test_an_algorithm_that_learns_no_reward_has_none():
    env = vec_env()
    measured = rewards_along_training(ppo(env), env)
    assert (measured["learned"], measured["correlation"]) == (None, None)
    assert np.isfinite(measured["extrinsic"])


def test_a_reward_that_is_the_extrinsic_one_correlates_fully_and_a_constant_not_at_all():
    env = vec_env()
    assert rewards_along_training(probe("reward", env), env)["correlation"] == pytest.approx(1.0)
    silent = tare(env)  # starts at zero
    assert rewards_along_training(silent, env) | {"extrinsic": 0} == {"extrinsic": 0, "learned": 0.0, "correlation": None}


def test_rewards_stand_with_their_actions():
    env = vec_env(make=lambda: Toy(action_space=DISCRETE))
    measured = rewards_by_action(probe("action", env), env)
    assert sum(measured["counts"]) == 10 * 20
    assert [len(rewards) for rewards in measured["learned"]] == measured["counts"]
    assert [set(rewards) for rewards in measured["learned"]] == [{0.0}, {0.0}, {1.5}]  # the deviation of -1 and 2


def test_rewards_by_action_need_discrete_actions():
    env = vec_env()
    with pytest.raises(TypeError, match="discrete actions, got Box"):
        rewards_by_action(ppo(env), env)

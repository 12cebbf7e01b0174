"""A replay buffer that is relabelled holds what a wrapper would have paid."""

import logging

import numpy as np
import pytest
from gymnasium import spaces
from off_policy_toys import DICT, DISCRETE, Seen, tiny
from sb3_contrib import TQC
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer
from toys import BOX, ITERATION, OBSERVATION, awr, tare, vec_env

from sb3_tare import LearnedReplayBuffer, LearnedReward, Relabelled, VecLearnedReward, relabel_replay_buffer

STEPS = 100
WIDE = spaces.Box(np.array([0.0, -3.0], dtype=np.float32), np.array([4.0, 1.0], dtype=np.float32))


def actions_of(algorithm):
    return spaces.Discrete(3) if algorithm in DISCRETE else WIDE


def reward_for(architecture="StateAction", policy="MlpPolicy", **spaces_of) -> LearnedReward:
    env = vec_env(make=lambda: Seen(**spaces_of))
    return LearnedReward.of(tare(env, policy, architecture=architecture, zero_head=False).learn(ITERATION))


def toy(**spaces_of):
    return vec_env(2, lambda: Seen(**spaces_of))


def collected(env, algorithm=SAC, policy="MlpPolicy", **kwargs):
    """A model that has acted at random for ``STEPS`` steps in each of two environments."""
    return tiny(algorithm, env, policy, **{"learning_starts": 10_000, **kwargs}).learn(2 * STEPS)


@pytest.mark.parametrize("mode", ["replace", "add"])
@pytest.mark.parametrize("algorithm", [SAC, TD3, TQC, DQN])
def test_a_relabelled_buffer_holds_what_a_wrapper_would_have_paid(algorithm, mode):
    space = {"action_space": actions_of(algorithm)}
    reward = reward_for(**space)
    paid = collected(VecLearnedReward(toy(**space), reward, mode, 0.5), algorithm).replay_buffer
    buffer = collected(toy(**space), algorithm).replay_buffer
    assert not np.allclose(buffer.rewards[:STEPS], paid.rewards[:STEPS], atol=1e-3)
    relabel_replay_buffer(buffer, reward, mode, 0.5)
    np.testing.assert_allclose(buffer.rewards, paid.rewards, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("architecture", ["MLPConcat", "LSTMf"])
@pytest.mark.parametrize("buffer_size", [1_000, 150])
def test_networks_that_see_time_or_past_relabel_whole_episodes(architecture, buffer_size):
    reward = reward_for(architecture, action_space=WIDE)
    size = {"buffer_size": buffer_size}  # of 150, 75 rows, so that the first ones are overwritten
    paid = collected(VecLearnedReward(toy(action_space=WIDE), reward), **size).replay_buffer
    buffer = collected(toy(action_space=WIDE), **size).replay_buffer
    before = buffer.rewards.copy()
    summary = relabel_replay_buffer(buffer, reward, unfinished="keep")
    changed = buffer.rewards != before
    assert changed.sum() == summary.n_steps > buffer.size()
    assert summary.n_left == buffer.size() * 2 - summary.n_steps > 0
    np.testing.assert_allclose(buffer.rewards[changed], paid.rewards[changed], rtol=1e-4, atol=1e-5)


def test_networks_that_see_what_follows_relabel_each_episode_as_a_whole(tmp_path):
    reward = reward_for("LSTMb", action_space=BOX)
    reward.save(tmp_path / "reward")
    buffer = collected(toy()).replay_buffer
    given, env = buffer.rewards.copy(), 1
    relabel_replay_buffer(buffer, tmp_path / "reward", unfinished="keep")
    first = int(np.flatnonzero(buffer.dones[:, env])[0]) + 1
    expected = reward.relabel(buffer.observations[:first, env], buffer.actions[:first, env], given[:first, env], [first])
    np.testing.assert_allclose(buffer.rewards[:first, env], expected, rtol=1e-4, atol=1e-6)


def test_an_episode_that_was_broken_off_is_not_joined_to_the_next():
    model = collected(toy(horizon=40, p_end=0.0))  # 100 steps: two episodes and a half
    model.learn(2 * STEPS)
    summary = relabel_replay_buffer(model.replay_buffer, reward_for("LSTMb"), unfinished="keep")
    assert summary.n_steps == 2 * 4 * 40


def test_dictionaries_of_observations_are_relabelled():
    reward = reward_for(policy="MultiInputPolicy", observation_space=DICT)
    paid = collected(VecLearnedReward(toy(observation_space=DICT), reward), policy="MultiInputPolicy").replay_buffer
    buffer = collected(toy(observation_space=DICT), policy="MultiInputPolicy").replay_buffer
    relabel_replay_buffer(buffer, reward)
    np.testing.assert_allclose(buffer.rewards, paid.rewards, rtol=1e-4, atol=1e-5)


def test_the_rewards_before_and_after_are_said(caplog):
    buffer = collected(toy()).replay_buffer
    before = buffer.rewards[:STEPS].copy()
    with caplog.at_level(logging.INFO, logger="sb3_tare"):
        summary = relabel_replay_buffer(buffer, reward_for())
    after = buffer.rewards[:STEPS]
    expected = Relabelled(2 * STEPS, 0, before.mean(), before.std(), after.mean(), after.std())
    for name, value in vars(expected).items():
        assert getattr(summary, name) == pytest.approx(value, rel=1e-4, abs=1e-6)
    assert str(summary) in caplog.text
    assert str(summary).startswith("200 steps relabelled: rewards of mean")


def test_what_cannot_be_relabelled_is_refused_and_stays_as_it_is():
    reward = reward_for("LSTMf")
    buffer = collected(toy()).replay_buffer
    before = buffer.rewards.copy()
    with pytest.raises(
        ValueError, match=r"LSTMf looks at other steps or at the time, and \d+ steps of 200 .*unfinished='keep'"
    ):
        relabel_replay_buffer(buffer, reward)
    assert np.array_equal(buffer.rewards, before)
    with pytest.raises(ValueError, match="learned with action_space"):
        relabel_replay_buffer(buffer, reward_for(action_space=WIDE))
    with pytest.raises(ValueError, match="is empty"):
        relabel_replay_buffer(ReplayBuffer(10, OBSERVATION, BOX), reward)
    frugal = ReplayBuffer(10, OBSERVATION, BOX, optimize_memory_usage=True, handle_timeout_termination=False)
    frugal.add(np.zeros(3), np.zeros(3), np.zeros(2), np.zeros(1), np.zeros(1), [{}])
    with pytest.raises(ValueError, match="optimize_memory_usage=True"):
        relabel_replay_buffer(frugal, reward)
    assert relabel_replay_buffer(frugal, reward_for()).n_steps == 1
    with pytest.raises(ValueError, match="compute_reward"):
        relabel_replay_buffer(HerReplayBuffer.__new__(HerReplayBuffer), reward)
    with pytest.raises(ValueError, match="paid by the RewardLearner"):
        relabel_replay_buffer(LearnedReplayBuffer(10, OBSERVATION, BOX), reward)
    with pytest.raises(ValueError, match="paid by TAREAWR"):
        relabel_replay_buffer(awr().replay_buffer, reward)
    with pytest.raises(TypeError, match=r"such as model\.replay_buffer, got a SAC"):
        relabel_replay_buffer(tiny(SAC), reward)


@pytest.mark.parametrize(
    ("algorithm", "steps"), [(SAC, 1_000), (DQN, 1_000), pytest.param(SAC, 10_000, marks=pytest.mark.slow)]
)
def test_an_algorithm_goes_on_on_learned_rewards_alone(algorithm, steps):
    space = {"action_space": actions_of(algorithm)}
    reward = reward_for(**space)
    model = tiny(algorithm, toy(**space), gradient_steps=1, train_freq=2, buffer_size=2 * steps).learn(steps)
    relabel_replay_buffer(model.replay_buffer, reward)
    model.set_env(VecLearnedReward(model.get_env(), reward))
    model.learn(steps, reset_num_timesteps=False)
    buffer = model.replay_buffer
    learned = buffer.rewards.copy()
    assert relabel_replay_buffer(buffer, reward).n_steps == 2 * steps
    np.testing.assert_allclose(buffer.rewards, learned, rtol=1e-4, atol=1e-5)

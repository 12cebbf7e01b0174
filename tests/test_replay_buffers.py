"""Replay buffers that keep what the environment paid, know which episodes are whole, and pay learned rewards when asked to."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from off_policy_toys import DICT, FAST, STEPS, Ended, close, in_memory, rewards_of, seen, tiny, trained
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3 import DQN, SAC, HerReplayBuffer
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.envs import BitFlippingEnv
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import VecNormalize
from toys import vec_env

from sb3_tare import LearnedDictReplayBuffer, LearnedNStepReplayBuffer, LearnedReplayBuffer, RewardLearner
from sb3_tare.hosts.replay_buffers import take_over

# Paid rewards


@pytest.mark.parametrize("kwargs", [{}, {"policy": "MultiInputPolicy"}], ids=["vector", "dictionary"])
def test_a_sampled_batch_is_paid_by_todays_reward_and_the_buffer_keeps_the_environments(kwargs):
    learner = RewardLearner(**FAST)
    env = seen(dense=False, **({"observation_space": DICT} if kwargs else {}))
    model = trained(learner, env=env, **kwargs)
    buffer, trainer = model.replay_buffer, learner.trainer
    kept = buffer.rewards.copy()
    with trainer.host.paying(trainer.paid):
        batch = buffer.sample(32)
        assert torch.equal(batch.rewards[:, 0], trainer.paid(batch.observations, batch.actions))
    assert np.array_equal(buffer.rewards, kept)
    assert set(np.unique(buffer.sample(64).rewards)) <= set(np.unique(kept))
    assert batch.rewards.std() > 0


def test_several_steps_are_paid_each_by_its_own_reward():
    learner = RewardLearner(**FAST)
    model = trained(learner, n_steps=3)
    assert type(model.replay_buffer) is LearnedNStepReplayBuffer
    with learner.trainer.host.paying(lambda observations, actions: torch.ones(len(actions))):
        rewards = model.replay_buffer.sample(200).rewards
    gamma = model.gamma
    assert np.allclose(np.unique(rewards.round(decimals=4)), np.round([1.0, 1 + gamma, 1 + gamma + gamma**2], 4), atol=1e-4)


def test_behind_vecnormalize_the_reward_sees_observations_by_todays_statistics():
    learner = RewardLearner(**FAST)
    model = trained(learner, env=VecNormalize(seen(dense=False)))
    env, memory = model.get_vec_normalize_env(), learner.trainer.memory
    states = memory.finished(torch.tensor([0])).states
    rows, columns = memory._ring.steps(torch.tensor([0]))
    assert np.allclose(states.numpy(), env.normalize_obs(model.replay_buffer.observations[rows, columns]), atol=1e-6)
    env.obs_rms.mean += 1.0
    assert not torch.allclose(states, memory.finished(torch.tensor([0])).states, atol=0.1)


def test_behind_vecnormalize_totals_are_the_environments_own():
    ended, learner = Ended(), RewardLearner(**FAST)
    trained([ended, learner], env=VecNormalize(seen(dense=False), clip_reward=0.01))
    assert close(in_memory(learner), ended.episodes)


class Counted(ReplayBuffer):
    """A class of a user's own that reads rewards as SB3 does."""

    n_sampled = 0

    def _get_samples(self, batch_inds, env=None):
        self.n_sampled += len(batch_inds)
        return super()._get_samples(batch_inds, env)


class LearnedCounted(LearnedReplayBuffer, Counted):
    """The same, cooperating."""


class Elsewhere(ReplayBuffer):
    """One whose rewards come from elsewhere."""

    def _get_samples(self, batch_inds, env=None):
        rewards, self.rewards = self.rewards, np.zeros_like(np.asarray(self.dones))
        try:
            return super()._get_samples(batch_inds, env)
        finally:
            self.rewards = rewards


class LearnedElsewhere(LearnedReplayBuffer, Elsewhere):
    """The same, named as if it cooperated."""


def test_a_class_of_ones_own_pays_by_inheriting_and_is_refused_otherwise():
    model = tiny(SAC, replay_buffer_class=LearnedCounted)
    model.learn(60, callback=RewardLearner(**FAST))
    assert type(model.replay_buffer) is LearnedCounted
    assert model.replay_buffer.n_sampled > 0
    with pytest.raises(ValueError, match="cannot pay learned rewards from a Counted: let it inherit from LearnedReplayBuffer"):
        tiny(SAC, replay_buffer_class=Counted).learn(10, callback=RewardLearner(**FAST))


def test_a_class_that_takes_rewards_from_elsewhere_is_told_so():
    with pytest.raises(RuntimeError, match=r"LearnedElsewhere\._get_samples does not read self\.rewards"):
        tiny(SAC, replay_buffer_class=LearnedElsewhere).learn(60, callback=RewardLearner(**FAST))


class ByRows(ReplayBuffer):
    """One for a single environment, which leaves out the columns."""

    def _get_samples(self, batch_inds, env=None):
        self.rewards[batch_inds]
        return super()._get_samples(batch_inds, env)


class LearnedByRows(LearnedReplayBuffer, ByRows):
    """The same, named as if it cooperated."""


def test_a_class_that_reads_rewards_without_their_columns_is_told_how_to():
    with pytest.raises(TypeError, match=r"LearnedByRows\._get_samples reads self\.rewards other than by rows and columns"):
        tiny(SAC, seen(1, dense=False), replay_buffer_class=LearnedByRows).learn(60, callback=RewardLearner(**FAST))


class Own(ReplayBuffer):
    """One that samples in a way of its own."""

    def sample(self, batch_size, env=None):
        rows, columns = np.arange(batch_size) % self.size(), np.zeros(batch_size, dtype=int)
        dones, rewards = (array[rows, columns][:, None] for array in (self.dones, self.rewards))
        steps = [array[rows, columns] for array in (self.observations, self.actions, self.next_observations)]
        return ReplayBufferSamples(*map(self.to_torch, (*steps, dones, rewards)))


class LearnedOwn(LearnedReplayBuffer, Own):
    """The same, named as if it cooperated."""


def test_a_class_whose_own_sample_is_paid_extrinsic_rewards_is_told_so():
    with pytest.raises(RuntimeError, match=r"batches of LearnedOwn for which no learned reward was asked: let its sample\(\)"):
        tiny(SAC, replay_buffer_class=LearnedOwn).learn(100, callback=RewardLearner(**FAST))


def test_users_may_name_the_class_themselves():
    for policy, env, named in (
        ("MlpPolicy", seen(dense=False), LearnedReplayBuffer),
        ("MultiInputPolicy", seen(dense=False, observation_space=DICT), LearnedDictReplayBuffer),
    ):
        model = tiny(SAC, env, policy, replay_buffer_class=named).learn(60, callback=RewardLearner(**FAST))
        assert type(model.replay_buffer) is named


def test_hindsight_replay_is_refused_with_its_reason():
    model = tiny(DQN, BitFlippingEnv(n_bits=3), "MultiInputPolicy", replay_buffer_class=HerReplayBuffer)
    with pytest.raises(ValueError, match="HerReplayBuffer pays by compute_reward for goals that were never pursued"):
        model.learn(10, callback=RewardLearner(**FAST))


@pytest.mark.parametrize("buffer_class", [None, LearnedReplayBuffer])
def test_a_buffer_without_next_observations_is_refused_with_its_reason(buffer_class):
    options = {"replay_buffer_kwargs": {"handle_timeout_termination": False}, "optimize_memory_usage": True}
    model = tiny(SAC, replay_buffer_class=buffer_class, **options)
    with pytest.raises(ValueError, match="optimize_memory_usage=True keeps no next observations, by which an episode"):
        model.learn(10, callback=RewardLearner(**FAST))


def test_a_buffer_of_another_number_of_environments_is_refused_with_both_numbers(tmp_path):
    tiny(SAC).save_replay_buffer(tmp_path / "two.pkl")
    model = tiny(SAC, vec_env(3, lambda: gym.make("Pendulum-v1")))
    model.load_replay_buffer(tmp_path / "two.pkl")
    with pytest.raises(ValueError, match="holds steps of 2 environments, and there are 3"):
        RewardLearner(**FAST).attach(model)


# Whole episodes


@pytest.mark.parametrize("kwargs", [{}, {"train_freq": 13}, {"n_steps": 3}], ids=str)
def test_every_episode_that_ends_is_in_the_memory_with_its_length_and_its_total(kwargs):
    ended, learner = Ended(), RewardLearner(**FAST)
    trained([ended, learner], steps=390, **kwargs)
    n_learned = len(in_memory(learner))
    assert n_learned >= len(ended.episodes) - 2 > 10
    assert close(in_memory(learner), ended.episodes[:n_learned])


def test_an_episode_that_loses_its_first_steps_to_newer_ones_leaves():
    ended, learner = Ended(), RewardLearner(**FAST)
    trained([ended, learner], steps=400, env=seen(1, dense=False), buffer_size=64)
    kept = in_memory(learner)
    assert close(kept, ended.episodes[-len(kept) :])
    assert sum(length for length, _ in kept) <= 64 < sum(length for length, _ in ended.episodes)


def test_an_episode_that_another_call_of_learn_broke_off_is_left_out():
    ended, learner = Ended(), RewardLearner(**FAST)
    model = trained([ended, learner], steps=20, env=seen(1, dense=False, p_end=0.0))
    model.learn(31, callback=[ended, learner])
    assert [length for length, _ in in_memory(learner)] == [15, 15, 15]
    assert close(in_memory(learner), ended.episodes)


@pytest.mark.parametrize("buffer_size", [1_000, 100])
def test_a_buffer_that_holds_steps_is_taken_over_with_its_whole_episodes(buffer_size):
    ended, learner = Ended(), RewardLearner(**FAST)
    model = trained(ended, steps=200, env=seen(1, dense=False, p_end=0.0), buffer_size=buffer_size)
    model.learn(15, callback=[ended, learner], reset_num_timesteps=False)
    kept = in_memory(learner)
    assert len(kept) == (14 if buffer_size == 1_000 else 6)
    assert close(kept, ended.episodes[-len(kept) :])
    assert type(model.replay_buffer) is LearnedReplayBuffer


def test_what_is_taken_over_keeps_its_arrays_and_its_place():
    model = trained(None, steps=60)
    buffer = model.replay_buffer
    arrays, pos = dict(vars(buffer)), buffer.pos
    assert take_over(buffer) is buffer
    assert all(vars(buffer)[name] is array for name, array in arrays.items())
    assert (buffer.pos, buffer.n_written) == (pos, 30)
    assert isinstance(take_over(tiny(SAC, n_steps=2).replay_buffer), NStepReplayBuffer)


def test_a_loaded_buffer_takes_the_place_of_the_one_before(tmp_path):
    learner = RewardLearner(**FAST)
    model = trained(learner)
    model.save_replay_buffer(tmp_path / "memory")
    before = in_memory(learner)
    model.learn(STEPS, callback=learner, reset_num_timesteps=False)
    model.load_replay_buffer(tmp_path / "memory")
    assert in_memory(learner) != before
    model.learn(40, callback=learner)
    assert close(in_memory(learner)[: len(before)], before)
    assert rewards_of(model).shape == (STEPS // 2 + 20, 2)


def test_draws_are_steps_of_their_episodes():
    learner = RewardLearner(**FAST)
    trained(learner)
    memory = learner.trainer.memory
    draw = memory.sample(5, 4, torch.Generator().manual_seed(0))
    every = memory.finished(torch.arange(len(memory)))
    firsts = every.lengths.cumsum(0) - every.lengths
    for place, (total, length) in enumerate(zip(draw.totals, draw.lengths, strict=True)):
        (episode,) = [e for e in range(len(memory)) if every.totals[e] == total and every.lengths[e] == length]
        own = every.states[firsts[episode] : firsts[episode] + length]
        for state in draw.states[4 * place : 4 * place + 4]:
            assert (own == state).all(1).any()


def test_actions_enter_as_they_were_executed_in_the_units_of_the_policy():
    learner = RewardLearner(**FAST)
    model = trained(learner)
    memory = learner.trainer.memory
    finished = memory.finished(torch.arange(len(memory)))
    assert float(finished.actions.abs().max()) <= 1.0
    assert torch.allclose(memory.squared_actions, finished.squared_actions)
    learner = RewardLearner(**FAST)
    model = tiny(DQN, InvalidActionEnvDiscrete(dim=4, n_invalid_actions=1), learning_starts=10_000).learn(
        210, callback=learner
    )
    assert learner.trainer.memory.finished(torch.tensor([0])).actions.shape[1] == model.action_space.n

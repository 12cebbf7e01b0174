"""Rows of a replay buffer belong to the episodes that were played, whoever else fills the buffer or moves the environments."""

import pytest
from off_policy_toys import FAST, Ended, Seen, close, in_memory, seen, tiny, trained
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from toys import vec_env

from sb3_tare import LearnedReplayBuffer, RewardLearner


def one(**kwargs):
    """An environment whose episodes have 15 steps."""
    return seen(1, dense=False, p_end=0.0, **kwargs)


class Grows(Seen):
    """Its episodes are longer once it was told so."""

    def __init__(self):
        super().__init__(dense=False, p_end=0.0)
        self.later = self.horizon

    def reset(self, **kwargs):
        self.horizon = self.later
        return super().reset(**kwargs)


# Filled or emptied by somebody else


def emptied_by_hand(buffer):
    buffer.pos, buffer.full = 0, False


@pytest.mark.parametrize("empty", [ReplayBuffer.reset, emptied_by_hand])
def test_a_buffer_that_was_emptied_is_read_anew(empty):
    ended, learner = Ended(), RewardLearner(**FAST)
    env = vec_env(1, Grows)
    model = trained([ended, learner], steps=40, env=env)
    empty(model.replay_buffer)
    env.envs[0].unwrapped.later = 45  # it has more rows than before when the first episode ends
    ended.episodes.clear()
    model.learn(91, callback=[ended, learner])
    assert [length for length, _ in in_memory(learner)] == [45, 45]
    assert close(in_memory(learner), ended.episodes)
    assert learner.trainer.decomposer.reward.moments.count == 30 + 90


def test_a_buffer_of_the_learners_class_may_be_filled_through_its_arrays():
    played, ended, learner = Ended(), Ended(), RewardLearner(**FAST)
    source = trained(played, steps=40, env=one()).replay_buffer
    model = tiny(SAC, one(), replay_buffer_class=LearnedReplayBuffer, learning_starts=10_000)
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts"):
        getattr(model.replay_buffer, name)[:40] = getattr(source, name)[:40]
    model.replay_buffer.pos = 40
    model.learn(31, callback=[ended, learner])
    assert close(in_memory(learner), played.episodes + ended.episodes)


class Mirrored(ReplayBuffer):
    """Stores each step a second time, mirrored."""

    def add(self, obs, next_obs, action, *args):
        super().add(obs, next_obs, action, *args)
        super().add(-obs, -next_obs, -action, *args)


class Picky(ReplayBuffer):
    """Leaves out some steps."""

    def add(self, *args):
        if self.pos % 5:
            super().add(*args)


@pytest.mark.parametrize(("base", "n_rows"), [(Mirrored, 2), (Picky, 0)])
def test_a_class_that_does_not_store_one_row_a_step_is_refused(base, n_rows):
    own = type("Own", (LearnedReplayBuffer, base), {})
    with pytest.raises(RuntimeError, match=rf"Own\.add has stored {n_rows} rows of a step, .*: let it store each step once"):
        trained(RewardLearner(**FAST), replay_buffer_class=own)

"""Rows of a replay buffer belong to the episodes that were played, whoever else fills the buffer or moves the environments."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from off_policy_toys import FAST, Ended, Seen, close, in_memory, seen, tiny, trained
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import StopTrainingOnMaxEpisodes
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor
from toys import Watch, vec_env

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


# Environments that somebody else moved


def play(*calls, env=None, between=lambda model: None, **kwargs):
    """Episodes that ended, and those that the learner knows, after calls of ``learn()`` with given steps and callbacks."""
    ended, learner = Ended(), RewardLearner(**FAST)
    model = tiny(SAC, one() if env is None else env, learning_starts=10_000)
    for steps, *others in calls:
        model.learn(steps, callback=[*others, ended, learner], **{"reset_num_timesteps": False, **kwargs})
        between(model)
    return ended.episodes, in_memory(learner)


def lengths(episodes):
    return [length for length, _ in episodes]


def test_an_episode_whose_last_step_was_never_stored_is_not_joined_to_the_next():
    with pytest.warns(
        UserWarning, match="an episode ended with a step that did not enter the replay buffer, since a callback"
    ):
        ended, known = play(*[(1_000, StopTrainingOnMaxEpisodes(3)) for _ in range(3)])
    assert len(ended) == 9
    assert close(known, ended[:2] + ended[3:5] + ended[6:8])


def test_an_episode_in_whose_midst_a_step_was_never_stored_is_left_out():
    stop = Watch(step=lambda watch: watch.num_timesteps != 23)
    ended, known = play((100, stop), (40, stop))
    assert close(known, [ended[0], *ended[2:]])
    assert lengths(ended) == [15] * 4


@pytest.mark.parametrize("reset", [False, True])
def test_where_every_episode_ends_with_a_step_that_is_not_stored_it_is_said_once(reset):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ended, known = play(*[(1_000, StopTrainingOnMaxEpisodes(1)) for _ in range(4)], reset_num_timesteps=reset)
    assert (len(ended), known) == (4, [])
    assert sum("did not enter the replay buffer" in str(each.message) for each in caught) == 1


@pytest.mark.parametrize("n_envs", [1, 2])
def test_environments_that_were_evaluated_in_between_leave_out_the_episode_that_this_broke(n_envs):
    ended, known = play(
        (22 * n_envs,),
        (61 * n_envs,),
        env=seen(n_envs, dense=False, p_end=0.0),
        between=lambda model: evaluate_policy(model, model.get_env(), n_envs, warn=False),
    )
    assert lengths(known) == [15] * 5 * n_envs
    assert close(known, ended)


def test_other_environments_in_between_break_the_episode_off():
    ended, known = play((22,), (40,), between=lambda model: model.set_env(one()))
    assert lengths(known) == [15, 15, 15]
    assert close(known, ended)


class Dark(Seen):
    """Shows the same in each step."""

    def _observe(self):
        return super()._observe() * 0.0


@pytest.mark.parametrize("monitored", [True, False])
def test_a_reset_is_known_where_all_observations_are_alike(monitored):
    def make():
        return Dark(dense=False, p_end=0.0)

    env = vec_env(1, make) if monitored else VecMonitor(DummyVecEnv([make]))
    ended, known = play((22,), (22,), (40,), env=env, reset_num_timesteps=True)
    assert lengths(known) == [15, 15, 15, 15]
    assert close(known, ended)


def test_a_reset_is_known_where_a_model_and_its_memory_were_loaded(tmp_path):
    env = vec_env(1, lambda: Dark(dense=False, p_end=0.0))
    model = trained(RewardLearner(**FAST), steps=22, env=env)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "memory")
    loaded, ended, learner = SAC.load(tmp_path / "model", env=env), Ended(), RewardLearner(**FAST)
    loaded.load_replay_buffer(tmp_path / "memory")
    loaded.learn(31, callback=[ended, learner], reset_num_timesteps=False)
    assert lengths(in_memory(learner)) == [15, 15, 15]
    assert close(in_memory(learner)[1:], ended.episodes)


def test_an_interrupted_run_leaves_out_the_episode_that_it_was_in():
    def interrupt(watch):
        if watch.num_timesteps == 23:
            raise KeyboardInterrupt

    ended, learner, model = Ended(), RewardLearner(**FAST), tiny(SAC, one(), learning_starts=10_000)
    with pytest.raises(KeyboardInterrupt):
        model.learn(100, callback=[ended, learner, Watch(step=interrupt)])
    model.learn(40, callback=[ended, learner], reset_num_timesteps=False)
    assert close(in_memory(learner), [ended.episodes[0], *ended.episodes[2:]])


def test_where_nobody_moved_the_environments_episodes_go_on_over_calls():
    ended, known = play((22,), (4,), (40,))
    assert len(known) == 4
    assert close(known, ended)


def test_seams_are_saved_with_the_buffer_and_leave_it_with_their_rows(tmp_path):
    learner = RewardLearner(**FAST)
    model = trained(learner, steps=22, env=one(), buffer_size=40)
    model.learn(10, callback=learner)
    assert {row: begins.tolist() for row, begins in model.replay_buffer.seams.items()} == {0: [True], 22: [True]}
    model.save_replay_buffer(tmp_path / "memory")
    model.load_replay_buffer(tmp_path / "memory")
    assert set(model.replay_buffer.seams) == {0, 22}
    model.learn(10, callback=learner, reset_num_timesteps=False)
    assert set(model.replay_buffer.seams) == {22}


def test_another_memory_in_the_midst_of_an_episode_does_not_continue_it():
    ended, known = play((22,), (40,), between=lambda model: model.replay_buffer.reset())
    assert close(known, ended[2:])
    assert len(known) == 2


def test_memories_and_learners_that_were_saved_before_there_were_seams_go_on(tmp_path):
    ended, learner = Ended(), RewardLearner(**FAST)
    model = trained([ended, learner], steps=22, env=one())
    state = learner.state_dict()
    del state["generation"], vars(model.replay_buffer)["seams"]
    model.save_replay_buffer(tmp_path / "memory")
    model.load_replay_buffer(tmp_path / "memory")
    later = RewardLearner(**FAST)
    later.attach(model)
    later.load_state_dict(state)
    model.learn(23, callback=[ended, later], reset_num_timesteps=False)
    assert close(in_memory(later), ended.episodes)
    assert later.trainer.decomposer.reward.moments.count == 45


# Calls and learners that note nothing


def stop_at(step):
    return Watch(step=lambda watch: watch.num_timesteps != step)


def test_a_call_in_which_nothing_is_collected_leaves_the_next_one_what_was_known():
    ended, known = play((100, stop_at(23)), (0,), (40,))
    assert close(known, [ended[0], *ended[2:]])


def test_environments_that_were_moved_after_a_call_in_which_nothing_was_collected_break_the_episode_off():
    moved = iter([False, True, False])
    ended, known = play((22,), (0,), (40,), between=lambda model: next(moved) and evaluated(model))
    assert len(ended) == 3
    assert close(known, [ended[0], *ended[2:]])


def evaluated(model):
    evaluate_policy(model, model.get_env(), 1, warn=False)
    model.get_env().step(np.zeros((1, 2), dtype=np.float32))  # so that no episode begins now


def test_in_an_emptied_memory_nothing_begins_where_others_have_moved_the_environments():
    def empty(model):
        if model.num_timesteps == 30:  # an episode has ended, and the next one is begun by others
            model.replay_buffer.reset()
            evaluated(model)

    ended, known = play((30,), (40,), between=empty)
    assert len(ended) == 4
    assert close(known, ended[3:])


def test_in_an_emptied_memory_nothing_begins_amid_the_episode_of_which_a_step_was_never_stored():
    env = VecMonitor(DummyVecEnv([lambda: Seen(dense=False, p_end=0.0)]))
    ended, known = play((100, stop_at(23)), (40,), env=env, between=lambda model: model.replay_buffer.reset())
    assert len(ended) == 4
    assert close(known, ended[2:])


@pytest.mark.parametrize("stopped", ["at a step that is not stored", "by total_timesteps, then evaluated"])
@pytest.mark.parametrize("n_envs", [1, 2])
def test_a_learner_that_comes_later_leaves_out_the_episode_that_was_broken_before_it_came(stopped, n_envs):
    model = tiny(SAC, seen(n_envs, dense=False, p_end=0.0), learning_starts=10_000)
    played, ended, learner = Ended(), Ended(), RewardLearner(**FAST)
    if stopped == "at a step that is not stored":
        model.learn(100, callback=[played, stop_at(22 * n_envs)])
    else:
        model.learn(22 * n_envs, callback=played)
        model.get_env().step(np.zeros((n_envs, 2), dtype=np.float32))
    model.learn(40 * n_envs, callback=[ended, learner], reset_num_timesteps=False)
    assert len(played.episodes) == n_envs
    assert close(in_memory(learner), played.episodes + ended.episodes[n_envs:])


def test_a_learner_that_comes_later_goes_on_with_the_episode_that_is_under_way():
    model = tiny(SAC, seen(2, dense=False, p_end=0.0), learning_starts=10_000)
    played, learner = Ended(), RewardLearner(**FAST)
    model.learn(44, callback=played)
    model.learn(80, callback=[played, learner], reset_num_timesteps=False)
    assert close(in_memory(learner), played.episodes)


class Warmed(gym.Wrapper):
    """Takes two steps before it shows an episode, of which ``Monitor`` knows and nobody else."""

    def reset(self, **kwargs):
        self.env.reset(**kwargs)
        for _ in range(2):
            observation, *_, info = self.env.step(np.zeros(2, dtype=np.float32))
        return observation, info


def test_a_learner_that_comes_later_knows_a_reset_whatever_monitors_count():
    env, learner = DummyVecEnv([lambda: Warmed(Monitor(Seen(dense=False, p_end=0.0)))]), RewardLearner(**FAST)
    model = tiny(SAC, env, learning_starts=10_000).learn(22)
    model.set_env(env)  # so that it is reset
    model.learn(30, callback=learner, reset_num_timesteps=False)
    assert lengths(in_memory(learner)) == [13, 13, 13]

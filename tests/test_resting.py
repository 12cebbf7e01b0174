"""Rewards are learned from whole episodes as they were played, whoever moves the environments between calls of learn()."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv
from toys import OBSERVATION, SMALL, SMALL_AWR, Toy, Watch, tare_awr, vec_env

from sb3_tare import RewardLearner

FAST = {"reward_every": 0, "decomposition_updates": 1, "architecture_kwargs": {"hidden_size": 8}}
HORIZON, TOTAL = 10, 55
N_STEPS = 16


class Counting(Toy):
    """Each step pays its number, so that an episode's total tells whether all of its steps are there."""

    def __init__(self):
        super().__init__(OBSERVATION, gym.spaces.Discrete(2), HORIZON)
        self.interrupts_at = None

    def step(self, action):
        observation, _, terminated, truncated, info = super().step(action)
        if self.time == self.interrupts_at:
            self.interrupts_at = None
            raise KeyboardInterrupt
        return observation, float(self.time), terminated, truncated, info


def monitored():
    return vec_env(2, Counting)


def unmonitored():
    return DummyVecEnv([Counting, Counting])


def totals(trainer):
    memory = trainer.decomposer.memory
    return list(zip(memory.lengths.tolist(), memory.totals.tolist(), strict=True))


class OnPPO:
    """A bare learner beside PPO."""

    def __init__(self, env):
        self.learner = RewardLearner(**FAST)
        self.model = PPO("MlpPolicy", env, **{**SMALL, "n_steps": N_STEPS, "batch_size": N_STEPS})

    def learn(self, n_rollouts, *callbacks):
        n_steps = 2 * N_STEPS * n_rollouts
        self.model.learn(n_steps, callback=[*callbacks, self.learner], reset_num_timesteps=False)

    @property
    def known(self):
        return totals(self.learner.trainer)


class OnAWR(OnPPO):
    """A TAREAWR."""

    def __init__(self, env):
        self.model = tare_awr(env, host={**SMALL_AWR, "train_freq": N_STEPS}, preset="decomposition", **FAST)

    def learn(self, n_rollouts, *callbacks):
        self.model.learn(2 * N_STEPS * n_rollouts, callback=list(callbacks), reset_num_timesteps=False)

    @property
    def known(self):
        return totals(self.model.reward_learner.trainer)


def stopping_at(step):
    return Watch(step=lambda watch: watch.n_calls != step)


def evaluated(run):
    evaluate_policy(run.model, run.model.get_env(), n_eval_episodes=1, warn=False)


def stepped(run):
    run.model.get_env().step(np.zeros(2, dtype=np.int64))


def reset(run):
    run.model.get_env().reset()


def interrupted(run):
    run.model.get_env().envs[0].unwrapped.interrupts_at = 9
    with pytest.raises(KeyboardInterrupt):
        run.learn(1)


HOSTS = pytest.mark.parametrize("host", [OnPPO, OnAWR])


@HOSTS
@pytest.mark.parametrize("between", [evaluated, stepped, reset, interrupted])
def test_an_episode_that_others_broke_off_is_not_joined_to_another(host, between):
    run = host(monitored())
    run.learn(1)
    between(run)
    run.learn(3)
    assert set(run.known) == {(HORIZON, TOTAL)}
    assert len(run.known) >= 2 * 4


@HOSTS
@pytest.mark.parametrize("env", [monitored, unmonitored])
@pytest.mark.parametrize("step", [5, 9, 10, 11, N_STEPS])
def test_where_a_callback_stops_training_no_step_is_missing_from_an_episode(host, env, step):
    """Of that step SB3 stores nothing, nor does it note whether an episode ended with it, or began."""
    run = host(env())
    run.learn(2, stopping_at(N_STEPS + step))
    run.learn(3)
    assert set(run.known) == {(HORIZON, TOTAL)}
    assert len(run.known) >= 2 * 4


def test_a_rollout_that_was_broken_off_where_the_one_before_had_ended_continues_nothing():
    run = OnPPO(monitored())
    run.learn(1)  # six steps into the second episode
    run.learn(1, stopping_at(HORIZON))  # and as many into the third
    run.learn(1)  # its end, and the fourth
    assert run.known == [(HORIZON, TOTAL)] * 2 * 2  # the first and the fourth, and none of pieces of two


@pytest.mark.parametrize("env", [monitored, unmonitored])
def test_an_episode_that_began_without_the_learner_is_left_out(env):
    run = OnPPO(env())
    run.model.learn(2 * N_STEPS)
    run.learn(1)
    run.model.learn(2 * N_STEPS, reset_num_timesteps=False)
    run.learn(2)
    assert set(run.known) == {(HORIZON, TOTAL)}


@HOSTS
def test_what_was_left_in_peace_goes_on(host):
    run = host(monitored())
    for _ in range(5):
        run.learn(1)
    assert run.known == [(HORIZON, TOTAL)] * 2 * (5 * N_STEPS // HORIZON)


def test_a_memory_that_is_taken_amid_an_episode_does_not_begin_one():
    run, other = OnAWR(monitored()), OnAWR(monitored())
    other.learn(1)
    run.learn(1)
    run.model.use_memory(other.model.replay_buffer)
    run.learn(1)
    assert set(run.known) == {(HORIZON, TOTAL)}

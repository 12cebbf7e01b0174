"""Environments whose reward is late, noisy or misleading."""

import itertools
import pickle
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv

from sb3_tare.envs import MUJOCO_TASKS, Chain, DelayedReward, NoisyReward
from sb3_tare.envs.chain import GOAL, LEFT, RIGHT, START

DELAYED = [f"sb3_tare/Delayed{task}" for task in MUJOCO_TASKS]
NOISY = [f"sb3_tare/Noisy{task}" for task in MUJOCO_TASKS]


class Counting(gym.Env):
    """Pays 1, 2, 3, ... and terminates after ``length`` steps; its observation is a draw."""

    observation_space = gym.spaces.Box(0.0, 1.0, (1,))
    action_space = gym.spaces.Discrete(2)

    def __init__(self, length: int = 7) -> None:
        self.length = length

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        return self.draw(), {}

    def step(self, action):
        self.steps += 1
        return self.draw(), float(self.steps), self.steps == self.length, False, {"steps": self.steps}

    def draw(self):
        return self.np_random.random(1, dtype=np.float32)


def episode(env: gym.Env, action=0, seed: int | None = 0):
    """Rewards and infos of one episode, and its observations."""
    observations, rewards, infos = [env.reset(seed=seed)[0]], [], []
    done = False
    while not done:
        observation, reward, terminated, truncated, info = env.step(action)
        observations.append(observation)
        rewards.append(reward)
        infos.append(info)
        done = terminated or truncated
    return rewards, infos, observations


def mean_return(policy: tuple[int, ...], time_limit: int) -> float:
    """Mean return of a policy that maps each of the states 1 to 9 to a move."""
    env = Chain(time_limit)
    state, _ = env.reset()
    total, terminated = 0.0, False
    while not terminated:
        state, _, terminated, _, info = env.step(np.int64(policy[state - 1]))
        total += info["noiseless_reward"]
    return total


@pytest.mark.parametrize("env_id", ["sb3_tare/Chain-v0", *DELAYED, *NOISY])
def test_every_registered_environment_passes_both_checkers(env_id):
    env = gym.make(env_id, disable_env_checker=True)
    env = env.unwrapped if env_id == "sb3_tare/Chain-v0" else env
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*is different from the unwrapped version")
        warnings.filterwarnings("ignore", message=".*observation space m.* value is")  # MuJoCo's own
        warnings.filterwarnings("ignore", message=".*symmetric and normalized Box action space")  # Humanoid's own
        check_env(env, skip_render_check=env_id != "sb3_tare/Chain-v0")
        check_env_for_sb3(env, skip_render_check=True)


@pytest.mark.parametrize("env_id", ["sb3_tare/DelayedHopper-v5", "sb3_tare/NoisyHopper-v5", "sb3_tare/Chain-v0"])
def test_an_environment_is_made_again_from_its_spec_and_its_pickle(env_id):
    env = gym.make(env_id, max_episode_steps=12)
    rewards, _, _ = episode(env, env.action_space.sample() * 0)
    for again in (gym.make(env.spec), pickle.loads(pickle.dumps(env))):
        assert str(again).split("<")[:2] == str(env).split("<")[:2]
        assert episode(again, env.action_space.sample() * 0)[0] == rewards


def test_registered_environments_run_in_processes():
    env = gym.make_vec("sb3_tare/DelayedHopper-v5", num_envs=2, vectorization_mode="async")
    env.reset(seed=0)
    _, rewards, _, _, infos = env.step(env.action_space.sample() * 0)
    assert (rewards == 0).all()
    assert (infos["undelayed_reward"] > 0).all()
    env.close()
    env = make_vec_env("sb3_tare:sb3_tare/NoisyHopper-v5", n_envs=2, seed=0, vec_env_cls=SubprocVecEnv)
    env.reset()
    assert len(set(env.step(np.zeros((2, 3)))[1])) == 2
    env.close()


def test_a_delayed_reward_is_paid_every_few_steps_and_what_is_owed_at_the_end():
    rewards, infos, _ = episode(DelayedReward(Counting(length=7), delay=3))
    assert rewards == [0, 0, 1 + 2 + 3, 0, 0, 4 + 5 + 6, 7]
    assert [info["undelayed_reward"] for info in infos] == [1, 2, 3, 4, 5, 6, 7]
    assert [info["steps"] for info in infos] == [1, 2, 3, 4, 5, 6, 7]


def test_without_a_number_of_steps_the_delayed_reward_is_paid_at_the_end_only():
    assert episode(DelayedReward(Counting(length=4), delay=None))[0] == [0, 0, 0, 10]


def test_what_is_owed_is_forgotten_by_a_reset():
    env = DelayedReward(Counting(length=4), delay=3)
    env.reset()
    env.step(0)
    assert episode(env)[0] == [0, 0, 6, 4]


@pytest.mark.parametrize("max_episode_steps", [20, 33])
def test_what_is_owed_is_paid_when_a_time_limit_truncates(max_episode_steps):
    env = gym.make("sb3_tare/DelayedHalfCheetah-v5", max_episode_steps=max_episode_steps)
    rewards, infos, _ = episode(env, env.action_space.sample())
    assert len(rewards) == max_episode_steps
    assert np.count_nonzero(rewards) == np.ceil(max_episode_steps / 20)
    assert sum(rewards) == pytest.approx(sum(info["undelayed_reward"] for info in infos))


def test_the_registered_delay_is_lirpgs_and_the_time_limit_the_tasks_own():
    spec = gym.spec("sb3_tare/DelayedHopper-v5")
    assert spec.additional_wrappers[0].kwargs == {"delay": 20}
    assert spec.max_episode_steps == gym.spec("Hopper-v5").max_episode_steps


def test_noise_has_the_given_deviation_and_no_mean():
    rewards, infos, _ = episode(NoisyReward(Counting(length=10_000), std=3.0))
    noise = np.array(rewards) - [info["noiseless_reward"] for info in infos]
    assert [info["noiseless_reward"] for info in infos[:3]] == [1, 2, 3]
    assert noise.std() == pytest.approx(3.0, rel=0.05)
    assert abs(noise.mean()) < 3 * 3.0 / np.sqrt(10_000)
    assert abs(np.corrcoef(noise[1:], noise[:-1])[0, 1]) < 0.05


def test_noise_follows_the_seed_and_goes_on_after_a_reset_without_one():
    env, other = NoisyReward(Counting()), NoisyReward(Counting())
    first = episode(env, seed=1)[0]
    assert episode(other, seed=1)[0] == first
    assert episode(env, seed=None)[0] != first
    assert episode(env, seed=2)[0] != first
    assert episode(env, seed=1)[0] == first


def test_noise_does_not_touch_the_environments_own_draws():
    assert episode(NoisyReward(Counting()), seed=3)[2] == episode(Counting(), seed=3)[2]


def test_noise_is_not_the_environments_own_stream():
    class Draws(Counting):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, self.np_random.standard_normal(), *rest

    rewards, infos, _ = episode(NoisyReward(Draws(length=1000), std=1.0), seed=0)
    own = np.array([info["noiseless_reward"] for info in infos])
    assert not np.intersect1d(np.array(rewards) - own, own).size


def test_the_chain_ends_at_both_ends_and_when_time_is_up():
    env = Chain(time_limit=16)
    assert [len(episode(env, action)[0]) for action in (LEFT, RIGHT)] == [START, GOAL - START]
    env.reset()
    for step in range(1, 17):
        _, _, terminated, truncated, _ = env.step(np.int64(step % 2))
        assert (terminated, truncated) == (step == 16, False)


def test_the_chain_pays_as_the_paper_says():
    env = Chain()
    assert episode(env, LEFT)[0] == [1.0] * 5
    rewards = np.array([episode(env, RIGHT, seed=seed)[0] for seed in range(2000)])
    goal = 10 - 0.01 * 5
    assert rewards.mean(axis=0) == pytest.approx([0.5, 0.5, 0.5, 0.5, 0.5 + goal], abs=0.1)
    assert rewards.std(axis=0) == pytest.approx(np.ones(5), rel=0.1)
    env.reset()
    moves = [LEFT, RIGHT, RIGHT, RIGHT, RIGHT, RIGHT, RIGHT]
    assert [env.step(np.int64(move))[4]["noiseless_reward"] for move in moves] == [1, *[0.5] * 5, 0.5 + 10 - 0.07]


def test_going_right_is_the_best_of_all_policies_of_the_state_up_to_fifteen_steps():
    def best(time_limit):
        return max(mean_return(policy, time_limit) for policy in itertools.product((LEFT, RIGHT), repeat=9))

    right = (RIGHT,) * 9
    assert best(15) == mean_return(right, 15) == pytest.approx(12.45)
    to_and_fro = (*(RIGHT,) * (START - 1), LEFT, *(RIGHT,) * 4)
    assert mean_return(to_and_fro, 16) == 12
    assert best(16) == 13


def test_the_chain_draws_where_one_is():
    env = Chain(render_mode="rgb_array")
    env.reset()
    start = env.render()
    env.step(np.int64(RIGHT))
    moved = env.render()
    assert start.shape == moved.shape == (32, 352, 3)
    changed = np.flatnonzero((start != moved).any(axis=(0, 2)))
    assert (changed.min(), changed.max()) == (32 * START, 32 * (START + 2) - 1)


@pytest.mark.parametrize("delay", [0, -1, 2.5, True, "20"])
def test_a_delay_is_a_positive_number_of_steps(delay):
    with pytest.raises(ValueError, match="delay must be a whole number of at least 1, or None"):
        DelayedReward(Counting(), delay=delay)


@pytest.mark.parametrize("std", [-1.0, float("nan"), float("inf"), "1.0", None])
def test_noise_has_a_deviation_that_is_a_number(std):
    with pytest.raises(ValueError, match="std must be a number of at least 0"):
        NoisyReward(Counting(), std=std)


def test_the_chain_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="time_limit must be a whole number of at least 1, got 0"):
        Chain(time_limit=0)
    with pytest.raises(ValueError, match="render_mode must be 'rgb_array' or None, got 'ansi'"):
        Chain(render_mode="ansi")
    env = Chain()
    env.reset()
    with pytest.raises(ValueError, match="action must be 0"):
        env.step(2)

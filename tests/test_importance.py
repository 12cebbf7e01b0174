"""What a learned reward looks at: laws of permutation importance, names of entries, and pictures."""

from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest
import torch
from builders import episodes_of, normal
from gymnasium import spaces
from stable_baselines3 import PPO, SAC
from toys import BOX, IMPLICIT, OBSERVATION, SMALL, Toy, tare, vec_env

from sb3_tare import LearnedReward
from sb3_tare.analysis import Episode, agreement, importance_bars, importances, observation_names, watch
from sb3_tare.analysis.figures import N_BARS
from sb3_tare.analysis.importance import InexplicableError
from sb3_tare.analysis.trajectories import Trajectories

WEIGHTS = torch.tensor([3.0, 0.0, -1.0], dtype=torch.float64)


class Reward:
    """A learned reward that is any function of observations, actions and rewards."""

    observation_space, action_space = OBSERVATION, BOX

    def __init__(self, function, **others):
        self.function = function
        vars(self).update(others)

    def __call__(self, observations, actions, rewards, episodes):
        return self.function(observations, actions, rewards, episodes)


def linear(observations, actions, rewards, episodes):
    return observations @ WEIGHTS + 0.5 * actions[:, 1]


def remembering(observations, actions, rewards, episodes):
    """The sum of the first entry since the episode's beginning, as a recurrent network may learn it."""
    return torch.cat([piece.cumsum(0) for piece in observations[:, 0].split(episodes.lengths.tolist())])


def steps_of(n: int = 400, scale=(1.0, 1.0, 2.0), n_episodes: int = 4, **others) -> Trajectories:
    """Steps whose entries do not correlate at all, of standard deviation 1 before they are scaled."""
    columns, _ = torch.linalg.qr(torch.cat([torch.ones(n, 1, dtype=torch.float64), normal(n, 6, seed=0)], dim=1))
    columns = columns[:, 1:] * n**0.5
    entries = {
        "observations": columns[:, :3] * torch.tensor(scale, dtype=torch.float64),
        "actions": columns[:, 3:5],
        "rewards": columns[:, 5],
        "episodes": episodes_of([n // n_episodes] * n_episodes),
        "original_rewards": columns[:, 5].numpy(),
        "undistorted_rewards": np.full(n, np.nan),
    }
    return Trajectories(**{**entries, **others})


def test_shares_of_a_sum_are_the_shares_of_its_parts_in_the_variance_and_sum_to_one():
    shares = importances(Reward(linear), steps_of(), n_shuffles=50)
    parts = np.array([3.0, 0.0, 2.0, 0.0, 0.5, 0.0]) ** 2
    assert list(shares) == [*(f"observation {i}" for i in range(3)), "action 0", "action 1", "extrinsic reward"]
    np.testing.assert_allclose(list(shares.values()), parts / parts.sum(), atol=0.02)
    assert sum(shares.values()) == pytest.approx(1.0, abs=0.03)


def test_the_order_is_that_of_weight_times_standard_deviation():
    for scale in ((1.0, 1.0, 2.0), (1.0, 1.0, 4.0), (5.0, 9.0, 0.1)):
        shares = list(importances(Reward(linear), steps_of(scale=scale)).values())
        assert np.array_equal(np.argsort(shares[:3]), np.argsort(WEIGHTS.abs().numpy() * scale))


def test_what_is_not_used_has_exactly_zero_in_a_network_too():
    model = tare(vec_env(), zero_head=False)
    reward = LearnedReward.of(model)
    steps = watch(model, vec_env(), 3).steps
    column = 1
    first = next(module for module in reward.network.modules() if isinstance(module, torch.nn.Linear))
    shares = list(importances(reward, steps).values())
    assert min(shares[:5]) > 0
    with torch.no_grad():
        first.weight[:, column] = 0
    shares = list(importances(reward, steps).values())
    assert shares[column] == 0
    assert shares[0] > 0


def test_the_unit_and_the_zero_of_rewards_do_not_matter():
    steps = steps_of()
    one = importances(Reward(linear), steps)
    other = importances(Reward(lambda *seen: 7.0 - 100 * linear(*seen)), steps)
    assert one == pytest.approx(other)


def test_entries_that_matter_together_have_more_than_the_whole():
    shares = importances(Reward(lambda observations, *_: observations[:, 0] * observations[:, 2]), steps_of(4000))
    assert shares["observation 0"] == pytest.approx(1.0, abs=0.15)
    assert shares["observation 2"] == pytest.approx(1.0, abs=0.15)


def test_memory_of_earlier_steps_counts():
    shares = importances(Reward(remembering), steps_of())
    assert shares.pop("observation 0") > 0.5
    assert set(shares.values()) == {0.0}


def test_a_discrete_observation_is_one_entry():
    states = torch.arange(400) % 5
    reward = Reward(lambda states, *_: states * 1.0, observation_space=spaces.Discrete(5))
    shares = importances(reward, steps_of(observations=states), n_shuffles=30)
    assert shares["observation"] == pytest.approx(1.0, abs=0.05)


def test_a_discrete_action_is_one_entry_and_the_extrinsic_reward_another():
    steps = steps_of(actions=torch.arange(400) % 3)
    reward = Reward(lambda o, actions, rewards, e: (actions == 1) * 2.0 + 0 * rewards, action_space=spaces.Discrete(3))
    shares = importances(reward, steps, n_shuffles=30)
    assert shares["action"] == pytest.approx(1.0, abs=0.05)
    assert shares["extrinsic reward"] == 0
    assert importances(Reward(lambda o, a, rewards, e: rewards), steps_of())["extrinsic reward"] > 0.9


def test_equal_seeds_give_equal_numbers():
    steps = steps_of()
    assert importances(Reward(linear), steps, seed=1) == importances(Reward(linear), steps, seed=1)
    assert importances(Reward(linear), steps, seed=1) != importances(Reward(linear), steps, seed=2)


@pytest.mark.parametrize(
    ("reward", "told"),
    [
        (Reward(linear, observation_space=spaces.Box(0, 255, (8, 8, 3), np.uint8)), "a Box of one dimension"),
        (Reward(linear, observation_space=spaces.MultiDiscrete([3, 3])), "observations are of Multi"),
        (Reward(linear, action_space=spaces.MultiBinary(2)), "actions are of MultiBinary"),
        (Reward(lambda observations, *_: 0 * observations[:, 0]), "the same at all steps"),
    ],
)
def test_what_cannot_be_explained_is_refused(reward, told):
    with pytest.raises(InexplicableError, match=told):
        importances(reward, steps_of())


def test_too_few_names_are_refused():
    with pytest.raises(ValueError, match="all 3 entries"):
        importances(Reward(linear), steps_of(), ["a", "b"])


def test_entries_of_mujoco_have_the_names_of_joints():
    with gym.make("sb3_tare/EpisodicHopper-v5") as env:
        names = observation_names(env.unwrapped, env.observation_space)
        assert len(names) == 11
        assert (names[0], names[5]) == ("position of rootz", "velocity of rootx")
        assert observation_names(env.unwrapped, spaces.Box(-1, 1, (12,))) == []  # a wrapper has put something beside
    with gym.make("Ant-v5") as env:
        names = observation_names(env.unwrapped, env.observation_space)
        assert len(set(names)) == 105
        assert (names[0], names[-1]) == ("position of root, 2", "cfrc_ext 77")
    assert observation_names(Toy(), OBSERVATION) == []


def test_bars_show_the_most_important_entries_and_tell_of_the_others():
    figure = importance_bars({f"entry {i}": float(i) for i in range(30)}, "title")
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == [f"entry {i}" for i in range(29, 29 - N_BARS, -1)]
    widths = [bar.get_width() for bar in ax.patches]
    assert all(upper >= lower for upper, lower in pairwise(widths))
    assert "18 further entries, at most 17 each" in ax.get_xlabel()


@pytest.mark.parametrize("told", [True, False])
def test_learned_rewards_are_drawn_against_true_ones_where_they_are_told(told):
    steps = np.arange(50.0)
    episode = Episode(steps % 2, -steps, steps, undistorted=steps if told else None)
    ax, _ = agreement([episode, episode]).axes
    assert ("before delay or noise" if told else "extrinsic") in ax.get_xlabel()
    assert ("correlation -1.000" in ax.get_title()) == told
    assert int(ax.collections[0].get_array().sum()) == 100


def test_the_policy_of_sac_is_watched_too():
    env = vec_env(1)
    watched = LearnedReward.of(tare(vec_env(1)))
    episodes = watch(SAC("MlpPolicy", env, policy_kwargs={"net_arch": [4]}), env, 2, watched).episodes()
    assert [len(episode.learned) for episode in episodes] == [20, 20]
    assert episodes[0].actions.shape == (20, 2)


def test_frames_are_of_the_steps_that_were_asked_for():
    model = PPO("MlpPolicy", "CartPole-v1", **SMALL)
    reward = LearnedReward.of(tare(vec_env(1, lambda: gym.make("CartPole-v1")), **IMPLICIT))
    env = vec_env(1, lambda: gym.make("CartPole-v1", render_mode="rgb_array"))
    first, second = watch(model, env, 2, reward, film=[0, 3]).episodes()
    assert list(first.frames) == [0, 3]
    assert not second.frames

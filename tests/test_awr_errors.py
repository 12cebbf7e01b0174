"""What cannot work on AWR is refused, with an error that names the argument, what it got and what would work."""

import re

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.sac.policies import SACPolicy
from toys import AS_HOST, SMALL_AWR, Broken, Toy, awr, awr_of, differences, implicit_learner, not_finite, tare_awr, vec_env

from sb3_tare import AWR, TAREAWR


def refused(error, *fragments):
    """``pytest.raises`` for a message that holds all ``fragments``, in any order."""
    return pytest.raises(error, match="".join(f"(?=.*{re.escape(fragment)})" for fragment in fragments))


POSITIVE = ["temperature", "max_weight", "action_std"]


@pytest.mark.parametrize("name", POSITIVE)
@pytest.mark.parametrize("value", [0, -1.0, float("nan"), float("inf"), "1e-3", None, True])
def test_what_must_be_positive(name, value):
    with refused(ValueError, f"{name} must be a number above 0", f"got {value!r}"):
        awr(**{name: value})


@pytest.mark.parametrize("name", ["bound_coef", "ent_coef", "learning_rate", "critic_learning_rate"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), "1", None])
def test_what_must_not_be_negative(name, value):
    with refused(ValueError, f"{name} must be a number at least 0", f"got {value!r}"):
        awr(**{name: value})


@pytest.mark.parametrize("value", [1.0, 1, -0.1, 1.5, float("nan")])
def test_the_discount_must_be_below_one(value):
    with refused(ValueError, "gamma must be a number at least 0.0 and below 1.0", f"got {value!r}"):
        awr(gamma=value)


@pytest.mark.parametrize("value", [-0.1, 1.1, float("nan")])
def test_lambda_lies_between_zero_and_one(value):
    with refused(ValueError, "td_lambda must be a number at least 0.0 and at most 1.0", f"got {value!r}"):
        awr(td_lambda=value)


def test_a_device_without_double_precision_is_refused():
    with refused(ValueError, "device='mps' has no double precision", "use device='cpu'"):
        AWR("MlpPolicy", "Pendulum-v1", device="mps")


COUNTS = {"buffer_size": 1, "batch_size": 1, "critic_steps": 0, "actor_steps": 0, "normalizer_steps": 0}


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", [-1, 1.5, "10", None, True])
def test_counts_are_whole_numbers(name, value):
    with refused(ValueError, f"{name} must be a whole number of at least {COUNTS[name]}", f"got {value!r}"):
        awr(**{name: value})


def test_a_memory_smaller_than_an_iteration_is_refused():
    with refused(ValueError, "buffer_size=1000 holds 1000 steps", "train_freq=2048", "raise buffer_size or lower train_freq"):
        AWR("MlpPolicy", vec_env(), buffer_size=1000)
    with refused(ValueError, "buffer_size=256 holds 32 steps of each of 8 environments", "train_freq=64"):
        awr(vec_env(8))
    awr(vec_env(4))  # just large enough


def test_a_batch_larger_than_the_memory_is_refused():
    with refused(ValueError, "batch_size=512", "buffer_size=256", "lower the one or raise the other"):
        awr(batch_size=512)


def test_whole_episodes_of_several_environments_are_refused():
    with refused(ValueError, "train_freq in episodes", "single environment", "got 2", "in steps"):
        awr(vec_env(2), train_freq=(1, "episode"))


def test_a_policy_of_another_algorithm_is_refused():
    with refused(TypeError, "SACPolicy", "MlpPolicy", "sb3_tare.awr.AWRPolicy"):
        awr(policy=SACPolicy)
    with refused(ValueError, "NoSuchPolicy"):
        awr(policy="NoSuchPolicy")


def test_an_extractor_that_actor_and_critic_share_is_refused():
    with refused(ValueError, "share_features_extractor=True", "leave it out"):
        awr(policy_kwargs={"share_features_extractor": True})


class Elsewhere(gym.Env):
    """Spaces that nothing can be done with."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space


@pytest.mark.parametrize(
    ("space", "fragment"),
    [
        (spaces.Box(-np.inf, np.inf, (2,), dtype=np.float32), "finite lower and upper bound"),
        (spaces.Dict({"a": spaces.Discrete(2)}), "Dict"),
    ],
    ids=["unbounded", "Dict"],
)
def test_actions_that_are_not_supported_are_refused(space, fragment):
    with refused(AssertionError, fragment):
        awr(Elsewhere(spaces.Box(-1, 1, (3,)), space))


@pytest.mark.parametrize("make", [awr, tare_awr], ids=["AWR", "TAREAWR"])
@pytest.mark.parametrize(
    ("broken", "fragments"),
    [
        ({"reward": float("nan")}, ("reward", "not finite", "nan", "environment")),
        ({"reward": float("inf")}, ("reward", "not finite", "inf", "environment")),
        ({"observation": np.array([0.0, np.nan, 0.0], dtype=np.float32)}, ("observation", "not finite", "nan", "environment")),
    ],
    ids=str,
)
def test_numbers_that_are_not_finite_are_refused_when_they_come(make, broken, fragments):
    model = make(vec_env(1, lambda: Broken(at=100, **broken)))
    with refused(ValueError, *fragments):
        model.learn(256)
    assert model.replay_buffer.size() == 99
    assert not not_finite(awr_of(model))
    assert np.isfinite(model.replay_buffer.rewards).all()


def test_a_critic_that_diverges_ends_the_run():
    with refused(
        FloatingPointError, "critic", "not finite", "rewards or observations of very large size", "critic_learning_rate"
    ):
        awr(critic_learning_rate=1e12, critic_steps=2048).learn(10 * 64)


def test_an_actor_that_diverges_ends_the_run():
    with refused(FloatingPointError, "actor", "not finite", "lower learning_rate"):
        awr(learning_rate=1e12, actor_steps=2048).learn(10 * 64)


# The reward learner


@pytest.mark.parametrize(
    ("settings", "fragments"),
    [
        ({"critics": 1}, ("critics=1", "leave it at 2")),
        ({"interleave": True}, ("interleave=True", "epochs", "leave it out")),
        ({"kl_coef": 0.5}, ("kl_coef=0.5", "no effect on AWR", "leave it out")),
        ({"sampled_steps": 1}, ("sampled_steps must be a whole number of at least 2", "got 1")),
        ({"sampled_steps": "many"}, ("sampled_steps", "got 'many'")),
    ],
    ids=str,
)
def test_a_setting_that_does_not_fit_is_refused(settings, fragments):
    with refused(ValueError, *fragments):
        tare_awr(**settings)


@pytest.mark.parametrize(("name", "meant"), [("sampled_step", "sampled_steps"), ("reward_mod", "reward_mode")])
def test_a_misspelt_setting_is_refused_with_the_one_that_may_be_meant(name, meant):
    with refused(TypeError, repr(name), "did you mean", repr(meant)):
        tare_awr(**{name: 1})


def test_settings_are_a_mapping():
    with refused(TypeError, "reward_kwargs must be a mapping", "'paper'"):
        TAREAWR("MlpPolicy", vec_env(), reward_kwargs="paper", **SMALL_AWR)


@pytest.mark.parametrize(("train_freq", "n_envs"), [(1, 1), (3, 1), (1, 3)])
def test_an_iteration_too_short_to_be_split_is_refused(train_freq, n_envs):
    with refused(ValueError, "at least 4 steps", f"train_freq={train_freq}", "raise train_freq"):
        tare_awr(vec_env(n_envs), host={"train_freq": train_freq})
    assert not not_finite(awr_of(tare_awr(vec_env(4), host={"train_freq": 1}, validation="next_rollout").learn(12)))


def test_a_learner_as_a_callback_is_refused_with_what_there_is_instead():
    with refused(TypeError, "AWR", "TAREAWR"):
        awr().learn(64, callback=implicit_learner())


def test_a_second_learner_is_refused():
    with refused(ValueError, "TAREAWR learns a reward of its own", "reward_kwargs"):
        tare_awr().learn(64, callback=implicit_learner())


def test_what_is_refused_leaves_the_model_as_it_was():
    model = awr().learn(64)
    before = awr_of(model)
    with refused(TypeError, "TAREAWR"):
        model.learn(64, callback=implicit_learner())
    assert not differences(before, awr_of(model))
    assert not not_finite(awr_of(tare_awr(**AS_HOST).learn(64)))


def test_an_observation_that_cannot_be_read_is_refused():
    with refused(Exception, "Tuple"):
        awr(Toy(spaces.Tuple([spaces.Discrete(2), spaces.Discrete(2)])))

"""Likely mistakes are answered with what to write instead, and objects tell what they are on a few lines."""

import re

import pytest
from sb3_contrib import RecurrentPPO
from toys import AS_HOST, SMALL, SMALL_AWR, awr, implicit_learner, tare, tare_awr, vec_env

from sb3_tare import AWR, LIRPG, TAREAWR, TAREPPO, LearnedReward, RewardLearner
from sb3_tare.utils.words import shortened


def refused(error, *fragments):
    """``pytest.raises`` for a message that holds all ``fragments``, in any order."""
    return pytest.raises(error, match="".join(f"(?=.*{re.escape(fragment)})" for fragment in fragments))


@pytest.mark.parametrize(
    ("owner", "setting"),
    [
        (TAREPPO, {"reward_mode": "add"}),
        (TAREPPO, {"preset": "paper"}),
        (LIRPG, {"through_second_moment": True}),
        (TAREAWR, {"sampled_steps": 64}),
    ],
    ids=str,
)
def test_a_setting_of_the_reward_at_the_top_level_belongs_into_reward_kwargs(owner, setting):
    ((name, value),) = setting.items()
    with refused(TypeError, name, f"{owner.__name__}(..., reward_kwargs={{{name!r}: {value!r}}})"):
        owner("MlpPolicy", "NoSuchEnvironment-v0", **setting)


@pytest.mark.parametrize(
    ("owner", "name", "meant"),
    [
        (TAREPPO, "n_step", "n_steps"),
        (LIRPG, "n_epoch", "n_epochs"),
        (TAREPPO, "leen", "lean"),
        (AWR, "temprature", "temperature"),
        (TAREAWR, "reward_kwarg", "reward_kwargs"),
        (TAREAWR, "actor_step", "actor_steps"),
    ],
)
def test_a_misspelt_argument_is_refused_with_the_one_that_may_be_meant(owner, name, meant):
    with refused(TypeError, f"{owner.__name__} has no argument {name!r}; did you mean {meant!r}?"):
        owner("MlpPolicy", "NoSuchEnvironment-v0", **{name: 1})


def test_an_argument_unlike_any_other_is_refused_with_those_that_there_are():
    with refused(TypeError, "'zzz'", "it takes", "n_steps", "lean", "reward_kwargs"):
        TAREPPO("MlpPolicy", "NoSuchEnvironment-v0", zzz=1)


@pytest.mark.parametrize("owner", [AWR, TAREAWR])
@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("learning_starts", "train_freq"),
        ("n_steps", "train_freq"),
        ("replay_buffer_kwargs", "use_memory"),
        ("replay_buffer_class", "use_memory"),
        ("gradient_steps", "critic_steps and actor_steps"),
        ("tau", "no target network"),
        ("gae_lambda", "td_lambda"),
    ],
)
def test_awr_says_what_takes_the_place_of_arguments_of_its_relatives(owner, name, instead):
    if owner is TAREAWR and name == "gae_lambda":
        instead = "reward_kwargs"
    with refused(TypeError, name, instead):
        owner("MlpPolicy", "NoSuchEnvironment-v0", **{name: 1})


def test_every_argument_of_sb3_is_still_taken():
    TAREPPO("MlpPolicy", vec_env(), reward_kwargs=AS_HOST, **{**SMALL, "vf_coef": 0.4, "lean": False, "target_kl": 0.1})
    TAREAWR("MlpPolicy", vec_env(), reward_kwargs=AS_HOST, **{**SMALL_AWR, "td_lambda": 0.9, "lean": False})


def test_a_recurrent_policy_is_refused_with_why_and_what_to_do():
    model = RecurrentPPO("MlpLstmPolicy", vec_env(), policy_kwargs={"net_arch": [8]})
    with refused(TypeError, "RecurrentPPO", "memory", "VecFrameStack", "TAREPPO"):
        model.learn(8, callback=RewardLearner())


MADE = {
    "TAREPPO": lambda: tare(),
    "TAREAWR": lambda: tare_awr(),
    "AWR": lambda: awr(),
    "RewardLearner": lambda: tare(damping=0.5).reward_learner,
    "RewardSettings": lambda: tare(architecture_kwargs={"hidden_size": 8}).reward_learner.settings,
    "LearnedReward": lambda: LearnedReward.of(tare()),
}


@pytest.mark.parametrize("name", MADE)
def test_objects_tell_what_they_are_on_ten_lines_at_most(name):
    told = repr(MADE[name]())
    assert told.startswith(f"{name}(")
    assert len(told) <= 1000
    assert "\n" not in told


@pytest.mark.parametrize(
    ("told", "fragment"),
    [
        (lambda: repr(implicit_learner(damping=0.5)), "no model yet"),
        (lambda: repr(tare(damping=0.5).reward_learner), "of a TAREPPO"),
        (lambda: repr(tare(damping=0.5).reward_learner), "damping=0.5"),
        (lambda: repr(tare(damping=0.5)), "'damping': 0.5"),
        (lambda: repr(tare(vec_env(2))), "n_envs=2"),
        (lambda: repr(awr()), "AWRPolicy"),
        (lambda: repr(LearnedReward.of(tare())), "LSTMbMul of "),
    ],
)
def test_what_tells_one_from_another_is_in_it(told, fragment):
    assert fragment in told()


def test_the_longest_description_is_cut():
    assert len(shortened("word " * 1000)) <= 1000
    assert shortened("a  few\nwords") == "a few words"

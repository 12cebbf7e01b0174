"""Likely mistakes are answered with what to write instead, and objects tell what they are on a few lines."""

import re

import gymnasium as gym
import pytest
from off_policy_toys import tiny
from sb3_contrib import RecurrentPPO
from stable_baselines3 import SAC
from toys import AS_HOST, SMALL, SMALL_AWR, awr, implicit_learner, ppo, tare, tare_awr, vec_env

from sb3_tare import (
    AWR,
    LIRPG,
    TAREAWR,
    TAREPPO,
    LearnedReward,
    LearnedRewardWrapper,
    LearnsReward,
    RewardLearner,
    VecLearnedReward,
)
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


@pytest.mark.parametrize("owner", [TAREPPO, LIRPG, AWR, TAREAWR])
@pytest.mark.parametrize("half", ["EpisodicHopper-v5", "sb3_tare:EpisodicHopper-v5", "sb3-tare/EpisodicHopper-v5"])
def test_half_the_id_of_an_environment_is_refused_with_the_whole(owner, half):
    with refused(gym.error.NameNotFound, repr(half), "'sb3_tare/EpisodicHopper-v5'"):
        owner("MlpPolicy", env=half)


def test_other_unknown_ids_are_left_to_gymnasium():
    with refused(gym.error.NameNotFound, "Did you mean: `Hopper`?"):
        TAREPPO("MlpPolicy", "Hoper-v5")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Folder with a model of each algorithm that keeps files of its own."""
    folder = tmp_path_factory.mktemp("files")
    tare().save(folder / "TAREPPO")
    LIRPG("MlpPolicy", vec_env(), **SMALL).save(folder / "LIRPG")
    awr().save(folder / "AWR")
    tare_awr().save(folder / "TAREAWR")
    return folder


@pytest.mark.parametrize(
    ("owner", "saved"), [(LIRPG, "TAREPPO"), (TAREPPO, "TAREAWR"), (AWR, "LIRPG"), (TAREAWR, "TAREPPO")], ids=str
)
def test_the_file_of_another_algorithm_is_refused_with_whose_it_is(owner, saved, files):
    with refused(TypeError, f"{saved}.zip holds a {saved}", f"{owner.__name__} cannot load", f"use {saved}.load"):
        owner.load(files / saved)


@pytest.mark.parametrize("owner", [TAREPPO, AWR])
def test_a_model_that_was_loaded_without_its_environment_says_how_it_gets_one_before_it_learns(owner, files):
    with refused(ValueError, "has no environment", f"{owner.__name__}.load(path, env=...)", "set_env"):
        owner.load(files / owner.__name__).learn(64)


@pytest.mark.parametrize("owner", [TAREPPO, AWR])
def test_the_id_of_an_environment_is_refused_by_load_with_what_makes_it(owner, files):
    with refused(TypeError, "got 'Pendulum-v1'", "gymnasium.make('Pendulum-v1')"):
        owner.load(files / owner.__name__, env="Pendulum-v1")


@pytest.mark.parametrize(
    ("owner", "change", "told"),
    [
        (TAREPPO, {"n_step": 64}, "did you mean 'n_steps'?"),
        (TAREPPO, {"preset": "implicit"}, "reward_kwargs={'preset': 'implicit'}"),
        (AWR, {"temprature": 2.0}, "did you mean 'temperature'?"),
    ],
    ids=str,
)
def test_what_load_would_set_and_nothing_reads_is_refused(owner, change, told, files):
    with refused(TypeError, told):
        owner.load(files / owner.__name__, **change)


def test_arguments_and_attributes_of_a_model_may_be_changed_by_load(files):
    model = TAREPPO.load(files / "TAREPPO", print_system_info=False, n_epochs=3, num_timesteps=7)
    assert (model.n_epochs, model.num_timesteps) == (3, 7)


def test_reward_settings_that_a_file_does_not_fit_are_named(files):
    with refused(ValueError, "TAREPPO.zip", "reward_kwargs={'preset': 'paper', 'architecture': 'MLPMul'}"):
        TAREPPO.load(files / "TAREPPO", reward_kwargs={"preset": "paper", "architecture": "MLPMul"})


def test_a_discount_that_is_none_is_refused_by_its_name():
    with refused(ValueError, "gamma must be a number at least 0.0 and at most 1.0, got 2"):
        TAREPPO("MlpPolicy", vec_env(), gamma=2)


def test_two_learners_in_a_list_are_refused_before_the_first_step():
    for model in (ppo(), tiny(SAC)):
        with refused(ValueError, "another RewardLearner", "pass one"):
            model.learn(64, callback=[RewardLearner(), RewardLearner()])
        assert model.num_timesteps == 0


def test_a_learner_says_how_it_is_given_settings_and_a_model():
    with refused(TypeError, "RewardLearner", "keyword arguments", "**reward_kwargs"):
        RewardLearner(reward_kwargs={"preset": "paper"})
    with refused(TypeError, "callback=learner"):
        RewardLearner(ppo())


def test_a_replay_buffer_that_holds_no_episode_is_warned_of_once():
    model = tiny(SAC, buffer_size=10, learning_starts=5)
    with pytest.warns(UserWarning, match="keeps 5 steps of each environment.*raise buffer_size") as warned:
        model.learn(120, callback=RewardLearner())
    assert len([each for each in warned if "buffer_size" in str(each.message)]) == 1


def test_only_on_policy_algorithms_can_have_the_reward_mixed_in():
    class TARESAC(LearnsReward, SAC):
        pass

    with refused(TypeError, "TARESAC", "on-policy", "RewardLearner as callback"):
        TARESAC("MlpPolicy", "Pendulum-v1")


def test_a_model_is_no_learned_reward():
    with refused(TypeError, "path", "got TAREPPO(", "LearnedReward.of"):
        LearnedRewardWrapper(gym.make("Pendulum-v1"), tare())


def test_a_single_environment_is_paid_by_the_other_wrapper():
    with refused(TypeError, "venv must be a VecEnv", "LearnedRewardWrapper"):
        VecLearnedReward(gym.make("Pendulum-v1"), LearnedReward.of(tare()))


def test_only_text_that_is_a_number_is_told_of_yaml():
    with refused(ValueError, "got '3e-4'; yaml"):
        RewardLearner(damping="3e-4")
    with pytest.raises(ValueError, match=r"got 'little'$"):
        RewardLearner(damping="little")


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

"""What cannot work is refused at once, with an error that names the argument, what it got and what would work."""

import re
import warnings

import numpy as np
import pytest
from gymnasium import spaces
from sb3_contrib import ARS, TRPO, MaskablePPO, RecurrentPPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import CallbackList, EvalCallback, EveryNTimesteps
from torch import nn
from toys import (
    IMPLICIT,
    ITERATION,
    OBSERVATION,
    SMALL,
    TINY_NET,
    Broken,
    Headless,
    LinearReward,
    NotANumber,
    Toy,
    Watch,
    WrongShape,
    all_of,
    differences,
    implicit_learner,
    policy_of,
    ppo,
    tare,
    vec_env,
)

from sb3_tare import ARCHITECTURES, TAREPPO, RewardLearner
from sb3_tare.algorithms.lirpg import LIRPGLearner
from sb3_tare.settings.older import REMOVED
from sb3_tare.utils.checks import check_finite


def refused(error, *fragments):
    """``pytest.raises`` for a message that holds all ``fragments``, in any order."""
    return pytest.raises(error, match="".join(f"(?=.*{re.escape(fragment)})" for fragment in fragments))


# Settings


@pytest.mark.parametrize(
    ("name", "meant"),
    [("reward_mod", "reward_mode"), ("learning_rat", "learning_rate"), ("critic", "critics"), ("centre", "center")],
)
@pytest.mark.parametrize("make", [RewardLearner, tare])
def test_an_unknown_setting_is_refused_with_the_one_that_may_be_meant(name, meant, make):
    with refused(TypeError, repr(name), "did you mean", repr(meant)):
        make(**{name: 1})


def test_a_setting_unlike_any_other_is_refused_with_those_that_are_known():
    with refused(TypeError, "'zzz'", "known", "architecture", "curvature", "seed"):
        implicit_learner(zzz=1)


CHOICES = {
    "preset": "'decomposition', 'implicit'",
    "features": "'policy', 'own'",
    "reward_mode": "'add', 'replace'",
    "validation": "'split', 'next_rollout'",
    "curvature": "'fisher', 'hessian', 'identity', 'adam'",
    "curvature_episodes": "'validation', 'training'",
    "actor_parameters": "'all', 'without_log_std'",
}


@pytest.mark.parametrize("name", CHOICES)
@pytest.mark.parametrize("value", ["nonsense", 1, True])
def test_a_value_that_is_no_choice_is_refused_with_the_choices(name, value):
    with refused(ValueError, name, CHOICES[name], f"got {value!r}"):
        implicit_learner(**{name: value})


@pytest.mark.parametrize("name", ["swap", "interleave", "center", "normalize_reward", "zero_head"])
@pytest.mark.parametrize("value", ["true", 1, 0, "no"])
def test_a_switch_takes_true_and_false_alone(name, value):
    with refused(ValueError, name, "True, False", f"got {value!r}"):
        implicit_learner(**{name: value})


@pytest.mark.parametrize("value", [0, 3, True, "2", 2.0, None])
def test_there_are_one_or_two_critics(value):
    with refused(ValueError, "critics must be one of 1, 2", f"got {value!r}"):
        implicit_learner(critics=value)


@pytest.mark.parametrize("name", ["learning_rate", "critic_learning_rate", "max_grad_norm"])
@pytest.mark.parametrize("value", [0, -1e-3, "3e-4", None, True, float("nan"), float("inf")])
def test_a_step_size_must_be_positive(name, value):
    with refused(ValueError, f"{name} must be a number above 0", f"got {value!r}"):
        implicit_learner(**{name: value})


@pytest.mark.parametrize("name", ["reward_coef", "damping", "kl_coef"])
@pytest.mark.parametrize("value", [-0.1, "1", None, False, float("nan"), float("inf")])
def test_a_coefficient_must_not_be_negative(name, value):
    with refused(ValueError, f"{name} must be a number at least 0", f"got {value!r}"):
        implicit_learner(**{name: value})


COUNTS = {
    **dict.fromkeys(["n_reward_updates", "critic_epochs"], 0),
    **dict.fromkeys(["cg_steps", "critic_batch_size"], 1),
}


@pytest.mark.parametrize("name", COUNTS)
@pytest.mark.parametrize("value", ["too few", 1.0, "3", True, None])
def test_a_count_must_be_a_whole_number(name, value):
    value = COUNTS[name] - 1 if value == "too few" else value
    with refused(ValueError, f"{name} must be a whole number of at least {COUNTS[name]}", f"got {value!r}"):
        implicit_learner(**{name: value})


@pytest.mark.parametrize("value", [-0.1, 1.1, "1", True])
def test_lambda_lies_between_zero_and_one(value):
    with refused(ValueError, "gae_lambda must be a number at least 0", "at most 1", f"got {value!r}"):
        implicit_learner(gae_lambda=value)


@pytest.mark.parametrize("value", [-1, 1.5, "0", True])
def test_a_seed_is_a_whole_number(value):
    with refused(ValueError, "seed must be a whole number of at least 0 or None", f"got {value!r}"):
        implicit_learner(seed=value)


def test_the_least_values_are_taken():
    implicit_learner(**COUNTS, reward_coef=0, damping=0.0, kl_coef=0, gae_lambda=0, seed=0)


# Architectures


@pytest.mark.parametrize("value", ["LSTMbmul", "nonsense", ""])
def test_an_unknown_architecture_is_refused_with_those_that_are_known(value):
    with refused(ValueError, "architecture must be one of", *ARCHITECTURES, f"got {value!r}"):
        implicit_learner(architecture=value)


@pytest.mark.parametrize("value", [None, 3, dict, nn.Linear(1, 1)], ids=str)
def test_an_architecture_that_is_neither_name_nor_class_is_refused(value):
    with refused(ValueError, "architecture must be a name or a torch.nn.Module class", f"got {value!r}"):
        implicit_learner(architecture=value)


def test_arguments_of_the_architecture_must_be_a_mapping():
    with refused(ValueError, "architecture_kwargs must be a mapping", "got [64]"):
        implicit_learner(architecture_kwargs=[64])


@pytest.mark.parametrize("architecture", ["LSTMbMul", LinearReward])
def test_an_architectures_unknown_argument_is_refused(architecture):
    name = architecture if isinstance(architecture, str) else architecture.__name__
    with refused(TypeError, name, "architecture_kwargs", "'width': 3", "unexpected keyword argument"):
        tare(architecture=architecture, architecture_kwargs={"width": 3})


@pytest.mark.parametrize("bound", [0.0, -1.0])
def test_a_bound_must_be_positive(bound):
    with refused(ValueError, "bound must be positive", f"got {bound}"):
        tare(architecture_kwargs={"bound": bound})


@pytest.mark.parametrize("settings", [{"reward_mode": "replace"}, {"preset": "paper"}], ids=str)
def test_a_coefficient_of_a_reward_that_stands_alone_is_refused(settings):
    with refused(ValueError, "reward_coef=0.5", "reward_mode='replace'", "leave it out"):
        implicit_learner(**settings, reward_coef=0.5)
    assert implicit_learner(**{**settings, "reward_mode": "add"}, reward_coef=0.5).settings.advantage.reward_coef == 0.5


def test_a_network_without_a_head_cannot_start_at_zero():
    for settings in ({}, {"reward_mode": "replace", "zero_head": True}):
        with refused(ValueError, "zero_head", "'head'", "Headless has none", "zero_head=False"):
            tare(architecture=Headless, **settings)
    tare(architecture=Headless, zero_head=False)
    tare(architecture=Headless, reward_mode="replace")


def test_a_head_that_is_no_linear_layer_cannot_start_at_zero():
    class OtherHead(Headless):
        def __init__(self, observation_dim, action_dim):
            super().__init__(observation_dim, action_dim)
            self.head = nn.Sequential(nn.Linear(1, 1))

    with refused(ValueError, "zero_head", "OtherHead has Sequential"):
        tare(architecture=OtherHead)


def test_a_network_with_nothing_to_learn_is_refused():
    class Fixed(nn.Module):
        def __init__(self, observation_dim, action_dim):
            super().__init__()

        def forward(self, inputs):
            return inputs.rewards

    with refused(ValueError, "Fixed has no parameters", "n_reward_updates=0"):
        tare(architecture=Fixed, zero_head=False)
    tare(architecture=Fixed, zero_head=False, n_reward_updates=0).learn(ITERATION)


@pytest.mark.parametrize("bare", [True, False])
def test_a_network_of_the_wrong_shape_is_refused_before_anything_is_updated(bare):
    settings = {"architecture": WrongShape, "zero_head": False, "validation": "next_rollout"}
    model = ppo() if bare else tare(**settings)
    before = policy_of(model)
    with pytest.raises(ValueError, match=r"reward network must return one reward a step, shape \((\d+),\), got \(\1, 1\)"):
        model.learn(ITERATION, callback=implicit_learner(**settings) if bare else None)
    assert not differences(before, policy_of(model))


# Combinations


def test_interleaving_needs_its_validation_at_once():
    with refused(ValueError, "interleave=True", "validation='split'", "'next_rollout'"):
        implicit_learner(interleave=True, validation="next_rollout")


@pytest.mark.parametrize("owner", [RewardLearner, LIRPGLearner])
@pytest.mark.parametrize("name", REMOVED)
def test_settings_of_return_consistency_lead_to_those_that_have_replaced_it(name, owner):
    with refused(
        TypeError, f"{name} was a setting of return consistency", "decomposition_" if "_u" in name else "", "preset="
    ):
        owner(**{name: 1})


def test_no_preset_is_none_of_them():
    presets = "'decomposition', 'implicit', 'paper', 'paper_literal', 'paper_residual'"
    with refused(ValueError, f"preset must be one of {presets}, got None"):
        RewardLearner(preset=None)


@pytest.mark.parametrize(
    "setting", [{"reward_mode": "add"}, {"critics": 2}, {"normalize_reward": True}, {"architecture": "LSTMbMul"}], ids=str
)
def test_a_setting_of_the_implicit_gradient_names_its_preset(setting):
    with refused(ValueError, "return_decomposition=True needs", "preset='implicit'", "on PPO and its like", *setting):
        RewardLearner(**setting)
    assert RewardLearner(preset="implicit", **setting).settings.decomposition.return_decomposition is False


def test_nothing_to_learn_by_is_refused():
    with refused(ValueError, "return_decomposition=False", "preset='implicit'"):
        RewardLearner(return_decomposition=False)


# Hosts


@pytest.mark.parametrize("algorithm", [A2C, TRPO])
def test_interleaving_needs_a_host_with_epochs(algorithm):
    model = algorithm("MlpPolicy", vec_env(), n_steps=64, seed=0, policy_kwargs=dict(TINY_NET))
    with refused(ValueError, "interleave=True", "trains in epochs", algorithm.__name__):
        model.learn(64, callback=implicit_learner(interleave=True))


@pytest.mark.parametrize(("algorithm", "policy"), [(RecurrentPPO, "MlpLstmPolicy"), (ARS, "MlpPolicy")])
def test_a_host_that_is_not_supported_is_refused_with_those_that_are(algorithm, policy):
    model = algorithm(policy, vec_env(), policy_kwargs={"net_arch": [8]})
    with refused(TypeError, f"for {algorithm.__name__};", "supported", "PPO", "MaskablePPO", "TRPO", "A2C", "SAC", "DQN"):
        model.learn(8, callback=RewardLearner())


def test_a_subclass_of_a_host_is_a_host():
    class MyPPO(PPO):
        pass

    MyPPO("MlpPolicy", vec_env(), **SMALL).learn(ITERATION, callback=implicit_learner())


@pytest.mark.parametrize(("validation", "least"), [("split", 4), ("next_rollout", 2)])
@pytest.mark.filterwarnings("ignore")
def test_rollouts_too_short_are_refused(validation, least):
    def model(n_steps, **kwargs):
        return A2C("MlpPolicy", vec_env(), n_steps=n_steps, policy_kwargs=dict(TINY_NET), **kwargs)

    with refused(
        ValueError, repr(validation), f"at least {least} steps", f"n_steps={least - 1}", "1 environments", "raise n_steps"
    ):
        model(least - 1).learn(4, callback=implicit_learner(validation=validation))
    model(least).learn(4, callback=implicit_learner(validation=validation))


def test_tareppo_refuses_rollouts_too_short_to_split():
    with refused(ValueError, "validation='split'", "at least 4 steps", "n_steps=3"):
        tare(host={"n_steps": 3, "batch_size": 3})


@pytest.mark.parametrize("bare", [True, False])
def test_rollouts_of_few_steps_are_warned_about(bare):
    def run(n_steps):
        if bare:
            ppo(n_steps=n_steps).learn(1, callback=implicit_learner())
        else:
            tare(host={"n_steps": n_steps})

    with pytest.warns(UserWarning, match=r"only 32 steps \(n_steps=32, 1 environments\).*raise n_steps"):
        run(32)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(64)


def evaluation(**callbacks):
    return EvalCallback(vec_env(), eval_freq=10, n_eval_episodes=1, verbose=0, **callbacks)


@pytest.mark.parametrize(
    "wrap",
    [
        lambda learner: EveryNTimesteps(10, callback=learner),
        lambda learner: evaluation(callback_after_eval=learner),
        lambda learner: evaluation(callback_on_new_best=learner),
        lambda learner: EveryNTimesteps(10, callback=CallbackList([learner])),
        lambda learner: EveryNTimesteps(10, callback=CallbackList([CallbackList([learner])])),
        lambda learner: evaluation(callback_on_new_best=CallbackList([learner])),
        lambda learner: CallbackList([EveryNTimesteps(10, callback=learner)]),
        lambda learner: EveryNTimesteps(10, callback=EveryNTimesteps(10, callback=learner)),
    ],
    ids=[
        "EveryNTimesteps",
        "after_evaluation",
        "new_best",
        "list_in_EveryNTimesteps",
        "list_in_list_in_EveryNTimesteps",
        "list_in_new_best",
        "EveryNTimesteps_in_list",
        "EveryNTimesteps_twice",
    ],
)
def test_inside_a_callback_that_passes_no_rollouts_on_it_is_refused(wrap):
    with refused(ValueError, "RewardLearner must see every step and rollout", "learn(callback=["):
        ppo().learn(ITERATION, callback=wrap(implicit_learner()))


def test_one_callback_serves_one_model():
    learner = implicit_learner()
    ppo().learn(ITERATION, callback=learner)
    with refused(ValueError, "already belongs to another model", "one for each", "RewardLearner.load"):
        ppo().learn(ITERATION, callback=learner)


@pytest.mark.parametrize("in_list", [True, False])
def test_tareppo_takes_no_second_learner(in_list):
    learner = implicit_learner()
    with refused(ValueError, "TAREPPO learns a reward of its own", "reward_kwargs"):
        tare().learn(ITERATION, callback=[learner] if in_list else learner)


# What is not finite


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("validation", ["split", "next_rollout"])
def test_a_reward_network_that_diverged_is_reported_before_anything_is_updated(bare, validation):
    settings = {"architecture": NotANumber, "zero_head": False, "validation": validation}
    model, learner = (ppo(), implicit_learner(**settings)) if bare else (tare(**settings), None)
    before = policy_of(model)
    with refused(FloatingPointError, "reward network", "not finite", "learning_rate"):
        model.learn(ITERATION, callback=learner)
    assert not differences(before, policy_of(model))


def test_a_reward_network_that_diverges_later_is_reported_before_the_next_update():
    model = tare(zero_head=False)
    model.learn(ITERATION)
    before = policy_of(model)
    for parameter in model.reward_learner.trainer.reward_model.network.parameters():
        parameter.data.fill_(float("nan"))
    with refused(FloatingPointError, "not finite"):
        model.learn(ITERATION, reset_num_timesteps=False)
    assert not differences(before, policy_of(model))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("what", ["reward", "observation"])
def test_an_environment_that_breaks_is_reported_at_its_step(value, bare, n_envs, what):
    at = ITERATION + 11
    broken = {what: value if what == "reward" else np.array([0.0, value, 0.0], dtype=np.float32)}
    env = vec_env(n_envs, lambda: Broken(at, **broken))
    model = ppo(env) if bare else tare(env)
    states = []
    watch = Watch(rollout_start=lambda watch: states.append(policy_of(watch.model)))
    with refused(ValueError, f"the environment returned a {what}", "not finite", str(value)):
        model.learn(3 * n_envs * ITERATION, callback=[watch, implicit_learner()] if bare else watch)
    assert model.num_timesteps == n_envs * at
    assert not differences(states[-1], policy_of(model))
    assert len(states) == 2


def test_a_terminal_observation_that_is_not_finite_is_reported():
    class BreaksAtTheEnd(Toy):
        def step(self, action):
            observation, *rest = super().step(action)
            return (np.full_like(observation, np.nan) if self.time == self.horizon else observation), *rest

    model = tare(vec_env(1, BreaksAtTheEnd))
    with refused(ValueError, "terminal observation", "not finite"):
        model.learn(ITERATION)
    assert model.num_timesteps == 20


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_largest_numbers_are_finite(dtype):
    check_finite(np.full(3, np.finfo(dtype).max), "observation")


def test_infinities_of_both_signs_are_not_finite():
    with refused(ValueError, "observation", "not finite"):
        check_finite(np.array([np.inf, -np.inf]), "observation")


def test_an_entry_of_a_dictionary_that_is_not_finite_is_named():
    space = spaces.Dict({"left": OBSERVATION, "right": OBSERVATION})

    class HalfBroken(Toy):
        def step(self, action):
            observation, *rest = super().step(action)
            return {**observation, "right": np.full(3, np.inf, dtype=np.float32)}, *rest

    model = TAREPPO("MultiInputPolicy", vec_env(1, lambda: HalfBroken(space)), reward_kwargs=IMPLICIT, **SMALL)
    with refused(ValueError, "observation 'right'", "not finite"):
        model.learn(ITERATION)


def test_after_an_error_learning_goes_on_once_the_cause_is_mended():
    model = tare(vec_env(1, lambda: Broken(ITERATION + 11, reward=float("nan"))))
    with refused(ValueError, "not finite"):
        model.learn(2 * ITERATION)
    model.set_env(vec_env())
    before = all_of(model)
    model.learn(2 * ITERATION)
    changed = differences(before, all_of(model))
    assert any(name.startswith("/policy/") for name in changed)
    assert any(name.startswith("/reward_learner/reward_model/network") for name in changed)


# Files and states


@pytest.mark.parametrize(
    "use",
    [
        lambda learner, path: learner.save(path),
        lambda learner, _: learner.trainer,
        lambda learner, _: learner.state_dict(),
    ],
    ids=["save", "trainer", "state_dict"],
)
def test_a_learner_without_a_model_has_nothing_to_save(use, tmp_path):
    with refused(RuntimeError, "no model yet", "learn(callback=...)"):
        use(implicit_learner(), tmp_path / "learner")
    assert not list(tmp_path.iterdir())


def test_a_file_that_holds_a_model_and_no_learner_is_refused(tmp_path):
    ppo().save(tmp_path / "model")
    with refused(ValueError, "model", "holds no RewardLearner", "RewardLearner.save"):
        RewardLearner.load(tmp_path / "model")


def test_a_file_that_is_no_zip_is_refused(tmp_path):
    path = tmp_path / "learner.zip"
    path.write_text("nothing")
    with refused(ValueError, "learner.zip", "zip"):
        RewardLearner.load(path)


def test_a_file_that_is_not_there_is_reported(tmp_path):
    with pytest.raises(FileNotFoundError, match="learner"):
        RewardLearner.load(tmp_path / "learner")


def test_a_learner_saved_with_another_shape_is_refused_by_its_model(tmp_path):
    learner = implicit_learner(architecture_kwargs={"hidden_size": 8})
    ppo().learn(ITERATION, callback=learner)
    learner.save(tmp_path / "learner")
    other = RewardLearner.load(tmp_path / "learner", architecture_kwargs={"hidden_size": 16})
    with refused(RuntimeError, "size mismatch", "network"):
        ppo().learn(ITERATION, callback=other)


@pytest.mark.parametrize(
    "other",
    [
        {"architecture_kwargs": {"hidden_size": 8}},
        {"architecture": "MLPMul"},
        {"critics": 1},
        {"features": "own", "host": {"policy_kwargs": {**TINY_NET, "features_extractor_kwargs": {}}}, "architecture": "LSTMb"},
    ],
    ids=str,
)
def test_parameters_of_a_reward_model_of_another_shape_are_refused(other):
    with pytest.raises(RuntimeError, match=r"(?i)size mismatch|missing key|unexpected key"):
        tare().set_parameters(tare(**other).get_parameters())


@pytest.mark.parametrize("name", ["reward_model", "reward_optimisation"])
def test_parameters_must_name_the_reward_and_its_optimisation(name):
    parameters = tare().get_parameters()
    del parameters[name]
    with refused(ValueError, "Names of parameters do not match", name):
        tare().set_parameters(parameters)
    tare().set_parameters(parameters, exact_match=False)


def test_a_refused_setting_is_refused_before_an_environment_is_made():
    with refused(ValueError, "critics"):
        TAREPPO("MlpPolicy", "NoSuchEnvironment-v0", reward_kwargs={"critics": 5})


def test_maskable_ppo_with_the_callback_refuses_what_ppo_refuses():
    model = MaskablePPO("MlpPolicy", vec_env(1, lambda: InvalidActionEnvDiscrete(dim=3)), **SMALL)
    with refused(FloatingPointError, "not finite"):
        model.learn(ITERATION, callback=implicit_learner(architecture=NotANumber, zero_head=False))

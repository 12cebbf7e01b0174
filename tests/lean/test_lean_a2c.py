"""LeanA2C holds A2C's bits, with the rollouts of LeanPPO."""

from functools import partial

import pytest
from gymnasium import spaces
from lean_toys import Watch, assert_same, box, state_of, toys
from stable_baselines3 import A2C
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from sb3_tare import LeanA2C

CONFIGURATIONS = {
    "one environment": ({}, {}, "written out"),
    "eight environments and steps of its own number": ({"n_envs": 8}, {"n_steps": 5}, "written out"),
    "discrete actions": ({"actions": spaces.Discrete(5)}, {"ent_coef": 0.01}, "written out"),
    "Adam, ReLU and normalised advantages": (
        {"n_envs": 3},
        {"use_rms_prop": False, "normalize_advantage": True, "policy_kwargs": {"activation_fn": nn.ReLU}},
        "written out",
    ),
    "gSDE": ({}, {"use_sde": True}, "general"),
    "dictionaries": ({"observations": spaces.Dict({"a": box(3)})}, {"policy": "MultiInputPolicy"}, "general"),
}


def made(algorithm, env=None, policy="MlpPolicy", **arguments):
    small = {"n_steps": 16, "seed": 0, "policy_kwargs": {"net_arch": [8, 8]}, "device": "cpu"}
    return algorithm(policy, toys() if env is None else env, **{**small, **arguments})


def trained(algorithm, env, **arguments):
    model = made(algorithm, env, **arguments)
    return model.learn(4 * model.n_steps * model.n_envs)


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_it_holds_the_bits_of_a2c(name):
    env, arguments, rollouts = CONFIGURATIONS[name]
    first, second = (trained(algorithm, toys(**env), **arguments) for algorithm in (A2C, LeanA2C))
    assert second.host_loop[:2] == (rollouts, "Stable-Baselines3")
    assert_same(state_of(first), state_of(second))


def test_it_holds_the_bits_of_a2c_with_normalised_observations_and_rewards():
    assert_same(*(state_of(trained(algorithm, VecNormalize(toys(3)))) for algorithm in (A2C, LeanA2C)))


def test_it_says_which_loops_are_in_use_and_why():
    make = partial(made, LeanA2C)
    assert str(make().host_loop) == (
        "rollouts: written out, updates: Stable-Baselines3 (updates of LeanA2C are not written out)"
    )
    assert make(lean=False).host_loop == ("Stable-Baselines3", "Stable-Baselines3", "lean=False")
    with pytest.raises(TypeError, match="lean must be True or False, got 1"):
        make(lean=1)


def test_a_hook_that_a_callback_registers_is_called():
    calls: list[list] = [[], []]
    for seen, algorithm in zip(calls, (A2C, LeanA2C), strict=True):
        hook = partial(nn.Module.register_forward_hook, hook=lambda *_, seen=seen: seen.append(1))
        model = made(algorithm)
        model.learn(64, callback=Watch(rollout_start=lambda c, hook=hook: hook(c.model.policy.action_net) and None))
    assert len(calls[0]) == len(calls[1]) > 0

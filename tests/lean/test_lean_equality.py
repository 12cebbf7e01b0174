"""LeanPPO holds PPO's bits after three rollouts, whatever is collected and however it is learned from."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from lean_toys import TinyCNN, assert_logs_agree, assert_same, box, pair, state_of, toys
from stable_baselines3.common.vec_env import SubprocVecEnv, VecNormalize
from torch import nn

WRITTEN_OUT = ("written out", "written out")
GENERAL = ("general", "general")
SUBPROCESS = partial(SubprocVecEnv, start_method="fork")
IMAGE = spaces.Box(0, 255, (3, 36, 36), dtype=np.uint8)
DICT = spaces.Dict({"a": box(3), "b": spaces.Discrete(4)})
LINEAR = {"learning_rate": lambda left: 1e-2 * left, "clip_range": lambda left: 0.3 * left}
CHEETAH = {"observations": box(17), "actions": box(6, bound=1.0)}
FAST = {"learning_rate": 1e-2}


def net(*layers: int, **arguments: Any) -> dict[str, Any]:
    return {"policy_kwargs": {"net_arch": list(layers), **arguments}}


def split_net(pi: list[int], vf: list[int]) -> dict[str, Any]:
    return {"policy_kwargs": {"net_arch": {"pi": pi, "vf": vf}}}


CONFIGURATIONS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, str]]] = {
    "one environment": ({}, {}, WRITTEN_OUT),
    "SB3's own sizes": (CHEETAH, {"n_steps": 128, "batch_size": 64, **net(64, 64)}, WRITTEN_OUT),
    "three environments": ({"n_envs": 3}, {}, WRITTEN_OUT),
    "eight environments": ({"n_envs": 8}, {"batch_size": 64}, WRITTEN_OUT),
    "one action of 17 dimensions": ({"actions": box(17, bound=1.0)}, FAST, WRITTEN_OUT),
    "an action of one dimension": ({"actions": box(1, bound=1.0)}, FAST, WRITTEN_OUT),
    "actions of two axes, in float64": ({"actions": box(2, 3, dtype=np.float64, bound=0.5)}, {}, WRITTEN_OUT),
    "mini-batches of an odd size": ({"n_envs": 3}, {"batch_size": 7, **FAST}, WRITTEN_OUT),
    "a last mini-batch of one row": ({}, {"batch_size": 31}, WRITTEN_OUT),
    "one mini-batch larger than the rollout": ({}, {"batch_size": 100}, WRITTEN_OUT),
    "episodes that only terminate": ({"p_end": 0.2, "horizon": 10_000}, {}, WRITTEN_OUT),
    "episodes that only time out": ({"p_end": 0.0, "horizon": 5}, {}, WRITTEN_OUT),
    "an episode without an end": ({"p_end": 0.0, "horizon": 10_000}, {}, WRITTEN_OUT),
    "discrete actions": ({"actions": spaces.Discrete(5)}, FAST, WRITTEN_OUT),
    "discrete actions in three environments": ({"n_envs": 3, "actions": spaces.Discrete(3)}, {"ent_coef": 0.02}, WRITTEN_OUT),
    "discrete observations": ({"n_envs": 3, "observations": spaces.Discrete(6)}, {}, WRITTEN_OUT),
    "multi-discrete observations": ({"observations": spaces.MultiDiscrete([2, 5])}, {}, WRITTEN_OUT),
    "observations of two axes, in float64": ({"observations": box(2, 3, dtype=np.float64)}, {}, WRITTEN_OUT),
    "an observation of one number": ({"observations": box(1)}, {}, WRITTEN_OUT),
    "ReLU": ({"n_envs": 2}, net(8, 8, activation_fn=nn.ReLU), WRITTEN_OUT),
    "ReLU and discrete actions": ({"actions": spaces.Discrete(2)}, net(7, activation_fn=nn.ReLU), WRITTEN_OUT),
    "no hidden layer": ({}, net(), WRITTEN_OUT),
    "one hidden layer": ({}, {**net(5), **FAST}, WRITTEN_OUT),
    "three hidden layers": ({}, net(8, 5, 6), WRITTEN_OUT),
    "a hidden layer of one unit": ({}, net(4, 1), WRITTEN_OUT),
    "separate layers": ({}, split_net([8], [5, 7]), WRITTEN_OUT),
    "layers for the critic alone": ({"actions": spaces.Discrete(4)}, split_net([], [6]), WRITTEN_OUT),
    "separate extractors": ({}, net(8, share_features_extractor=False), WRITTEN_OUT),
    "an entropy bonus": ({}, {"ent_coef": 0.05, **FAST}, WRITTEN_OUT),
    "clipped values": ({}, {"clip_range_vf": 0.05, **FAST}, WRITTEN_OUT),
    "a target for the KL": ({}, {"target_kl": 0.005, "n_epochs": 5, "learning_rate": 0.02}, WRITTEN_OUT),
    "a target that the first mini-batch misses": ({}, {"target_kl": -1.0}, WRITTEN_OUT),
    "advantages as they are": ({}, {"normalize_advantage": False, "batch_size": 9}, WRITTEN_OUT),
    "gradients that are clipped": ({}, {"max_grad_norm": 0.01}, WRITTEN_OUT),
    "no discount": ({}, {"gamma": 1.0, "gae_lambda": 1.0, "vf_coef": 1.0}, WRITTEN_OUT),
    "a discount that is numpy's": ({}, {"gamma": np.float64(0.9)}, WRITTEN_OUT),
    "schedules": ({}, LINEAR, WRITTEN_OUT),
    "a wide Gaussian": ({}, net(8, log_std_init=1.3), WRITTEN_OUT),
    "rewards in float64": ({"n_envs": 2, "vec_env": SUBPROCESS}, {}, WRITTEN_OUT),
    "weight decay": ({}, net(8, optimizer_kwargs={"weight_decay": 1e-2}), ("written out", "general")),
    "another optimiser": ({}, net(8, optimizer_class=torch.optim.AdamW), ("written out", "general")),
    "ELU": ({}, net(8, activation_fn=nn.ELU), GENERAL),
    "multi-discrete actions": ({"n_envs": 3, "actions": spaces.MultiDiscrete([3, 2])}, {"ent_coef": 0.01, **FAST}, GENERAL),
    "multi-binary actions": ({"actions": spaces.MultiBinary(3)}, {}, GENERAL),
    "gSDE": ({"n_envs": 2}, {"use_sde": True, "sde_sample_freq": 4, "clip_range_vf": 0.1}, GENERAL),
    "gSDE, squashed": ({}, {"use_sde": True, **net(8, squash_output=True)}, GENERAL),
    "images": ({"observations": IMAGE}, {"policy": "CnnPolicy", "n_epochs": 1, "target_kl": 0.5}, GENERAL),
    "images and a small extractor": ({"observations": IMAGE}, net(8, features_extractor_class=TinyCNN), GENERAL),
    "dictionaries": ({"n_envs": 3, "observations": DICT}, {"policy": "MultiInputPolicy"}, GENERAL),
}  # fmt: skip


@pytest.mark.parametrize("name", CONFIGURATIONS)
@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
def test_it_holds_the_bits_of_ppo(name):
    env, arguments, loops = CONFIGURATIONS[name]
    first, second = pair(partial(toys, **env), **arguments)
    assert second.host_loop[:2] == loops
    assert_same(state_of(first), state_of(second))
    assert_logs_agree(first, second, least=3, atol=1e-5)


def test_it_holds_the_bits_of_ppo_with_normalised_observations_and_rewards():
    first, second = pair(lambda: VecNormalize(toys(n_envs=3)))
    assert second.host_loop[:2] == WRITTEN_OUT
    assert_same(state_of(first), state_of(second))
    assert_same(first.env.obs_rms.mean, second.env.obs_rms.mean)
    assert_logs_agree(first, second, least=3, atol=1e-5)

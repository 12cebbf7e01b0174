"""Numbers that are not finite end LeanPPO and LeanA2C before anything is updated, with environment and step in the message."""

from typing import Any

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.vec_env import DummyVecEnv
from toys import SMALL, TINY_NET, Broken, Toy, Watch, differences, policy_of

from sb3_tare import LeanPPO
from sb3_tare.lean import LeanA2C

pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning")  # of numpy, on the way to the error, as with PPO
NAN, INFINITY = float("nan"), float("inf")


class Own(ActorCriticPolicy):
    """A policy that is not written out."""


class Masking(FlattenExtractor):
    """Takes what is not finite for nothing, as a network that is told of missing entries may."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return super().forward(torch.nan_to_num(observations, 0.0, 0.0, 0.0))


def a2c(policy: Any, env: Any, **host: Any) -> LeanA2C:
    return LeanA2C(policy, env, **{"n_steps": 64, "seed": 0, "policy_kwargs": dict(TINY_NET), **host})


def lean_ppo(policy: Any, env: Any, **host: Any) -> LeanPPO:
    return LeanPPO(policy, env, **{**SMALL, **host})


MODELS = {
    "written out": lambda *args, **host: lean_ppo("MlpPolicy", *args, **host),
    "general": lambda *args, **host: lean_ppo(Own, *args, **host),
    "SB3": lambda *args, **host: lean_ppo("MlpPolicy", *args, lean=False, **host),
    "A2C": lambda *args, **host: a2c("MlpPolicy", *args, **host),
}
with_each_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def envs(**broken: Any) -> DummyVecEnv:
    """Two environments; the second is broken at its hundredth step, the last of an episode, and those after it."""
    return DummyVecEnv([Toy, lambda: Broken(100, **broken)])


def fails(model: Any, sentence: str, callback: Any = None) -> None:
    """Learn until something is not finite; the last good rollout's update is the last one."""
    known: list[Any] = []
    note = Watch(rollout_start=lambda watch: known.append(policy_of(watch.model)))
    with pytest.raises(ValueError, match=sentence):
        model.learn(1000, callback=[note] if callback is None else [note, callback])
    assert not differences(policy_of(model), known[-1])


@with_each_model
@pytest.mark.parametrize("value", [NAN, INFINITY, -INFINITY])
def test_a_reward_is_named_with_its_environment_and_step(make, value):
    fails(
        make(envs(reward=value)), f"rollout's rewards are NaN or infinite, first in environment 1 at step 200: {value}; mend"
    )


@pytest.mark.parametrize("make", [make for name, make in MODELS.items() if name != "SB3"])
@pytest.mark.parametrize("value", [NAN, INFINITY])
def test_an_observation_is_named_with_its_environment_and_step(make, value):
    observation = np.full(3, value, dtype=np.float32)
    fails(
        make(envs(observation=observation)), "an observation is NaN or infinite in environment 1 at step 202: tensor.*; mend"
    )


@with_each_model
@pytest.mark.parametrize("value", [NAN, INFINITY])
def test_a_value_is_named_with_the_parameters_that_it_comes_from(make, value):
    def spoil(watch: Watch) -> None:
        if watch.num_timesteps == 100:
            with torch.no_grad():
                watch.model.policy.value_net.bias.fill_(value)

    sentence = (
        f"rollout's values are NaN or infinite, first in environment 0 at step 102: {value}; .*not finite: value_net.bias$"
    )
    with pytest.raises(ValueError, match=sentence):
        make(envs()).learn(1000, callback=Watch(step=spoil))


@pytest.mark.parametrize("make", [make for name, make in MODELS.items() if name != "SB3"])
def test_a_mean_of_actions_is_named_by_its_parameters(make):
    def spoil(watch: Watch) -> None:
        with torch.no_grad():
            watch.model.policy.action_net.bias[0] = NAN

    with pytest.raises(ValueError, match=r"the policy's parameters action_net\.bias are NaN"):
        make(envs()).learn(1000, callback=Watch(rollout_start=spoil))


@with_each_model
def test_a_log_probability_of_infinite_actions_is_named(make):
    def spoil(watch: Watch) -> None:
        with torch.no_grad():
            watch.model.policy.log_std.fill_(INFINITY)

    with pytest.raises(ValueError, match=r"log_probs are NaN or infinite, first in environment 0 at step 2: .*log_std$"):
        make(envs()).learn(1000, callback=Watch(rollout_start=spoil))


def test_an_advantage_that_others_wrote_is_named():
    def spoil(watch: Watch) -> None:
        watch.model.rollout_buffer.advantages[3, 1] = INFINITY

    sentence = "rollout's advantages are NaN or infinite, first in environment 1 at step 8: inf; .* written into the buffer"
    fails(lean_ppo("MlpPolicy", envs()), sentence, Watch(rollout_end=spoil))


def test_rewards_that_others_have_made_advantages_of_may_be_anything():
    """A callback that learns rewards of its own, as PPO allows it."""

    def mend(watch: Watch) -> None:
        buffer = watch.model.rollout_buffer
        buffer.advantages[:], buffer.returns[:] = 1.0, 0.5

    model = lean_ppo("MlpPolicy", envs(reward=NAN)).learn(300, callback=Watch(rollout_end=mend))
    host = PPO("MlpPolicy", envs(reward=NAN), **SMALL).learn(300, callback=Watch(rollout_end=mend))
    assert not differences(policy_of(model), policy_of(host))


def test_observations_that_the_policy_can_read_may_be_anything():
    broken = {"observation": np.array([NAN, 0.0, INFINITY], dtype=np.float32)}
    host = {"policy_kwargs": {**TINY_NET, "features_extractor_class": Masking}}
    model = lean_ppo("MlpPolicy", envs(**broken), **host).learn(500)
    other = PPO("MlpPolicy", envs(**broken), **{**SMALL, **host}).learn(500)
    assert not differences(policy_of(model), policy_of(other))

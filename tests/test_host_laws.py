"""With a learned reward that says nothing new and is never updated, a host trains exactly as without it."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import TRPO, MaskablePPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecEnv, VecNormalize
from torch import Tensor, nn
from toys import IMPLICIT, implicit_learner

from sb3_tare import TAREPPO, RewardInputs

torch.set_num_threads(1)


class ExtrinsicReward(nn.Module):
    """Returns the reward that the environment gave."""

    def __init__(self, observation_dim: int, action_dim: int) -> None:
        super().__init__()

    def forward(self, inputs: RewardInputs) -> Tensor:
        return inputs.extrinsic_rewards


class NoReward(nn.Module):
    """Returns zero."""

    def __init__(self, observation_dim: int, action_dim: int) -> None:
        super().__init__()

    def forward(self, inputs: RewardInputs) -> Tensor:
        return torch.zeros_like(inputs.rewards)


ONE_PART_NO_STEP = {"validation": "next_rollout", "n_reward_updates": 0}
IDENTITIES = {
    "the extrinsic reward in its place": {
        "reward_mode": "replace",
        "critics": 1,
        "architecture": ExtrinsicReward,
        "normalize_reward": False,
    },
    "zero added, two critics": {"reward_mode": "add", "critics": 2, "architecture": NoReward, "zero_head": False},
    "zero added, one critic": {"reward_mode": "add", "critics": 1, "architecture": NoReward, "zero_head": False},
    "the default network, whose head is zero": {"reward_mode": "add"},
}
HOSTS = {
    PPO: {"n_steps": 100, "learning_rate": lambda progress: 1e-3 * progress, "clip_range": lambda progress: 0.2 * progress},
    A2C: {"n_steps": 50, "learning_rate": lambda progress: 1e-3 * progress},
    TRPO: {"n_steps": 64, "batch_size": 64, "n_critic_updates": 2},
}


class Ends(gym.Wrapper):
    """Pendulum that also terminates now and then, so that a rollout has terminations, timeouts and cuts."""

    def step(self, action):
        observation, reward, _, truncated, info = self.env.step(action)
        return observation, reward, bool(observation[0] > 0.99), truncated, info


def pendulums(vec_env: type[VecEnv]) -> VecNormalize:
    def pendulum() -> gym.Env:
        # The limit by the task's id: rl-zoo3, once imported, has put another class in the place of Gymnasium's, and a process
        # of its own would look for that.
        return Ends(gym.make("Pendulum-v1", max_episode_steps=17))

    return VecNormalize(vec_env([pendulum, pendulum]))


def trained_parameters(algorithm, vec_env: type[VecEnv], callback: BaseCallback | None = None, **kwargs) -> Tensor:
    """All parameters of the policy after three iterations."""
    env = pendulums(vec_env)
    model = algorithm("MlpPolicy", env, seed=3, device="cpu", **kwargs)
    model.learn(3 * 2 * model.n_steps, callback=callback)
    env.close()
    return nn.utils.parameters_to_vector(model.policy.parameters()).detach()


@pytest.mark.parametrize("identity", IDENTITIES)
@pytest.mark.parametrize("host", HOSTS, ids=lambda host: host.__name__)
def test_a_reward_that_says_nothing_new_leaves_the_host_as_it_is_bit_for_bit(host, identity):
    learner = implicit_learner(**ONE_PART_NO_STEP, **IDENTITIES[identity])
    plain = trained_parameters(host, DummyVecEnv, **HOSTS[host])
    assert torch.equal(trained_parameters(host, DummyVecEnv, callback=learner, **HOSTS[host]), plain)


@pytest.mark.parametrize("identity", IDENTITIES)
def test_tareppo_with_a_reward_that_says_nothing_new_is_ppo_bit_for_bit(identity):
    kwargs = HOSTS[PPO]
    learned = trained_parameters(
        TAREPPO, DummyVecEnv, reward_kwargs={**IMPLICIT, **ONE_PART_NO_STEP, **IDENTITIES[identity]}, **kwargs
    )
    assert torch.equal(learned, trained_parameters(PPO, DummyVecEnv, **kwargs))


def test_rewards_of_double_precision_lose_no_bits():
    identity = IDENTITIES["the extrinsic reward in its place"]
    learner = implicit_learner(**ONE_PART_NO_STEP, **identity)
    plain = trained_parameters(PPO, SubprocVecEnv, **HOSTS[PPO])
    assert torch.equal(trained_parameters(PPO, SubprocVecEnv, callback=learner, **HOSTS[PPO]), plain)


def test_the_laws_do_not_hold_by_themselves():
    """A reward that differs, or one that is learned, does move the policy."""
    plain = trained_parameters(PPO, DummyVecEnv, **HOSTS[PPO])
    replaced = implicit_learner(**ONE_PART_NO_STEP, reward_mode="replace")
    learned = implicit_learner(validation="next_rollout")
    for learner in (replaced, learned):
        assert not torch.equal(trained_parameters(PPO, DummyVecEnv, callback=learner, **HOSTS[PPO]), plain)


@pytest.mark.parametrize("identity", IDENTITIES)
def test_maskable_ppo_keeps_its_masks_and_its_bits(identity):
    def trained(callback: BaseCallback | None) -> Tensor:
        env = InvalidActionEnvDiscrete(dim=8, n_invalid_actions=4)
        model = MaskablePPO("MlpPolicy", env, n_steps=64, batch_size=32, n_epochs=2, seed=0, device="cpu")
        model.learn(192, callback=callback)
        return nn.utils.parameters_to_vector(model.policy.parameters()).detach()

    assert torch.equal(trained(implicit_learner(**ONE_PART_NO_STEP, **IDENTITIES[identity])), trained(None))


@pytest.mark.parametrize("validation", ["split", "next_rollout"])
def test_the_bare_callback_and_tareppo_train_the_same_policy(validation):
    kwargs = {"n_steps": 64, "n_epochs": 2}
    owned = trained_parameters(TAREPPO, DummyVecEnv, reward_kwargs={**IMPLICIT, "validation": validation}, **kwargs)
    bare = trained_parameters(PPO, DummyVecEnv, callback=implicit_learner(validation=validation), **kwargs)
    assert torch.equal(owned, bare)


class Rollouts(BaseCallback):
    """Keeps what a rollout's own training would use, and what a learner reads of it."""

    def __init__(self) -> None:
        super().__init__()
        self.advantages: list[np.ndarray] = []
        self.read: list[Tensor] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        learner = self.model.reward_learner
        self.advantages.append(self.model.rollout_buffer.advantages.T.reshape(-1).copy())
        rollout = learner.trainer.host.read(learner.trainer.host.record())
        self.read.append(learner.trainer.advantages.extrinsic(rollout))


def test_extrinsic_advantages_are_the_buffers_own_through_normalisation_ends_and_timeouts():
    rollouts = Rollouts()
    trained_parameters(TAREPPO, DummyVecEnv, callback=rollouts, n_steps=60)
    for expected, read in zip(rollouts.advantages, rollouts.read, strict=True):
        assert np.array_equal(read.numpy(), expected)

"""Rewards of stacked frames are exported where they can be used; a frozen learner logs what its host logs."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from digests import _logged_into
from gymnasium import spaces
from sb3_contrib import TRPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import VecFrameStack, VecNormalize
from toys import AS_HOST, BOX, OBSERVATION, TINY_NET, Toy, tare, vec_env

from sb3_tare import LearnedReward, RewardLearner, VecLearnedReward

DICTIONARY = spaces.Dict({"position": OBSERVATION, "speed": spaces.Box(-np.inf, np.inf, (2,), np.float32)})
SETTINGS = {"architecture": "StateAction", "zero_head": False}


def toys(space: spaces.Space) -> Any:
    return vec_env(2, lambda: Toy(space, BOX, horizon=7))


def exported(env: Any, policy: str) -> LearnedReward:
    return LearnedReward.of(tare(env, policy, **SETTINGS).learn(128))


@pytest.mark.parametrize(
    ("space", "policy"), [(OBSERVATION, "MlpPolicy"), (DICTIONARY, "MultiInputPolicy")], ids=["Box", "Dict"]
)
def test_a_reward_of_frames_stacked_outside_of_their_statistics_is_not_exported(space, policy, tmp_path):
    reward = exported(VecFrameStack(VecNormalize(toys(space)), 3), policy)
    with pytest.raises(ValueError, match=r"Learn it in VecNormalize\(VecFrameStack"):
        reward.save(tmp_path / "reward")
    assert not list(tmp_path.iterdir())
    env = VecLearnedReward(VecFrameStack(toys(space), 3), reward)
    env.reset()
    with pytest.raises(ValueError, match="own units"):
        env.step(np.zeros((2, 2), dtype=np.float32))


@pytest.mark.parametrize(
    "wrapped",
    [lambda env: VecNormalize(VecFrameStack(env, 3)), lambda env: VecFrameStack(VecNormalize(env, norm_obs=False), 3)],
    ids=["statistics of stacks", "rewards alone"],
)
def test_a_reward_of_stacked_frames_is_exported_where_it_can_be_used(wrapped, tmp_path):
    exported(wrapped(toys(OBSERVATION)), "MlpPolicy").save(tmp_path / "reward")
    env = VecLearnedReward(VecFrameStack(toys(OBSERVATION), 3), tmp_path / "reward")
    env.reset()
    assert np.isfinite(env.step(np.zeros((2, 2), dtype=np.float32))[1]).all()


HOSTS: dict[str, Callable[..., Any]] = {
    "A2C": lambda **arguments: A2C("MlpPolicy", n_steps=32, **arguments),
    "PPO": lambda **arguments: PPO("MlpPolicy", n_steps=32, n_epochs=2, batch_size=16, **arguments),
    "TRPO": lambda **arguments: TRPO("MlpPolicy", n_steps=32, batch_size=32, **arguments),
}


@pytest.mark.parametrize("make", HOSTS.values(), ids=HOSTS)
def test_a_frozen_learner_logs_what_its_host_logs(make):
    def logged(*learners: RewardLearner) -> list[tuple[str, float]]:
        scalars: list[tuple[str, float]] = []
        model = make(env=vec_env(3, lambda: Toy(p_end=0.05)), seed=0, policy_kwargs=dict(TINY_NET))
        model.set_logger(_logged_into(scalars))
        model.learn(4 * 32 * 3, callback=list(learners), log_interval=1)
        return [(name, value) for name, value in scalars if not name.startswith("reward/")]

    assert logged(RewardLearner(**AS_HOST)) == logged()
    assert len(logged()) > 10


def test_learning_a_reward_changes_no_setting_of_torch_or_numpy():
    def settings() -> tuple[Any, ...]:
        cuda, cudnn = torch.backends.cuda, torch.backends.cudnn
        return (
            torch.get_default_dtype(),
            torch.get_num_threads(),
            torch.is_grad_enabled(),
            torch.are_deterministic_algorithms_enabled(),
            (cuda.flash_sdp_enabled(), cuda.math_sdp_enabled(), cudnn.enabled, cudnn.benchmark),
            np.geterr(),
            np.get_printoptions(),
        )

    before = settings()
    tare().learn(2 * 64)
    assert settings() == before

"""Rewards of every kind of number, and observations that are whole numbers, teach as PPO and AWR take them."""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnvWrapper
from toys import (
    AS_HOST,
    BOX,
    OBSERVATION,
    Toy,
    awr,
    differences,
    not_finite,
    policy_of,
    ppo,
    snapshot,
    tare,
    tare_awr,
    vec_env,
)

from sb3_tare import AWR, LearnedReward, LearnedRewardWrapper
from sb3_tare.awr.normalizer import ObservationNormalizer

CASTS: dict[str, Callable[[Any], Any]] = {
    "bool": lambda rewards: rewards > 0,
    "int64": lambda rewards: (10 * rewards).astype(np.int64),
    "uint8": lambda rewards: (10 * rewards).clip(0, 9).astype(np.uint8),
    "float16": lambda rewards: rewards.astype(np.float16),
    "float64": lambda rewards: rewards.astype(np.float64),
}
every_cast = pytest.mark.parametrize("cast", CASTS.values(), ids=CASTS)


class Paying(VecEnvWrapper):
    """Pays in another type, as environments in processes of their own do."""

    def __init__(self, venv: Any, cast: Callable[[Any], Any]) -> None:
        super().__init__(venv)
        self.cast = cast

    def reset(self) -> Any:
        return self.venv.reset()

    def step_wait(self) -> Any:
        observations, rewards, dones, infos = self.venv.step_wait()
        return observations, self.cast(rewards), dones, infos


def paying(cast: Callable[[Any], Any]) -> Paying:
    return Paying(vec_env(2, lambda: Toy(horizon=9, p_end=0.05)), cast)


@every_cast
def test_a_frozen_learner_follows_ppo_whatever_the_type_of_rewards(cast):
    learned = tare(paying(cast), **AS_HOST).learn(2 * 128)
    assert not differences(policy_of(ppo(paying(cast)).learn(2 * 128)), policy_of(learned))


@every_cast
def test_a_reward_is_learned_whatever_the_type_of_rewards(cast):
    model = tare(paying(cast)).learn(128)
    assert not not_finite(policy_of(model))
    assert not not_finite(policy_of(tare(paying(cast), preset="decomposition").learn(128)))
    tare_awr(paying(cast)).learn(128)


class PaidIn(gym.Wrapper):
    def __init__(self, env: gym.Env, cast: Callable[[float], Any]) -> None:
        super().__init__(env)
        self.cast = cast

    def step(self, action: Any) -> Any:
        observation, reward, *others = self.env.step(action)
        return observation, self.cast(round(reward)), *others


@pytest.mark.parametrize(
    "cast", [bool, int, np.float32, lambda reward: np.array([reward])], ids=["bool", "int", "float32", "(1,)"]
)
def test_a_wrapper_pays_on_rewards_of_every_type(cast):
    reward = LearnedReward.of(tare(architecture="StateAction", zero_head=False))
    env = LearnedRewardWrapper(PaidIn(Toy(), cast), reward, mode="add")
    env.reset(seed=0)
    _, paid, _, _, info = env.step(np.zeros(2, dtype=np.float32))
    assert isinstance(paid, float)
    assert paid == pytest.approx(info["extrinsic_reward"] + info["learned_reward"])


WHOLE = {
    "RAM": spaces.Box(0, 255, (16,), np.uint8),
    "prices": spaces.Box(0, 10**9, (3,), np.int64),
    "counters": spaces.Box(-(2**31), 2**31 - 1, (2, 2), np.int32),
}


def drawn(space: spaces.Space, seed: int = 0) -> np.ndarray:
    space.seed(seed)
    return np.stack([space.sample() for _ in range(200)])


@pytest.mark.parametrize("space", WHOLE.values(), ids=WHOLE)
def test_vectors_of_whole_numbers_are_standardised(space):
    normalizer = ObservationNormalizer(space)
    observations = torch.as_tensor(drawn(space)).float()
    normalizer.update(observations)
    standardised = normalizer(observations)
    torch.testing.assert_close(standardised.mean(dim=0), torch.zeros(space.shape), rtol=0.0, atol=1e-4)
    torch.testing.assert_close(standardised.std(dim=0), torch.ones(space.shape), rtol=0.01, atol=0.0)


def test_images_are_not_standardised():
    image = spaces.Box(0, 255, (3, 36, 36), np.uint8)
    assert not ObservationNormalizer(image).moments
    assert len(ObservationNormalizer(spaces.Dict({"image": image, "RAM": WHOLE["RAM"], "speed": OBSERVATION})).moments) == 2


class Prices(Toy):
    """Whole numbers of very large size."""

    def __init__(self) -> None:
        super().__init__(WHOLE["prices"], BOX)

    def _observe(self) -> Any:
        return self.np_random.integers(10**8, 10**9, size=3)


def test_awr_and_tareawr_learn_from_large_whole_numbers():
    for model in (awr(vec_env(1, Prices)), tare_awr(vec_env(1, Prices))):
        model.learn(3 * 64)
        assert not not_finite(snapshot(model.policy.state_dict()))
        assert model.policy.normalizer.moments["observation_"].mean.min() > 1e8


def test_a_policy_from_before_whole_numbers_were_standardised_is_loaded(tmp_path):
    model = awr(vec_env(1, Prices))
    state = {name: value for name, value in model.policy.state_dict().items() if "moments" not in name}
    assert len(state) < len(model.policy.state_dict())
    other = awr(vec_env(1, Prices), seed=1)
    other.policy.load_state_dict(state)
    assert torch.equal(other.policy.action_net.weight, model.policy.action_net.weight)
    raw = torch.tensor([[5.0, 6.0, 7.0]])
    assert torch.equal(other.policy.normalizer(raw), raw)
    model.save(tmp_path / "model")
    assert not differences(snapshot(AWR.load(tmp_path / "model").policy.state_dict()), snapshot(model.policy.state_dict()))


def test_awr_says_that_large_rewards_are_the_cause_where_its_loss_is_not_finite():
    env = DummyVecEnv([lambda: PaidIn(Toy(), lambda reward: 1e30 * reward)])
    with pytest.raises(FloatingPointError, match="rewards or observations of very large size are the usual cause"):
        awr(env).learn(20 * 64)

"""Models on a GPU: what is learned there is loaded on the CPU and learns on, and the other way round.

::

    SB3_TARE_GPU=1 pytest tests/test_cuda.py

All other tests are of the CPU.
"""

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import TRPO
from stable_baselines3 import A2C, SAC
from stable_baselines3.common.vec_env import VecNormalize
from test_persistence import SETTINGS, continued, endless
from test_second_derivatives import Attention, Recurrent, has_learned, host
from toys import (
    IMPLICIT,
    ITERATION,
    SMALL,
    SMALL_AWR,
    TINY_NET,
    TinyCNN,
    Toy,
    all_of,
    awr_of,
    differences,
    snapshot,
    tare,
    tare_awr,
    vec_env,
)

from sb3_tare import LIRPG, TAREAWR, TAREPPO, LearnedReward, RewardLearner

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU that torch can use")
ON_GPU = {**SMALL, "device": "cuda"}
with_each_preset = pytest.mark.parametrize("preset", ["decomposition", "implicit", "paper", "paper_residual"])


def pictures() -> Any:
    return vec_env(2, lambda: Toy(observation_space=spaces.Box(0, 255, (3, 16, 16), np.uint8)))


def on_cpu(state: Mapping[str, Any]) -> dict[str, Any]:
    return {name: leaf.cpu() if isinstance(leaf, torch.Tensor) else leaf for name, leaf in state.items()}


def devices(model: Any) -> set[str]:
    reward_model = model.reward_learner.trainer.reward_model
    return {parameter.device.type for module in (model.policy, reward_model) for parameter in module.parameters()}


def relabelled(reward: LearnedReward) -> np.ndarray:
    generator = np.random.default_rng(0)
    observations, actions, rewards = (generator.normal(size=(20, *shape)).astype(np.float32) for shape in ((3,), (2,), ()))
    return reward.relabel(observations, actions.clip(-1, 1), rewards, [12, 8])


@with_each_preset
def test_what_is_learned_on_a_gpu_is_loaded_on_the_cpu_and_learns_on(preset, tmp_path):
    model = tare(VecNormalize(vec_env(2)), host=ON_GPU, preset=preset).learn(6 * ITERATION)
    assert devices(model) == {"cuda"}
    model.save(tmp_path / "model")
    loaded = TAREPPO.load(tmp_path / "model", env=model.get_env(), device="cpu")
    assert devices(loaded) == {"cpu"}
    assert not differences(on_cpu(all_of(model)), all_of(loaded))
    loaded.learn(6 * ITERATION)
    assert all(tensor.isfinite().all() for tensor in loaded.policy.state_dict().values())


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_run_on_a_gpu_goes_on_to_the_last_bit(settings, tmp_path):
    model = tare(endless(), host=ON_GPU, **settings).learn(6 * ITERATION)
    model.save(tmp_path / "model")
    assert not continued(model, copy.deepcopy(model.get_env()), tmp_path / "model", device="cuda")


@with_each_preset
def test_a_reward_learned_on_a_gpu_is_the_same_on_the_cpu(preset, tmp_path):
    model = tare(vec_env(2), host=ON_GPU, preset=preset).learn(6 * ITERATION)
    LearnedReward.of(model).save(tmp_path / "reward")
    moved = TAREPPO.load(model_file(model, tmp_path), device="cpu")
    rewards = relabelled(LearnedReward.load(tmp_path / "reward"))
    assert np.ptp(rewards) > 0
    np.testing.assert_allclose(relabelled(LearnedReward.of(moved)), rewards, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(relabelled(LearnedReward.of(model)), rewards, rtol=1e-4, atol=1e-6)


def model_file(model: Any, folder: Any) -> Any:
    model.save(folder / "moved")
    return folder / "moved"


@pytest.mark.parametrize("preset", ["decomposition", "implicit"])
def test_a_model_from_the_cpu_learns_on_a_gpu(preset, tmp_path):
    tare(vec_env(2), host={**SMALL, "device": "cpu"}, preset=preset).learn(6 * ITERATION).save(tmp_path / "model")
    model = TAREPPO.load(tmp_path / "model", env=vec_env(2), device="cuda")
    before = snapshot(model.policy.state_dict())
    model.learn(6 * ITERATION)
    assert devices(model) == {"cuda"}
    assert differences(before, snapshot(model.policy.state_dict()))


@pytest.mark.parametrize("curvature", [None, "fisher", "hessian", "identity"])
@pytest.mark.parametrize("layer", [Attention, Recurrent])
def test_kernels_that_cannot_be_differentiated_twice_are_stepped_around(layer, curvature):
    model = tare(host={**host(layer), "device": "cuda"}, curvature=curvature, zero_head=False).learn(2 * ITERATION)
    assert has_learned(model)


@pytest.mark.parametrize("preset", ["decomposition", "implicit"])
def test_pictures_are_learned_from_on_a_gpu(preset):
    policy_kwargs = {**TINY_NET, "features_extractor_class": TinyCNN}
    model = tare(pictures(), "CnnPolicy", {**ON_GPU, "policy_kwargs": policy_kwargs}, preset=preset).learn(6 * ITERATION)
    assert devices(model) == {"cuda"}


@pytest.mark.parametrize("preset", ["decomposition", "implicit"])
def test_tareawr_goes_between_a_gpu_and_the_cpu(preset, tmp_path):
    model = tare_awr(host={**SMALL_AWR, "device": "cuda"}, preset=preset).learn(4 * ITERATION)
    assert devices(model) == {"cuda"}
    model.save(tmp_path / "model")
    loaded = TAREAWR.load(tmp_path / "model", env=vec_env(), device="cpu")
    assert not differences(on_cpu(awr_of(model)), awr_of(loaded))
    loaded.learn(2 * ITERATION)


def test_lirpg_learns_on_a_gpu():
    model = LIRPG("MlpPolicy", vec_env(), **ON_GPU).learn(3 * ITERATION)
    assert model.policy.device.type == "cuda"


@pytest.mark.parametrize("algorithm", [A2C, TRPO])
def test_the_callback_follows_a_host_onto_a_gpu(algorithm):
    learner = RewardLearner(**IMPLICIT)
    algorithm("MlpPolicy", vec_env(), n_steps=ITERATION, device="cuda", policy_kwargs=dict(TINY_NET)).learn(
        3 * ITERATION, callback=learner
    )
    assert {parameter.device.type for parameter in learner.trainer.reward_model.parameters()} == {"cuda"}


def test_sac_learns_from_totals_on_a_gpu():
    model = SAC("MlpPolicy", vec_env(), learning_starts=ITERATION, batch_size=16, device="cuda", policy_kwargs=dict(TINY_NET))
    learner = RewardLearner(preset="decomposition", decomposition_updates=2)
    model.learn(4 * ITERATION, callback=learner)
    assert {parameter.device.type for parameter in learner.trainer.reward_model.parameters()} == {"cuda"}

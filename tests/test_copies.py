"""Models can be copied in the middle of ``learn()`` and after an interruption, and what goes on is what was copied."""

import copy
import pickle
from collections.abc import Callable
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from stable_baselines3.common.buffers import RolloutBuffer
from toys import (
    SMALL,
    Watch,
    awr,
    awr_of,
    differences,
    generators,
    policy_of,
    ppo,
    set_generators,
    snapshot,
    tare,
    tare_awr,
    vec_env,
)

from sb3_tare import LIRPG, RewardLearner
from sb3_tare.hosts.buffers import narrow

COPIES: dict[str, Callable[[Any], Any]] = {
    "deepcopy": copy.deepcopy,
    "pickle": lambda model: pickle.loads(pickle.dumps(model)),
    "cloudpickle": lambda model: pickle.loads(cloudpickle.dumps(model)),
}
MODELS: dict[str, Callable[[], Any]] = {
    "TAREPPO": tare,
    "TAREPPO next_rollout": lambda: tare(validation="next_rollout"),
    "TAREPPO interleave": lambda: tare(interleave=True),
    "TAREPPO decomposition": lambda: tare(preset="decomposition"),
    "TAREAWR": tare_awr,
    "AWR": awr,
    "LIRPG": lambda: LIRPG("MlpPolicy", vec_env(), **SMALL),
}
every_copy = pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
every_model = pytest.mark.parametrize("make", MODELS.values(), ids=MODELS)


def state_of(model: Any) -> dict[str, Any]:
    if model.policy.optimizer is None:
        return awr_of(model)
    return {**policy_of(model), **snapshot({"reward_learner": model.reward_learner.state_dict()})}


start = generators()


def goes_on_alike(first: Any, second: Any) -> bool:
    states = []
    for model in (first, second):
        set_generators(start)
        env = vec_env()
        env.seed(0)
        model.set_env(env)
        states.append(state_of(model.learn(64)))
    return not differences(*states)


@every_copy
@every_model
def test_a_model_is_copied_when_it_is_new_in_a_callback_and_when_it_has_learned(make, copied):
    model, copies = make(), []
    assert not differences(state_of(model), state_of(copied(model)))
    places = dict.fromkeys(["rollout_start", "rollout_end"], lambda callback: copies.append(copied(callback.model)))
    step = {"step": lambda callback: copies.append(copied(callback.model)) if callback.num_timesteps == 100 else None}
    model.learn(2 * 64, callback=[Watch(**places), Watch(**step)])
    assert len(copies) >= 4
    last = copied(model)
    assert not differences(state_of(model), state_of(last))
    assert goes_on_alike(model, last)


@every_copy
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
@pytest.mark.parametrize("make", [MODELS["TAREPPO"], MODELS["TAREAWR"], MODELS["LIRPG"]], ids=["TAREPPO", "TAREAWR", "LIRPG"])
def test_a_model_is_copied_after_an_interruption(make, error, copied):
    def interrupt(callback: Watch) -> None:
        if callback.num_timesteps == 100:
            raise error

    model = make()
    with pytest.raises(error):
        model.learn(3 * 64, callback=Watch(step=interrupt))
    assert goes_on_alike(model, copied(model))


@every_copy
def test_a_buffer_that_is_lent_is_copied_whole(copied):
    buffer = ppo().learn(64).rollout_buffer
    buffer.reset()
    whole = copy.deepcopy(vars(buffer))
    narrow(buffer, np.array([0, 3, 5]), np.ones(3, np.float32), np.ones(3, np.float32), between_passes=lambda: None)
    same = copied(buffer)
    assert type(same) is RolloutBuffer
    assert vars(same).keys() == whole.keys()
    assert all(np.array_equal(value, whole[name]) for name, value in vars(same).items() if isinstance(value, np.ndarray))
    assert (same.buffer_size, same.generator_ready) == (64, False)


def test_gradients_leave_the_policys_distribution_as_it_was():
    model = tare()
    model.learn(64)
    model.policy.get_distribution(torch.zeros(1, 3))
    before = dict(vars(model.policy.action_dist))
    gradients = model.reward_learner.trainer.gradients
    probe = gradients.probe()
    assert gradients.gradient(probe).abs().sum() > 0
    assert vars(model.policy.action_dist) == before


def test_a_callback_on_its_own_is_copied_in_the_middle_of_a_rollout():
    learner, copies = RewardLearner(preset="implicit"), []
    ppo().learn(2 * 64, callback=[Watch(step=lambda callback: copies.append(copy.deepcopy(learner))), learner])
    assert len(copies) == 2 * 64

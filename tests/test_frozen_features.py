"""Features of images that a memory keeps: those of an extractor that does not go on learning."""

import numpy as np
import pytest
import torch
from gymnasium import spaces
from test_return_decomposition import FAST, episodic
from toys import IMPLICIT, tare

from sb3_tare import TAREPPO, LearnedReward

IMAGES = spaces.Box(0, 255, (36, 36, 1), np.uint8)


def seeing(settings=FAST, **others):
    """A model that sees images, with few of them in a rollout."""
    host = {"policy_kwargs": {}, "n_steps": 32, "learning_rate": 0.003}
    return tare(episodic(observation_space=IMAGES, horizon=9), "CnnPolicy", host=host, **settings, **others)


def images():
    return torch.from_numpy(np.stack([IMAGES.sample().transpose(2, 0, 1) for _ in range(4)]))


def test_what_the_memory_keeps_of_an_image_is_what_the_reward_sees_of_it_today():
    model = seeing()
    host, shown = model.reward_learner.trainer.host, images()
    before, acting = host.states(shown), host.actor_features(shown)
    assert torch.equal(before, acting)
    model.learn(6 * 64)
    assert torch.equal(host.states(shown), before)
    assert not torch.allclose(host.actor_features(shown), acting, rtol=0.01)
    stored = model.reward_learner.trainer.decomposer.memory.state_dict()["rows"]["states"]
    assert stored.shape[1:] == before.shape[1:]


def test_vectors_and_the_implicit_gradient_need_no_copy_of_the_extractor():
    for model in (tare(episodic(), **FAST), seeing(IMPLICIT)):
        assert model.reward_learner.trainer.reward_model.frozen_extractor is None


def test_the_extractor_is_saved_and_exported_with_the_reward(tmp_path):
    model = seeing().learn(2 * 64)
    model.save(tmp_path / "model")
    loaded, shown = TAREPPO.load(tmp_path / "model", env=model.get_env()), images()
    states = model.reward_learner.trainer.host.states(shown)
    assert torch.equal(loaded.reward_learner.trainer.host.states(shown), states)
    assert torch.equal(LearnedReward.of(loaded).extractor(shown / 255.0), states)


def test_a_further_learner_starts_from_the_reward_and_its_extractor(tmp_path):
    first = seeing().learn(2 * 64)
    LearnedReward.of(first).save(tmp_path / "reward")
    second, shown = seeing(seed=5, initial_reward=str(tmp_path / "reward")), images()
    seen = [model.reward_learner.trainer.host.states(shown) for model in (first, second)]
    assert torch.equal(*seen)


def test_a_state_of_before_extractors_were_frozen_is_read():
    reward_model = seeing().reward_learner.trainer.reward_model
    older = {name: value for name, value in reward_model.state_dict().items() if not name.startswith("frozen")}
    reward_model.load_state_dict(older)
    with pytest.raises(RuntimeError, match="frozen_extractor"):
        reward_model.load_state_dict({**older, "frozen_extractor.unknown": torch.zeros(1)})

"""Observations of AWR are normalised by statistics of all that was collected, until they freeze."""

import numpy as np
import pytest
import torch
from builders import LAWS
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from toys import OBSERVATION, TinyCNN, Toy, awr, awr_of, differences, vec_env

from sb3_tare import AWR
from sb3_tare.awr.normalizer import ObservationNormalizer, RunningMoments

IMAGE = spaces.Box(0, 255, (3, 16, 16), dtype=np.uint8)
MIXED = spaces.Dict({"camera": IMAGE, "body.part": OBSERVATION, "pop": spaces.Discrete(3), "goal": OBSERVATION})


@LAWS
@given(st.lists(st.integers(1, 9), min_size=1, max_size=5), st.integers(0, 1000))
def test_statistics_are_those_of_numpy_over_all_that_was_fed(sizes, seed):
    rng = np.random.default_rng(seed)
    batches = [rng.normal(loc=1e3, scale=[0.001, 1.0, 50.0], size=(size, 3)) for size in sizes]
    moments = RunningMoments((3,))
    for batch in batches:
        moments.update(torch.from_numpy(batch))
    everything = np.concatenate(batches)
    np.testing.assert_allclose(moments.exact_mean, everything.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, everything.var(axis=0), rtol=1e-6, atol=1e-12)
    np.testing.assert_allclose(moments.deviation, np.maximum(everything.std(axis=0), 0.01), rtol=1e-5)
    expected = (everything - everything.mean(axis=0)) / np.maximum(everything.std(axis=0), 0.01)
    np.testing.assert_allclose(moments(torch.from_numpy(everything)), expected, atol=0.02)  # 1e3 is coarse in float32


def test_before_anything_was_seen_nothing_changes():
    vectors = torch.randn(4, 3)
    assert torch.equal(RunningMoments((3,))(vectors), vectors)


def test_images_and_discrete_parts_pass_through():
    normalizer = ObservationNormalizer(MIXED)
    part = {
        "camera": torch.rand(5, 3, 16, 16),
        "body.part": torch.randn(5, 3),
        "pop": torch.ones(5, 3),
        "goal": torch.ones(5, 3),
    }
    normalizer.update({**part, "body.part": 5.0 + 2.0 * part["body.part"]})
    normalised = normalizer(part)
    assert normalised["camera"] is part["camera"]
    assert normalised["pop"] is part["pop"]
    assert not torch.allclose(normalised["body.part"], part["body.part"])
    assert torch.equal(normalised["goal"], torch.zeros(5, 3))


@pytest.mark.parametrize("space", [IMAGE, spaces.Discrete(3), spaces.MultiBinary(4), spaces.MultiDiscrete([2, 3])], ids=str)
def test_where_nothing_is_a_vector_there_are_no_statistics(space):
    assert not list(ObservationNormalizer(space).buffers())


def collected(model):
    """All observations that entered a memory nothing was evicted from, those behind the ends of paths too."""
    memory = model.replay_buffer
    paths = memory.paths()
    ends = paths.rows[(paths.episodes.begins + paths.episodes.lengths - 1).numpy()]
    return torch.cat([memory.observations_at(paths.rows), memory.next_observations_at(ends)]).double().numpy()


def test_a_run_has_the_statistics_of_what_it_collected():
    model = awr(vec_env(2, lambda: Toy(horizon=16))).learn(2 * 64)  # an iteration of whole episodes
    everything = collected(model)
    moments = model.policy.normalizer.moments["observation_"]
    assert int(moments.count) == len(everything)
    np.testing.assert_allclose(moments.exact_mean, everything.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, everything.var(axis=0), rtol=1e-12)


def test_statistics_freeze_after_as_many_steps_as_they_were_to_see():
    model = awr(normalizer_steps=100).learn(2 * 64)
    frozen = {name: value.clone() for name, value in model.policy.normalizer.state_dict().items()}
    model.learn(2 * 64)
    assert not differences(frozen, model.policy.normalizer.state_dict())
    thawed = awr(normalizer_steps=200).learn(2 * 64)
    assert not differences(frozen, thawed.policy.normalizer.state_dict())
    assert differences(frozen, thawed.learn(2 * 64).policy.normalizer.state_dict())


def test_with_no_steps_to_see_nothing_is_normalised():
    model = awr(normalizer_steps=0).learn(64)
    assert int(model.policy.normalizer.moments["observation_"].count) == 0


def test_actor_and_critic_see_normalised_observations():
    model = awr().learn(64)
    policy = model.policy
    observations = torch.randn(6, 3)
    moments = policy.normalizer.moments["observation_"]
    features = (observations - moments.mean) / moments.deviation
    means = policy.action_net(policy.mlp_extractor.policy_net(features))
    values = policy.value_net(policy.mlp_extractor.value_net(features))
    assert not torch.allclose(features, observations)
    torch.testing.assert_close(policy.get_distribution(observations).distribution.mean, means)
    torch.testing.assert_close(policy.predict_values(observations), values)


def test_statistics_are_saved_and_loaded(tmp_path):
    model = awr().learn(64)
    model.save(tmp_path / "model")
    model.policy.save(tmp_path / "policy")
    loaded = AWR.load(tmp_path / "model", env=vec_env())
    assert not differences(awr_of(model), awr_of(loaded))
    assert int(loaded.policy.normalizer.moments["observation_"].count) > 64
    assert not differences(loaded.policy.state_dict(), type(model.policy).load(tmp_path / "policy").state_dict())


def test_named_observations_are_normalised_each_by_its_own_statistics():
    space = spaces.Dict({"body": OBSERVATION, "mode": spaces.Discrete(3), "goal": OBSERVATION})
    model = awr(vec_env(1, lambda: Toy(space)), "MultiInputPolicy").learn(64)
    assert set(model.policy.normalizer.moments) == {"observation_body", "observation_goal"}
    observations = model.replay_buffer.observations["goal"][:64, 0]
    moments = model.policy.normalizer.moments["observation_goal"]
    np.testing.assert_allclose(moments.mean, observations.mean(axis=0), atol=0.05)
    assert not torch.equal(moments.mean, model.policy.normalizer.moments["observation_body"].mean)


def test_an_extractor_of_the_users_stands_behind_the_statistics_too():
    kwargs = {"net_arch": [8], "features_extractor_class": TinyCNN}
    model = awr(vec_env(1, lambda: Toy(IMAGE)), "CnnPolicy", policy_kwargs=kwargs).learn(64)
    assert isinstance(model.policy.pi_features_extractor.extractor, TinyCNN)
    assert model.policy.pi_features_extractor.extractor is not model.policy.vf_features_extractor.extractor

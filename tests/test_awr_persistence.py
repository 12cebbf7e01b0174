"""What AWR saves is what it loads: runs go on to the last bit, and a memory of another shape is refused."""

import copy
import io
import json
import re
import zipfile

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecNormalize
from toys import (
    BOX,
    OBSERVATION,
    TINY_NET,
    Toy,
    awr,
    awr_of,
    differences,
    not_finite,
    snapshot,
    tare_awr,
    vec_env,
)

from sb3_tare import AWR, TAREAWR
from sb3_tare.awr import AWRPolicy

ACTS = np.linspace(-1.0, 1.0, 15, dtype=np.float32).reshape(5, 3)
ADAM = {**TINY_NET, "optimizer_class": torch.optim.Adam}
MODELS = {
    "AWR": lambda env: awr(env),
    "AWR with Adam": lambda env: awr(env, policy_kwargs=ADAM, learn_std=True, learning_rate=lambda left: 1e-2 * left),
    "TAREAWR": lambda env: tare_awr(env, sampled_steps=40),
    "TAREAWR, next_rollout": lambda env: tare_awr(env, sampled_steps=40, validation="next_rollout"),
    "TAREAWR, own features": lambda env: tare_awr(env, validation="next_rollout", features="own"),
}
with_each_model = pytest.mark.parametrize("name", MODELS)
N = 2 * 64


def endless():
    """Environments whose episodes are longer than an iteration and end at their own times."""
    return vec_env(2, lambda: Toy(horizon=90, p_end=0.02))


def memory_of(model):
    return {name: value for name, value in vars(model.replay_buffer).items() if isinstance(value, (np.ndarray, int, bool))}


def assert_same_memory(first, second):
    first, second = memory_of(first), memory_of(second)
    assert first.keys() == second.keys()
    assert {"times", "cuts", "n_new", "_next_times", "pos", "full"} <= first.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, err_msg=name)


@with_each_model
def test_a_loaded_run_goes_on_as_if_it_had_never_stopped(name, tmp_path):
    model = MODELS[name](endless()).learn(3 * N)  # of a memory of two iterations
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "memory")
    env = copy.deepcopy(model.get_env())
    model.learn(3 * N, reset_num_timesteps=False)
    loaded = type(model).load(tmp_path / "model", env=env, force_reset=False)
    loaded.load_replay_buffer(tmp_path / "memory")
    loaded.learn(3 * N, reset_num_timesteps=False)
    assert loaded.num_timesteps == model.num_timesteps
    assert not differences(awr_of(model), awr_of(loaded))
    assert_same_memory(model, loaded)


def test_a_loaded_run_behind_vec_normalize_goes_on_as_well(tmp_path):
    model = tare_awr(VecNormalize(endless()), validation="next_rollout").learn(3 * N)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "memory")
    env = model.get_env()
    env.save(tmp_path / "normalize.pkl")
    loaded_env = VecNormalize.load(tmp_path / "normalize.pkl", copy.deepcopy(env.venv))
    loaded_env.returns = env.returns.copy()  # the discounted sums so far, which VecNormalize.load forgets
    model.learn(2 * N, reset_num_timesteps=False)
    loaded = TAREAWR.load(tmp_path / "model", env=loaded_env, force_reset=False)
    loaded.load_replay_buffer(tmp_path / "memory")
    loaded.learn(2 * N, reset_num_timesteps=False)
    assert not differences(awr_of(model), awr_of(loaded))


def test_without_its_memory_a_run_does_not_go_on_as_it_would_have(tmp_path):
    model = awr(endless()).learn(3 * N)
    model.save(tmp_path / "model")
    env = copy.deepcopy(model.get_env())
    model.learn(N, reset_num_timesteps=False)
    loaded = AWR.load(tmp_path / "model", env=env, force_reset=False).learn(N, reset_num_timesteps=False)
    assert differences(awr_of(model), awr_of(loaded))


@with_each_model
def test_what_is_saved_is_what_is_loaded(name, tmp_path):
    model = MODELS[name](endless()).learn(2 * N)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model")
    assert not differences(awr_of(model), awr_of(loaded))
    assert (loaded.num_timesteps, loaded._n_updates, loaded._n_observed) == (2 * N, 2, 2 * N)
    np.testing.assert_array_equal(loaded.predict(ACTS, deterministic=True)[0], model.predict(ACTS, deterministic=True)[0])
    assert loaded.get_env() is None


def test_momentum_is_saved_of_both_optimisers():
    model, file = awr().learn(64), io.BytesIO()
    model.save(file)
    loaded = AWR.load(file)
    for name in ("actor_optimizer", "critic_optimizer"):
        buffers = [state["momentum_buffer"] for state in getattr(loaded.policy, name).state_dict()["state"].values()]
        assert buffers
        assert all(buffer.any() for buffer in buffers)


def test_a_model_may_be_loaded_with_the_policy_kwargs_it_was_made_with(tmp_path):
    kwargs = {"net_arch": [8], "activation_fn": torch.nn.Tanh}
    model = awr(policy_kwargs=kwargs, learn_std=True, action_std=0.2, gamma=0.9).learn(64)
    assert model.policy_kwargs == kwargs
    model.save(tmp_path / "model")
    loaded = AWR.load(tmp_path / "model", policy_kwargs=kwargs)
    assert not differences(awr_of(model), awr_of(loaded))
    assert loaded.policy.value_scale == pytest.approx(10.0)
    with pytest.raises(ValueError, match="policy kwargs"):
        AWR.load(tmp_path / "model", policy_kwargs={"net_arch": [9]})


def test_a_policy_may_be_saved_and_loaded_alone(tmp_path):
    env = vec_env(1, lambda: Toy(action_space=spaces.Box(-3.0, 5.0, (2,), dtype=np.float32)))
    model = awr(env, gamma=0.9, action_std=0.3, learn_std=True).learn(64)
    model.policy.save(tmp_path / "policy")
    policy = AWRPolicy.load(tmp_path / "policy")
    assert not differences(snapshot(model.policy.state_dict()), snapshot(policy.state_dict()))
    np.testing.assert_array_equal(policy.predict(ACTS, deterministic=True)[0], model.predict(ACTS, deterministic=True)[0])
    observations = torch.from_numpy(ACTS)
    assert torch.equal(policy.predict_values(observations), model.policy.predict_values(observations))
    assert policy.log_std.requires_grad


@pytest.mark.parametrize("policy", ["MlpPolicy", "MultiInputPolicy"])
def test_nothing_that_is_learned_or_large_is_pickled(policy, tmp_path):
    space = OBSERVATION if policy == "MlpPolicy" else spaces.Dict({"body": OBSERVATION})
    model = tare_awr(vec_env(2, lambda: Toy(space)), host={"buffer_size": 20_000}, policy=policy, validation="next_rollout")
    model.learn(2 * N).save(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        names = set(archive.namelist())
        data = json.loads(archive.read("data"))
        assert len(archive.read("data")) < 60_000
    assert {"policy.pth", "policy.actor_optimizer.pth", "policy.critic_optimizer.pth", "reward_model.pt"} <= names
    assert not {"replay_buffer", "policy", "reward_learner"} & data.keys()
    unpickled, _, _ = load_from_zip_file(tmp_path / "model")
    del unpickled["_continuation"]["generators"]
    for name, value in snapshot(unpickled).items():
        assert not isinstance(value, (torch.Tensor, torch.nn.Module, ReplayBuffer)), name
        assert not (isinstance(value, np.ndarray) and value.size > 1000), name


def test_parameters_alone_make_a_fresh_model_the_same():
    model = tare_awr(endless(), validation="next_rollout").learn(2 * N)
    fresh = tare_awr(endless(), host={"seed": 1}, validation="next_rollout")
    assert differences(awr_of(model), awr_of(fresh))
    fresh.set_parameters(model.get_parameters())
    assert not differences(awr_of(model), awr_of(fresh))


def test_a_model_loaded_without_an_environment_learns_when_it_is_given_one(tmp_path):
    model = awr(endless()).learn(N)
    model.save(tmp_path / "model")
    loaded = AWR.load(tmp_path / "model")
    loaded.set_env(endless())
    assert not not_finite(awr_of(loaded.learn(N)))


def test_a_memory_that_was_loaded_into_a_run_that_starts_anew_is_cut_there(tmp_path):
    model = awr(vec_env(1, lambda: Toy(horizon=1000))).learn(64)
    model.save_replay_buffer(tmp_path / "memory")
    fresh = awr(vec_env(1, lambda: Toy(horizon=1000)))
    fresh.load_replay_buffer(tmp_path / "memory")
    assert fresh.learn(64).replay_buffer.paths().episodes.lengths.tolist() == [64, 64]


def refused(error, *fragments):
    return pytest.raises(error, match="".join(f"(?=.*{re.escape(fragment)})" for fragment in fragments))


@pytest.mark.parametrize(
    ("other", "fragments"),
    [
        (lambda: awr(buffer_size=512), ("512", "256", "buffer_size")),
        (lambda: awr(vec_env(2), buffer_size=256), ("128 steps of each of 2 environments", "256 of 1")),
        (lambda: awr(vec_env(1, lambda: Toy(spaces.Box(-1, 1, (4,))))), ("observation_space", "(4,)", "(3,)")),
        (lambda: awr(vec_env(1, lambda: Toy(action_space=spaces.Discrete(2)))), ("action_space", "Discrete(2)", "Box")),
    ],
    ids=["size", "environments", "observations", "actions"],
)
def test_a_memory_of_another_shape_is_refused(other, fragments, tmp_path):
    other().learn(128).save_replay_buffer(tmp_path / "memory")
    model = awr()
    with refused(ValueError, *fragments):
        model.load_replay_buffer(tmp_path / "memory")
    assert model.replay_buffer.size() == 0


def test_a_replay_buffer_of_another_algorithm_is_refused_with_what_reads_it(tmp_path):
    import pickle

    with open(tmp_path / "memory.pkl", "wb") as file:
        pickle.dump(ReplayBuffer(64, OBSERVATION, BOX, "cpu"), file)
    with refused(TypeError, "ReplayBuffer", "memory_from_replay_buffer"):
        awr().load_replay_buffer(tmp_path / "memory.pkl")

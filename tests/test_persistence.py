"""What is saved is what is loaded: runs go on to the last bit, and a file is whole or not there."""

import copy
import errno
import io
import json
import os
import signal
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.vec_env import VecNormalize
from toys import (
    IMPLICIT,
    ITERATION,
    OBSERVATION,
    SMALL,
    TINY_NET,
    LinearReward,
    Toy,
    Watch,
    all_of,
    differences,
    generators,
    implicit_learner,
    not_finite,
    policy_of,
    ppo,
    set_generators,
    snapshot,
    tare,
    vec_env,
)

from sb3_tare import TAREPPO, RewardLearner
from sb3_tare.utils.files import reward_path

SETTINGS = [
    {},
    {"validation": "next_rollout"},
    {"validation": "next_rollout", "curvature": "hessian"},
    {"features": "own", "center": True},
    {"critics": 1, "interleave": True},
    {"preset": "decomposition", "decomposition_updates": 2},
    {"reward_every": 6 * ITERATION},
    {"validation": "next_rollout", "reward_every": 3 * ITERATION},
]
with_each_setting = pytest.mark.parametrize("settings", SETTINGS, ids=str)
ACTS = np.linspace(-1.0, 1.0, 5 * OBSERVATION.shape[0], dtype=np.float32).reshape(5, -1)


def endless():
    """Environments whose episodes are longer than a rollout and end at their own times."""
    return vec_env(2, lambda: Toy(horizon=90, p_end=0.02))


# TAREPPO


@with_each_setting
def test_what_is_saved_is_what_is_loaded(settings, tmp_path):
    model = tare(endless(), **settings).learn(4 * ITERATION)
    model.save(tmp_path / "model")
    loaded = TAREPPO.load(tmp_path / "model")
    assert not differences(all_of(model), all_of(loaded))
    assert loaded.reward_learner.settings == model.reward_learner.settings
    assert loaded.num_timesteps == model.num_timesteps
    np.testing.assert_array_equal(loaded.predict(ACTS, deterministic=True)[0], model.predict(ACTS, deterministic=True)[0])


def test_the_parameters_carry_all_that_a_reward_learner_has_learned():
    model = tare(endless(), validation="next_rollout", zero_head=False).learn(4 * ITERATION)
    reward, state = (dict(model.get_parameters()[name]) for name in ("reward_model", "reward_optimisation"))
    assert {name.split(".")[0] for name in reward} >= {"network", "critic"}
    assert set(state["optimisers"]) == {"reward", "critic"}
    assert all(optimiser["state"][0]["exp_avg"].any() for optimiser in state["optimisers"].values())
    assert reward["_extra_state"][2] == 4 * ITERATION
    assert state["waiting"]["policy"]["observations"].shape == (2 * ITERATION, 3)


def test_what_is_saved_is_independent_of_what_is_learned_afterwards():
    model = tare(endless(), validation="next_rollout").learn(2 * ITERATION)
    file = io.BytesIO()
    model.save(file)
    before = all_of(model)
    model.learn(4 * ITERATION)
    assert not differences(before, all_of(TAREPPO.load(file)))


@with_each_setting
def test_parameters_alone_make_a_fresh_model_the_same(settings):
    model = tare(endless(), **settings).learn(4 * ITERATION)
    fresh = tare(endless(), host={"seed": 1}, **settings)
    assert differences(all_of(model), all_of(fresh))
    fresh.set_parameters(model.get_parameters())
    assert not differences(all_of(model), all_of(fresh))


@with_each_setting
def test_parameters_in_a_file_make_a_fresh_model_the_same(settings, tmp_path):
    model = tare(endless(), **settings).learn(4 * ITERATION)
    model.save(tmp_path / "model")
    fresh = tare(endless(), host={"seed": 1}, **settings)
    fresh.set_parameters(tmp_path / "model")
    assert not differences(all_of(model), all_of(fresh))


def test_nothing_that_is_learned_is_pickled(tmp_path):
    model = tare(endless(), validation="next_rollout").learn(2 * ITERATION)
    model.save(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive:
        names = archive.namelist()
        data = json.loads(archive.read("data"))
    assert {"reward_model.pt", "reward_optimisation.pt"} <= set(names)
    assert data["reward_kwargs"]["validation"] == "next_rollout"
    assert "reward_learner" not in data
    assert {name for name in data if "reward" in name or "learner" in name} == {"reward_kwargs"}
    unpickled, _, _ = load_from_zip_file(tmp_path / "model")
    tensors = [name for name, value in snapshot(unpickled).items() if isinstance(value, (torch.Tensor, torch.nn.Module))]
    assert not tensors


def test_parameters_are_read_without_unpickling_code(tmp_path):
    tare(endless(), validation="next_rollout", curvature="hessian").learn(2 * ITERATION).save(tmp_path / "model")
    with zipfile.ZipFile(tmp_path / "model.zip") as archive, archive.open("reward_optimisation.pt") as file:
        state = torch.load(io.BytesIO(file.read()), weights_only=True)
    assert state["waiting"] is not None


def continued(model, env, file, **kwargs):
    """``model`` learns on; the one in ``file`` does so in a copy of its environment as it was, after it."""
    model.learn(4 * ITERATION, reset_num_timesteps=False)
    loaded = TAREPPO.load(file, env=env, force_reset=False, **kwargs)
    loaded.learn(4 * ITERATION, reset_num_timesteps=False)
    assert loaded.num_timesteps == model.num_timesteps
    return differences(all_of(model), all_of(loaded))


@with_each_setting
def test_a_loaded_run_goes_on_as_if_it_had_never_stopped(settings, tmp_path):
    model = tare(endless(), **settings).learn(4 * ITERATION)
    model.save(tmp_path / "model")
    assert not continued(model, copy.deepcopy(model.get_env()), tmp_path / "model")


@pytest.mark.parametrize("host", [{"use_sde": True}, {"seed": None}, {"learning_rate": lambda remaining: 1e-3 * remaining}])
def test_a_loaded_run_of_another_kind_goes_on_as_well(host, tmp_path):
    model = tare(endless(), host=host).learn(4 * ITERATION)
    model.save(tmp_path / "model")
    assert not continued(model, copy.deepcopy(model.get_env()), tmp_path / "model")


def test_a_loaded_run_with_a_network_of_the_users_goes_on_as_well(tmp_path):
    settings = {"architecture": LinearReward, "architecture_kwargs": {"scale": 2.0}}
    model = tare(endless(), **settings).learn(4 * ITERATION)
    model.save(tmp_path / "model")
    assert not continued(model, copy.deepcopy(model.get_env()), tmp_path / "model")


@pytest.mark.parametrize("validation", ["split", "next_rollout"])
def test_a_loaded_run_behind_vec_normalize_goes_on_as_well(validation, tmp_path):
    model = tare(VecNormalize(endless()), validation=validation).learn(4 * ITERATION)
    model.save(tmp_path / "model")
    env = model.get_env()
    env.save(tmp_path / "normalize.pkl")
    loaded_env = VecNormalize.load(tmp_path / "normalize.pkl", copy.deepcopy(env.venv))
    loaded_env.returns = env.returns.copy()  # the discounted sums so far, which VecNormalize.load forgets
    assert not continued(model, loaded_env, tmp_path / "model")


def test_a_run_saved_by_a_callback_between_two_rollouts_goes_on_as_well():
    saved = {}

    def save(watch):
        if watch.model.num_timesteps == 4 * ITERATION:
            saved.update(file=io.BytesIO(), env=copy.deepcopy(watch.model.get_env()))
            watch.model.save(saved["file"])

    model = tare(endless()).learn(8 * ITERATION, callback=Watch(rollout_start=save))
    loaded = TAREPPO.load(saved["file"], env=saved["env"], force_reset=False)
    loaded.learn(4 * ITERATION, reset_num_timesteps=False)
    assert not differences(all_of(model), all_of(loaded))


@pytest.mark.parametrize("again", [True, False])
def test_saving_a_loaded_model_changes_neither_it_nor_what_its_file_goes_on_from(again):
    model = tare(endless()).learn(4 * ITERATION)
    env, first, second = copy.deepcopy(model.get_env()), io.BytesIO(), io.BytesIO()
    model.save(first)
    model.learn(4 * ITERATION, reset_num_timesteps=False)
    loaded = TAREPPO.load(first, env=env, force_reset=False)
    loaded.save(second)
    if again:
        loaded = TAREPPO.load(second, env=env, force_reset=False)
    loaded.learn(4 * ITERATION, reset_num_timesteps=False)
    assert not differences(all_of(model), all_of(loaded))


def test_saving_leaves_the_run_and_the_global_generators_alone(tmp_path):
    runs = []
    for save in (lambda model: None, lambda model: model.save(tmp_path / "model")):
        model = tare(endless()).learn(2 * ITERATION)
        save(model)
        runs.append(all_of(model.learn(2 * ITERATION, reset_num_timesteps=False)))
    assert not differences(*runs)


def test_a_loaded_run_that_starts_anew_does_not_take_up_the_old_generators(tmp_path):
    model = tare(endless()).learn(2 * ITERATION)
    model.save(tmp_path / "model")
    runs = []
    for seed in (1, 1, 2):
        loaded = TAREPPO.load(tmp_path / "model", env=endless())
        torch.manual_seed(seed)
        runs.append(all_of(loaded.learn(2 * ITERATION)))
    assert not differences(runs[0], runs[1])
    assert differences(runs[0], runs[2])


def test_episodes_that_were_cut_by_saving_count_on(tmp_path):
    model = tare(vec_env(1, lambda: Toy(horizon=1000))).learn(ITERATION)
    model.save(tmp_path / "model")
    loaded = TAREPPO.load(tmp_path / "model", env=copy.deepcopy(model.get_env()), force_reset=False)
    loaded.learn(ITERATION, reset_num_timesteps=False)
    assert loaded.reward_learner.times == [2 * ITERATION]
    reset = TAREPPO.load(tmp_path / "model", env=vec_env(1, lambda: Toy(horizon=1000)))
    reset.learn(ITERATION, reset_num_timesteps=False)
    assert reset.reward_learner.times == [ITERATION]


def test_a_model_may_be_loaded_with_another_number_of_environments(tmp_path):
    model = tare(vec_env(1), validation="next_rollout").learn(2 * ITERATION)
    model.save(tmp_path / "model")
    loaded = TAREPPO.load(tmp_path / "model", env=vec_env(3))
    loaded.learn(2 * 3 * ITERATION)
    assert len(loaded.reward_learner.times) == 3
    assert not not_finite(all_of(loaded))


def test_without_an_environment_a_loaded_model_predicts(tmp_path):
    model = tare().learn(ITERATION)
    model.save(tmp_path / "model")
    loaded = TAREPPO.load(tmp_path / "model", env=None, device="cpu")
    assert loaded.get_env() is None
    np.testing.assert_array_equal(loaded.predict(ACTS, deterministic=True)[0], model.predict(ACTS, deterministic=True)[0])
    loaded.set_env(vec_env())
    assert not not_finite(all_of(loaded.learn(ITERATION)))


def test_custom_objects_stand_in_for_what_was_saved(tmp_path):
    model = tare(host={"learning_rate": lambda remaining: 1e-3}).learn(ITERATION)
    model.save(tmp_path / "model")
    custom = {"learning_rate": 0.0, "lr_schedule": lambda _: 0.0, "clip_range": lambda _: 0.1}
    loaded = TAREPPO.load(tmp_path / "model", env=vec_env(), custom_objects=custom)
    before = policy_of(loaded)["/policy/action_net.weight"]
    loaded.learn(ITERATION)
    assert torch.equal(before, loaded.policy.action_net.weight)


def step_sizes(parameters):
    return {name: [group["lr"] for group in state["param_groups"]] for name, state in parameters["optimisers"].items()}


@pytest.mark.parametrize("load", ["load", "set_parameters"])
def test_settings_may_change_when_a_model_is_loaded(load, tmp_path):
    model = tare(learning_rate=1e-3).learn(2 * ITERATION)
    model.save(tmp_path / "model")
    changed = {**IMPLICIT, "learning_rate": 1e-4, "critic_learning_rate": 2e-4, "n_reward_updates": 2}
    if load == "load":
        loaded = TAREPPO.load(tmp_path / "model", env=vec_env(), reward_kwargs=changed)
    else:
        loaded = tare(**changed)
        loaded.set_parameters(tmp_path / "model")
    assert loaded.reward_learner.settings.step.learning_rate == 1e-4
    parameters = loaded.get_parameters()["reward_optimisation"]
    assert step_sizes(parameters) == {"reward": [1e-4], "critic": [2e-4]}
    # Momentum is that of the saved run all the same.
    first, second = (
        p["optimisers"]["reward"]["state"][0] for p in (parameters, model.get_parameters()["reward_optimisation"])
    )
    assert torch.equal(first["exp_avg"], second["exp_avg"])
    assert first["step"] == 4
    loaded.learn(ITERATION)
    assert step_sizes(loaded.get_parameters()["reward_optimisation"]) == {"reward": [1e-4], "critic": [2e-4]}


def test_the_step_size_after_loading_is_the_one_before(tmp_path):
    model = tare(learning_rate=3e-2, critic_learning_rate=4e-3)
    model.save(tmp_path / "model")
    loaded = TAREPPO.load(tmp_path / "model")
    expected = {"reward": [3e-2], "critic": [4e-3]}
    assert step_sizes(loaded.get_parameters()["reward_optimisation"]) == expected


def test_a_refused_setting_is_refused_when_loading_too(tmp_path):
    tare().save(tmp_path / "model")
    with pytest.raises(ValueError, match="reward_mode must be one of 'add', 'replace', got 'nothing'"):
        TAREPPO.load(tmp_path / "model", reward_kwargs={"reward_mode": "nothing"})


# RewardLearner on a host of its own


@with_each_setting
def test_a_loaded_learner_goes_on_as_if_it_had_never_stopped(settings, tmp_path):
    model, learner = ppo(endless()), implicit_learner(**settings)
    model.learn(4 * ITERATION, callback=learner)
    model.save(tmp_path / "model")
    learner.save(tmp_path / "learner")
    env, states = copy.deepcopy(model.get_env()), generators()
    model.learn(4 * ITERATION, callback=learner, reset_num_timesteps=False)

    loaded = PPO.load(tmp_path / "model", env=env, force_reset=False)
    loaded_learner = RewardLearner.load(tmp_path / "learner")
    set_generators(states)
    loaded.learn(4 * ITERATION, callback=loaded_learner, reset_num_timesteps=False)
    assert not differences(all_of(model, learner), all_of(loaded, loaded_learner))
    assert loaded_learner.settings == learner.settings


@pytest.mark.parametrize("algorithm", [PPO, A2C])
def test_a_learner_and_its_state_survive_a_file(algorithm, tmp_path):
    kwargs = SMALL if algorithm is PPO else {"n_steps": 64, "policy_kwargs": dict(TINY_NET), "seed": 0}
    model, learner = algorithm("MlpPolicy", endless(), **kwargs), implicit_learner(validation="next_rollout")
    model.learn(4 * ITERATION, callback=learner)
    learner.save(tmp_path / "learner")
    loaded = RewardLearner.load(tmp_path / "learner", device="cpu")
    loaded.attach(algorithm("MlpPolicy", endless(), **{**kwargs, "seed": 1}))
    assert not differences(snapshot(learner.state_dict()), snapshot(loaded.state_dict()))


def test_a_learner_may_be_loaded_with_other_settings(tmp_path):
    model, learner = ppo(), implicit_learner(validation="next_rollout", learning_rate=1e-3)
    model.learn(2 * ITERATION, callback=learner)
    learner.save(tmp_path / "learner")
    loaded = RewardLearner.load(tmp_path / "learner", learning_rate=1e-4)
    assert loaded.settings.schedule.validation == "next_rollout"
    loaded.attach(ppo())
    assert step_sizes(loaded.state_dict())["reward"] == [1e-4]


def test_custom_objects_stand_in_for_a_learners_saved_settings(tmp_path):
    learner = implicit_learner(architecture=LinearReward)
    ppo().learn(ITERATION, callback=learner)
    learner.save(tmp_path / "learner")
    kwargs = {**IMPLICIT, "architecture": LinearReward, "learning_rate": 0.5}
    loaded = RewardLearner.load(tmp_path / "learner", custom_objects={"reward_kwargs": kwargs})
    assert (loaded.settings.network.architecture, loaded.settings.step.learning_rate) == (LinearReward, 0.5)


def test_a_loaded_learner_may_be_saved_again_before_it_has_a_model(tmp_path):
    learner = implicit_learner()
    model = ppo()
    model.learn(ITERATION, callback=learner)
    learner.save(tmp_path / "first")
    try:
        RewardLearner.load(tmp_path / "first").save(tmp_path / "second")
    except RuntimeError as error:
        assert "no model yet" in str(error)  # noqa: PT017 (either is a clear answer)
    else:
        again = RewardLearner.load(tmp_path / "second")
        again.attach(model)
        assert not differences(snapshot(learner.state_dict()), snapshot(again.state_dict()))


# Files


def saver(what):
    """What saves a TAREPPO or a bare learner, how it is read, and what makes it another one."""
    if what == "model":
        model = tare().learn(ITERATION)
        return model.save, lambda path: all_of(TAREPPO.load(path)), lambda: model.learn(ITERATION)
    host, learner = ppo(), implicit_learner()
    host.learn(ITERATION, callback=learner)

    def load(path):
        loaded = RewardLearner.load(path)
        loaded.attach(ppo())
        return snapshot(loaded.state_dict())

    return learner.save, load, lambda: host.learn(ITERATION, learner)


@pytest.mark.parametrize("owned", [True, False])
def test_a_learner_is_found_where_sb3_finds_its_model_whatever_dots_are_in_the_name(owned, tmp_path):
    model, learner = (tare() if owned else ppo()), implicit_learner()
    model.learn(ITERATION, callback=None if owned else learner)
    model.save(tmp_path / "v0.1.zip")
    if not owned:
        learner.save(reward_path(tmp_path / "v0.1"), tmp_path / "v0.1")
    for name in ("v0.1", "v0.1.zip"):
        assert type(model).load(tmp_path / name).num_timesteps == ITERATION
        assert RewardLearner.load(tmp_path / name).settings == (model.reward_learner if owned else learner).settings
    model.save(tmp_path / "v0.1.zip")
    ppo(seed=1).save(tmp_path / "v0.1.zip")
    with pytest.raises(ValueError, match="holds no RewardLearner" if owned else r"saved beside another v0\.1\.zip"):
        RewardLearner.load(tmp_path / "v0.1")


@pytest.mark.parametrize("what", ["model", "learner"])
@pytest.mark.parametrize(
    ("given", "written"),
    [("a", "a.zip"), ("a.zip", "a.zip"), ("a.tare", "a.tare"), ("new/folder/a", "new/folder/a.zip"), ("v1.2", "v1.2")],
)
def test_a_path_has_the_suffix_that_sb3_would_give_it(what, given, written, tmp_path):
    save, load, _ = saver(what)
    for kind in (str, Path):
        save(kind(tmp_path / given))
        assert [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()] == [written]
        load(kind(tmp_path / given))


def test_a_model_may_be_saved_to_memory():
    model, file = tare().learn(ITERATION), io.BytesIO()
    model.save(file)
    file.seek(0)
    assert not differences(all_of(model), all_of(TAREPPO.load(file)))


def test_a_model_may_be_saved_to_an_open_file(tmp_path):
    model = tare().learn(ITERATION)
    with open(tmp_path / "model.zip", "wb") as file:
        model.save(file)
    assert not differences(all_of(model), all_of(TAREPPO.load(tmp_path / "model")))


def test_entries_may_be_excluded(tmp_path):
    model = tare()
    model.save(tmp_path / "model", exclude=["reward_kwargs"])
    data, _, _ = load_from_zip_file(tmp_path / "model")
    assert "reward_kwargs" not in data
    assert "n_steps" in data


@pytest.mark.parametrize("what", ["model", "learner"])
@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), KeyboardInterrupt()], ids=repr)
def test_a_failed_save_leaves_the_old_file_whole_and_no_other_behind(what, error, tmp_path, monkeypatch):
    save, load, go_on = saver(what)
    save(tmp_path / "file")
    before, content = load(tmp_path / "file"), (tmp_path / "file.zip").read_bytes()
    go_on()
    torch_save = torch.save

    def fails_half_way(obj, file, *args, **kwargs):
        serialised = io.BytesIO()
        torch_save(obj, serialised)
        file.write(serialised.getvalue()[: serialised.tell() // 2])
        raise error

    monkeypatch.setattr(torch, "save", fails_half_way)
    with pytest.raises(type(error)):
        save(tmp_path / "file")
    monkeypatch.undo()
    assert [path.name for path in tmp_path.iterdir()] == ["file.zip"]
    assert (tmp_path / "file.zip").read_bytes() == content
    assert not differences(before, load(tmp_path / "file"))
    save(tmp_path / "file")
    assert (tmp_path / "file.zip").read_bytes() != content


def test_a_failed_save_leaves_the_run_as_it_is(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    runs = []
    for fails in (False, True):
        model = tare(endless()).learn(2 * ITERATION)
        if fails:
            monkeypatch.setattr(torch, "save", full)
            with pytest.raises(OSError, match="No space left"):
                model.save(tmp_path / "model")
            monkeypatch.undo()
        runs.append(all_of(model.learn(2 * ITERATION, reset_num_timesteps=False)))
    assert not differences(*runs)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("what", ["model", "learner"])
def test_a_killed_save_leaves_the_old_file_whole(what, tmp_path):
    save, load, go_on = saver(what)
    save(tmp_path / "file")
    content = (tmp_path / "file.zip").read_bytes()
    go_on()
    child = os.fork()
    if child == 0:
        torch.save = lambda obj, file, **_: file.write(b"half of it") and os.kill(os.getpid(), signal.SIGKILL)
        try:
            save(tmp_path / "file")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    assert (tmp_path / "file.zip").read_bytes() == content
    load(tmp_path / "file")


def test_a_saved_file_may_be_read_by_whoever_may_read_others(tmp_path):
    (tmp_path / "other").touch()
    tare().save(tmp_path / "model")
    assert (tmp_path / "model.zip").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_models_that_took_over_anothers_parameters_learn_on_their_own():
    model, fresh = (tare(endless(), validation="next_rollout") for _ in range(2))
    model.learn(2 * ITERATION)
    fresh.set_parameters(model.get_parameters())
    before = all_of(model)
    fresh.learn(4 * ITERATION)
    # The policy's optimiser, which torch shares, is SB3's affair.
    assert not [name for name in differences(before, all_of(model)) if name.startswith(("/policy", "/reward_learner"))]

"""Parameters and files of models as Stable-Baselines3 has them: dictionaries of tensors, optimisers apart, loaded by PPO."""

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from test_formats import labels
from toys import ITERATION, SMALL, Toy, all_of, awr, awr_of, differences, implicit_learner, ppo, tare, tare_awr, vec_env

from sb3_tare import AWR, LIRPG, TAREAWR, TAREPPO, LeanPPO, LearnedReward, RewardLearner

FORMAT_2 = Path(__file__).parent / "data" / "format_2"
EXPECTED = json.loads((FORMAT_2 / "expected.json").read_text())
OBSERVATIONS = np.linspace(-1.0, 1.0, 15, dtype=np.float32).reshape(5, 3)
DECOMPOSITION = {"preset": "decomposition", "decomposition_updates": 2}


def lirpg():
    return LIRPG("MlpPolicy", vec_env(), **SMALL)


MODELS = {
    "TAREPPO": tare,
    "TAREPPO that decomposes returns": lambda: tare(**DECOMPOSITION),
    "TAREPPO that waits": lambda: tare(validation="next_rollout", features="own"),
    "TAREAWR": tare_awr,
    "TAREAWR that decomposes returns": lambda: tare_awr(**DECOMPOSITION),
    "LIRPG": lirpg,
    "AWR": awr,
}
with_each_model = pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)


def acts(model):
    return model.predict(OBSERVATIONS, deterministic=True)[0]


def plain_parameters(model):
    return {name: state for name, state in model.get_parameters().items() if "optim" not in name}


@with_each_model
def test_what_is_under_no_optimisers_name_is_a_dictionary_of_floating_tensors(build):
    for state in plain_parameters(build().learn(2 * ITERATION)).values():
        assert state
        assert all(torch.is_tensor(value) and value.is_floating_point() and value.numel() for value in state.values())


@with_each_model
def test_parameters_may_be_set_at_random_all_but_one(build):
    model = build().learn(2 * ITERATION)
    before = {name: {key: value.clone() for key, value in state.items()} for name, state in plain_parameters(model).items()}
    left_out = {name: list(state)[-1] for name, state in before.items()}
    random = {
        name: {key: torch.rand_like(value) for key, value in state.items() if key != left_out[name]}
        for name, state in before.items()
    }
    model.set_parameters(random, exact_match=False)
    for name, state in plain_parameters(model).items():
        assert all(torch.equal(value, before[name][key]) == (key == left_out[name]) for key, value in state.items())
    if not isinstance(model, AWR):  # whose toys' large steps go astray where statistics of observations are wrong
        model.learn(ITERATION)


@with_each_model
def test_parameters_that_lack_one_are_refused_and_leave_all_as_it_was(build):
    model, other = build().learn(2 * ITERATION), build().learn(ITERATION)
    before, given = everything(model), other.get_parameters()
    for name in given:
        with pytest.raises(ValueError, match="Names of parameters do not match"):
            model.set_parameters({key: state for key, state in given.items() if key != name})
        if "optim" not in name:
            lacking = {**given, name: dict(list(given[name].items())[:-1])}
            with pytest.raises(RuntimeError, match=r"Missing key\(s\)"):
                model.set_parameters(lacking)
    with pytest.raises(ValueError, match="invalid object name"):
        model.set_parameters({**given, "no_such_name": {}}, exact_match=False)
    assert not differences(before, everything(model))


def everything(model):
    return awr_of(model) if isinstance(model, AWR) else all_of(model)


# the algorithm that is extended


@pytest.mark.parametrize(("build", "algorithm"), [(tare, PPO), (tare, LeanPPO), (lirpg, PPO), (tare_awr, AWR)])
def test_the_algorithm_that_is_extended_loads_the_policy_and_learns_on(build, algorithm, tmp_path):
    model = build().learn(2 * ITERATION)
    model.save(tmp_path / "model")
    loaded = algorithm.load(tmp_path / "model", env=vec_env())
    np.testing.assert_array_equal(acts(loaded), acts(model))
    assert set(loaded.get_parameters()) == {name for name in model.get_parameters() if not name.startswith("reward")}
    assert loaded.learn(ITERATION, reset_num_timesteps=False).num_timesteps == 3 * ITERATION


def test_the_algorithm_that_is_extended_takes_parameters_of_a_file_over(tmp_path):
    model, host = tare().learn(2 * ITERATION), ppo(seed=1)
    model.save(tmp_path / "model")
    host.set_parameters(tmp_path / "model")
    np.testing.assert_array_equal(acts(host), acts(model))


def test_a_lean_ppo_and_a_ppo_load_each_others_files(tmp_path):
    for saver, loader in ((LeanPPO, PPO), (PPO, LeanPPO)):
        model = saver("MlpPolicy", vec_env(), **SMALL).learn(ITERATION)
        model.save(tmp_path / "model")
        np.testing.assert_array_equal(acts(loader.load(tmp_path / "model")), acts(model))


def save_as_ppo(path):
    """A PPO that was loaded from a TAREPPO's file."""
    tare().save(path)
    PPO.load(path).save(path)


@pytest.mark.parametrize(
    ("save", "load"),
    [
        (lambda path: ppo().save(path), TAREPPO.load),
        (lambda path: ppo().save(path), LIRPG.load),
        (save_as_ppo, TAREPPO.load),
        (lambda path: awr().save(path), TAREAWR.load),
        (lambda path: ppo().save(path), TAREAWR.load),
    ],
)
def test_a_file_without_a_reward_is_refused_with_what_works(save, load, tmp_path):
    save(tmp_path / "model.zip")
    with pytest.raises(
        ValueError, match=r"model\.zip holds .*load it with the class that saved it, .*exact_match=False"
    ) as error:
        load(tmp_path / "model")
    assert "TAREPPO.from_ppo" in str(error.value)
    assert "\n" not in str(error.value)


def test_what_works_without_a_reward_in_the_file_works(tmp_path):
    source = ppo().learn(ITERATION)
    source.save(tmp_path / "model")
    model = tare(host={"seed": 1})
    model.set_parameters(tmp_path / "model", exact_match=False)
    np.testing.assert_array_equal(acts(model), acts(source))


# files of format 2, where a model's reward was one entry that Stable-Baselines3 took for a parameter of its own


@pytest.mark.parametrize(("algorithm", "name"), [(TAREPPO, "tare_ppo"), (TAREAWR, "tare_awr")])
def test_a_model_of_format_2_has_the_reward_that_it_had_and_learns_on(algorithm, name, tmp_path):
    model = algorithm.load(FORMAT_2 / f"{name}.zip", env=vec_env(2))
    assert labels(LearnedReward.of(model)) == pytest.approx(EXPECTED[name]["rewards"], rel=1e-5)
    taken_over = algorithm.load(FORMAT_2 / f"{name}.zip", env=vec_env(2))
    for parameter in taken_over.reward_model.parameters():
        torch.nn.init.zeros_(parameter)
    taken_over.set_parameters(FORMAT_2 / f"{name}.zip")
    assert not differences(everything(model), everything(taken_over))
    model.learn(ITERATION)
    model.save(tmp_path / "model")
    assert not differences(everything(model), everything(algorithm.load(tmp_path / "model")))


@pytest.mark.parametrize("name", ["reward_learner", "tare_ppo"])
def test_a_reward_learner_of_format_2_has_the_reward_that_it_had(name):
    learner = RewardLearner.load(FORMAT_2 / f"{name}.zip")
    learner.attach(ppo(vec_env(2), policy_kwargs={"net_arch": [4]}))
    assert labels(LearnedReward.of(learner)) == pytest.approx(EXPECTED[name]["rewards"], rel=1e-5)
    if name == "reward_learner":
        assert learner.trainer._waiting.reward.episodes.n_steps == EXPECTED[name]["waiting_steps"]
        assert learner.times == EXPECTED[name]["times"]


def test_a_reward_learner_is_loaded_from_todays_models_and_from_its_own_files(tmp_path):
    model = tare(validation="next_rollout").learn(2 * ITERATION)
    model.save(tmp_path / "model")
    learner = implicit_learner(validation="next_rollout")
    ppo().learn(2 * ITERATION, callback=learner)
    learner.save(tmp_path / "learner")
    for path, expected in (("model", model.reward_learner), ("learner", learner)):
        loaded = RewardLearner.load(tmp_path / path)
        loaded.attach(ppo())
        assert not differences(all_of(ppo(), expected), all_of(ppo(), loaded))


# what the tests of Stable-Baselines3 do besides


@pytest.mark.parametrize("n_envs", [1, 3])
def test_a_model_that_decomposes_returns_is_loaded_with_another_number_of_environments(n_envs, tmp_path):
    tare(vec_env(2, lambda: Toy(horizon=90)), **DECOMPOSITION).learn(2 * ITERATION).save(tmp_path / "model")
    loaded = TAREPPO.load(tmp_path / "model", env=vec_env(n_envs, lambda: Toy(horizon=90)))
    loaded.learn(8 * ITERATION)
    assert len(loaded.reward_learner.trainer.decomposer.memory) > 0


def test_a_model_may_be_saved_to_and_loaded_from_an_open_file():
    model, file = tare().learn(ITERATION), io.BytesIO()
    model.save(file)
    assert not differences(all_of(model), all_of(TAREPPO.load(file)))
    with zipfile.ZipFile(file) as archive:
        assert archive.testzip() is None


class Terse(type(vec_env())):
    """Gives no infos while no episode ends, as some batched simulators do."""

    def step_wait(self):
        observations, rewards, dones, infos = super().step_wait()
        return observations, rewards, dones, infos if dones.any() else []


@pytest.mark.parametrize("build", [tare, lambda env: tare(env, **DECOMPOSITION)])
def test_environments_may_give_no_infos_while_no_episode_ends(build):
    kinds = (type(vec_env()), Terse)
    models = [build(kind([lambda: Toy(horizon=20)] * 2)).learn(4 * ITERATION) for kind in kinds]
    assert not differences(*map(all_of, models))

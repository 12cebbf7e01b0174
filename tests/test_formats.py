"""Saved files tell their format: today's carry a number, those without one are read, and others are refused in a sentence."""

import ast
import io
import json
import pickle
import re
import zipfile
from base64 import b64encode
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.save_util import load_from_zip_file
from toys import ITERATION, SMALL, Toy, all_of, awr, differences, implicit_learner, ppo, tare, tare_awr, vec_env

import sb3_tare
from sb3_tare import AWR, LIRPG, TAREAWR, TAREPPO, LearnedReward, RewardLearner, RewardSettings
from sb3_tare.analysis.loading import load_model
from sb3_tare.experiments.running import results
from sb3_tare.experiments.studies import jobs_of
from sb3_tare.networks.state_action import StateAction
from sb3_tare.utils.formats import FORMATS, KEY, stamp
from sb3_tare.utils.sums import SUMS

UNNUMBERED = Path(__file__).parent / "data" / "unnumbered"
EXPECTED = json.loads((UNNUMBERED / "expected.json").read_text())
STUDY = Path(__file__).parents[1] / "examples/results/figure6"


def labels(reward: LearnedReward) -> list[float]:
    """What a reward says about two episodes, as ``expected.json`` has it."""
    rng = np.random.default_rng(0)
    observations = rng.normal(size=(6, 3)).astype(np.float32)
    actions = rng.uniform(-1, 1, size=(6, 2)).astype(np.float32)
    return list(reward.relabel(observations, actions, rng.normal(size=6), [4, 2]))


WITHOUT_CONSISTENCY = {
    "preset": "implicit",
    "architecture": "StateAction",
    "architecture_kwargs": {"hidden_size": 8},
    "validation": "next_rollout",
    "curvature": "hessian",
    "reward_every": 0,
}


def load_unnumbered(algorithm, name: str, open_it=lambda path: path, **kwargs):
    """The model in a file; that of ``tare_ppo.zip`` was saved with return consistency, and goes on without."""
    custom_objects = {"reward_kwargs": WITHOUT_CONSISTENCY} if name == "tare_ppo" else None
    return algorithm.load(open_it(UNNUMBERED / f"{name}.zip"), custom_objects=custom_objects, **kwargs)


def reward_of(owner, name: str) -> LearnedReward:
    """The reward in a file; ``tare_ppo.zip`` was learned with statistics that only the exported reward kept."""
    exported = LearnedReward.load(UNNUMBERED / "learned_reward_state_action.zip")
    return LearnedReward.of(owner, exported.vec_normalize if name == "tare_ppo" else None)


def learner_on(model_class, name: str) -> RewardLearner:
    """The learner in a file, on the host that it was saved with."""
    learner = load_unnumbered(RewardLearner, name)
    learner.attach(model_class("MlpPolicy", vec_env(1), **SMALL))
    return learner


def memory(path: Path):
    model = awr(vec_env(2), buffer_size=128)
    model.load_replay_buffer(path)
    return model.replay_buffer


# files without a number


@pytest.mark.parametrize(("algorithm", "name"), [(TAREPPO, "tare_ppo"), (TAREAWR, "tare_awr"), (LIRPG, "lirpg")])
@pytest.mark.filterwarnings("ignore:a rollout has only 32 steps")
def test_a_model_without_a_number_has_the_reward_that_it_had(algorithm, name):
    model = load_unnumbered(algorithm, name)
    assert labels(reward_of(model, name)) == pytest.approx(EXPECTED[name]["rewards"], rel=1e-5)
    taken_over = load_unnumbered(algorithm, name)
    for parameter in taken_over.reward_learner.trainer.reward_model.parameters():
        torch.nn.init.zeros_(parameter)
    taken_over.set_parameters(UNNUMBERED / f"{name}.zip")
    assert labels(reward_of(taken_over, name)) == pytest.approx(EXPECTED[name]["rewards"], rel=1e-5)


def test_a_model_without_a_number_has_the_rollouts_and_times_that_it_had():
    model = load_unnumbered(TAREPPO, "tare_ppo")
    trainer = model.reward_learner.trainer
    assert model.reward_learner.times == EXPECTED["tare_ppo"]["times"]
    assert trainer._waiting.reward.episodes.n_steps == EXPECTED["tare_ppo"]["waiting_steps"]
    of_awr = TAREAWR.load(UNNUMBERED / "tare_awr.zip").reward_learner.trainer
    assert of_awr._waiting.reward.episodes.n_steps == EXPECTED["tare_awr"]["waiting_steps"]


@pytest.mark.parametrize(
    "open_it", [lambda path: path, lambda path: path.with_suffix(""), lambda p: io.BytesIO(p.read_bytes())]
)
def test_a_model_without_a_number_learns_on_and_is_saved_with_one(open_it, tmp_path):
    model = load_unnumbered(TAREPPO, "tare_ppo", open_it, env=vec_env(2))
    model.learn(2 * ITERATION)
    model.save(tmp_path / "model")
    assert told(tmp_path / "model.zip") == stamp("model")
    TAREPPO.load(tmp_path / "model")


@pytest.mark.parametrize(("name", "algorithm"), [("lirpg", LIRPG), ("tare_awr", TAREAWR)])
def test_a_model_without_a_number_is_found_by_the_name_of_its_algorithm(name, algorithm):
    assert type(load_model(UNNUMBERED / f"{name}.zip")) is algorithm


@pytest.mark.parametrize("name", ["reward_learner", "tare_ppo"])
def test_a_reward_learner_without_a_number_goes_on(name):
    learner = learner_on(PPO, name)
    assert labels(reward_of(learner, name)) == pytest.approx(EXPECTED[name]["rewards"], rel=1e-5)
    assert RewardLearner.load(UNNUMBERED / "reward_learner.zip")._loaded.times == EXPECTED["reward_learner"]["times"]


@pytest.mark.parametrize("name", ["learned_reward", "learned_reward_state_action"])
def test_an_exported_reward_without_a_number_says_what_it_said(name):
    assert labels(LearnedReward.load(UNNUMBERED / f"{name}.zip")) == pytest.approx(EXPECTED[name]["rewards"], rel=1e-5)


def test_a_replay_memory_without_a_number_is_read():
    expected, found = EXPECTED["awr_memory"], memory(UNNUMBERED / "awr_memory.pkl")
    assert (found.size(), found.n_new) == (expected["size"], expected["n_new"])
    assert float(found.rewards.sum()) == pytest.approx(expected["rewards_sum"])
    assert found.times.tolist() == expected["times"]


def test_results_without_a_number_are_read():
    content = json.loads((UNNUMBERED / "result.json").read_text())
    assert KEY not in content
    del content["sha256"]
    assert results.read(UNNUMBERED / "result.json") == content
    whole, damaged = results.read_all(STUDY)
    assert len(whole) == len(list(STUDY.glob("*.json"))) > 0
    assert not damaged


def test_a_network_that_was_pickled_where_it_was_is_found_where_it_is(tmp_path):
    pickled = pickle.dumps({"architecture": StateAction}, protocol=0)
    old = pickled.replace(b"sb3_tare.networks.state_action", b"sb3_tare.networks")
    assert old != pickled
    with pytest.raises(AttributeError):
        pickle.loads(old)
    kwargs = {":type:": "<class 'dict'>", ":serialized:": b64encode(old).decode()}
    edited(UNNUMBERED / "reward_learner.zip", tmp_path / "learner.zip", reward_kwargs=kwargs)
    assert RewardLearner.load(tmp_path / "learner").settings.network.architecture is StateAction


# files of format 1, where the implicit gradient was what no preset meant


def in_format(number: int, path: Path, reward_kwargs: dict[str, object]) -> Path:
    """The file as it was written when its settings were these."""
    kind = told(path)["kind"]
    edited(path, path, reward_kwargs=reward_kwargs, **{KEY: {"kind": kind, "format": number, "version": "0.1.0"}})
    return path


as_format_1 = partial(in_format, 1)


@pytest.mark.parametrize("settings", [{}, {"preset": None, "validation": "next_rollout"}, {"preset": "paper"}], ids=str)
def test_a_model_goes_on_with_the_settings_that_it_was_saved_with(settings, tmp_path):
    meant = {**settings, "preset": settings.get("preset") or "implicit", "curvature": "fisher", "reward_every": 0}
    model = tare(**meant).learn(ITERATION)
    model.save(tmp_path / "model.zip")
    path = as_format_1(tmp_path / "model.zip", {**settings, "return_consistency": 0.0, "consistency_window": 200})
    for loaded in (TAREPPO.load(path, env=vec_env()), load_model(path)):
        assert loaded.reward_learner.settings == model.reward_learner.settings
        assert not differences(all_of(model), all_of(loaded))
    assert RewardLearner.load(path).settings == model.reward_learner.settings
    assert TAREPPO.load(path, reward_kwargs={**meant, "damping": 1.0}).reward_learner.settings.gradient.damping == 1.0


def test_a_model_that_decomposes_returns_goes_on_with_it(tmp_path):
    settings = {"preset": "decomposition", "decomposition_updates": 1}
    tare(**settings).save(tmp_path / "model.zip")
    loaded = TAREPPO.load(as_format_1(tmp_path / "model.zip", settings))
    assert loaded.reward_learner.settings == RewardSettings(**settings, curvature="fisher", reward_every=0, trust_slope=0.0)


def test_a_baseline_without_presets_is_given_none(tmp_path):
    LIRPG("MlpPolicy", vec_env(), **SMALL).save(tmp_path / "model.zip")
    path = as_format_1(tmp_path / "model.zip", {"consistency_updates": 3})
    assert LIRPG.load(path).reward_kwargs == {}


def test_a_reward_learner_goes_on_with_the_settings_that_it_was_saved_with(tmp_path):
    save_learner(tmp_path / "learner.zip")
    flat = RewardLearner.load(tmp_path / "learner.zip").settings.flat()
    path = as_format_1(tmp_path / "learner.zip", {**flat, "preset": None, "return_consistency": 0.0})
    assert RewardLearner.load(path).settings == RewardSettings(preset="implicit", reward_every=0)


# files of format 3, when no guard was the default


@pytest.mark.parametrize("settings", [{}, {"guard_correlation": 0.0}, {"return_decomposition": True}], ids=str)
def test_a_reward_that_was_trusted_at_once_still_is(settings, tmp_path):
    meant = {"preset": "decomposition", "decomposition_updates": 1}
    tare(**meant).save(tmp_path / "model.zip")
    path = in_format(3, tmp_path / "model.zip", {**meant, **settings})
    for loaded in (TAREPPO.load(path).reward_learner, RewardLearner.load(path)):
        assert loaded.settings == RewardSettings(**meant, trust_slope=0.0)


def test_one_by_the_implicit_gradient_has_nothing_to_do_with_guards(tmp_path):
    tare(preset="implicit").save(tmp_path / "model.zip")
    settings = {**RewardSettings(preset="implicit").flat(), "guard_correlation": 0.0}
    del settings["trust_slope"]
    loaded = RewardLearner.load(in_format(3, tmp_path / "model.zip", settings))
    assert loaded.settings == RewardSettings(preset="implicit")


def test_a_guard_that_compared_totals_is_refused_with_the_settings_to_go_on_without(tmp_path):
    settings = {"preset": "decomposition"}
    tare(**settings).save(tmp_path / "model.zip")
    path = in_format(3, tmp_path / "model.zip", {**settings, "guard_correlation": 0.3})
    with pytest.raises(ValueError, match=r"guard_correlation=0.3, in whose place there is trust_slope") as error:
        TAREPPO.load(path)
    (printed,) = re.findall(r"custom_objects=(\{.*\}) to go on without", str(error.value))
    assert (
        TAREPPO.load(path, custom_objects=ast.literal_eval(printed)).reward_learner.settings.decomposition.trust_slope == 0.0
    )


@pytest.mark.parametrize("load", [TAREPPO.load, RewardLearner.load, load_model])
def test_return_consistency_is_refused_with_the_settings_to_go_on_without(load):
    with pytest.raises(ValueError, match=r"return_consistency=1.0, which does not exist any more") as error:
        load(UNNUMBERED / "tare_ppo.zip")
    (printed,) = re.findall(r"custom_objects=\{'reward_kwargs': (\{.*\})\} to go on without", str(error.value))
    assert ast.literal_eval(printed) == WITHOUT_CONSISTENCY


# today's files


def save_model(path):
    tare().save(path)


def save_awr(path):
    awr().save(path)


def save_learner(path):
    model, learner = ppo(), implicit_learner()
    learner.attach(model)
    learner.save(path)


def save_reward(path):
    LearnedReward.of(tare()).save(path)


def save_memory(path):
    awr(vec_env(2), buffer_size=128).save_replay_buffer(path)


(JOB,) = jobs_of("figure6", 1, ["ppo"], ["Pendulum-v1"], 256, {}, evaluations=1, evaluation_episodes=1)


def save_result(path):
    results.write(path.parent, JOB, {"settings": JOB.settings, "versions": {"sb3-tare": sb3_tare.__version__}})
    (path.parent / JOB.filename).rename(path)


KINDS = {
    "model": (save_model, TAREPPO.load, "model", "file.zip"),
    "model's parameters": (save_model, lambda path: tare().set_parameters(path), "model", "file.zip"),
    "model, found": (save_model, load_model, "model", "file.zip"),
    "model's learner": (save_model, RewardLearner.load, "model", "file.zip"),
    "AWR's model": (save_awr, AWR.load, "model", "file.zip"),
    "learner": (save_learner, RewardLearner.load, "RewardLearner", "file.zip"),
    "reward": (save_reward, LearnedReward.load, "LearnedReward", "file.zip"),
    "memory": (save_memory, memory, "replay memory", "file.pkl"),
    "result": (save_result, results.read, "result", "file.json"),
}
with_each_kind = pytest.mark.parametrize(("save", "load", "kind", "name"), KINDS.values(), ids=KINDS)


def told(path: Path):
    """What a file says about itself."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return json.loads(archive.read("data")).get(KEY)
    if path.suffix == ".json":
        return json.loads(path.read_text()).get(KEY)
    with path.open("rb") as file:
        return pickle.load(file)[KEY]


def edited(path: Path, to: Path, **entries) -> None:
    """A copy with other entries; None takes one out."""

    def changed(content):
        return {key: value for key, value in {**content, **entries}.items() if value is not None}

    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            contents = {name: archive.read(name) for name in archive.namelist() if name != SUMS}
        contents["data"] = json.dumps(changed(json.loads(contents["data"])))
        with zipfile.ZipFile(to, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    elif path.suffix == ".json":
        content = changed(json.loads(path.read_text()))
        del content["sha256"]
        to.write_text(json.dumps(results._signed(content)))
    else:
        with path.open("rb") as file:
            before, rest = pickle.load(file), file.read()
        to.write_bytes(pickle.dumps(changed(before)) + rest)


@with_each_kind
def test_todays_files_carry_format_and_version_and_are_read(save, load, kind, name, tmp_path):
    save(tmp_path / name)
    assert told(tmp_path / name) == {"kind": kind, "format": FORMATS[kind], "version": sb3_tare.__version__}
    load(tmp_path / name)


@with_each_kind
def test_a_newer_format_is_refused_with_the_version_that_reads_it(save, load, kind, name, tmp_path):
    save(tmp_path / name)
    edited(tmp_path / name, tmp_path / name, **{KEY: {"kind": kind, "format": 7, "version": "3.2.1"}})
    sentence = (
        f"{tmp_path / name} is a {kind} in format 7, written by sb3_tare 3.2.1, and sb3_tare {sb3_tare.__version__} reads "
        f"formats up to {FORMATS[kind]} and files without a number: install that version or a newer one"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}$"):
        load(tmp_path / name)


@with_each_kind
@pytest.mark.parametrize("number", [0, -1, "two", 1.0, True, None])
def test_a_format_that_never_was_is_refused(save, load, kind, name, number, tmp_path):
    save(tmp_path / name)
    edited(tmp_path / name, tmp_path / name, **{KEY: {**stamp(kind), "format": number}})
    sentence = (
        f"{tmp_path / name} is a {kind} in format {number!r}, written by .*reads formats up to {FORMATS[kind]} .*save it again"
    )
    with pytest.raises(ValueError, match=sentence):
        load(tmp_path / name)


@pytest.mark.parametrize("found", ["one", [1], {}, {"kind": "policy", "format": 0}, {"kind": ["model"], "format": 1}])
def test_what_tells_no_format_at_all_is_refused_as_well(found, tmp_path):
    save_model(tmp_path / "file.zip")
    edited(tmp_path / "file.zip", tmp_path / "file.zip", **{KEY: found})
    with pytest.raises(ValueError, match=r"file\.zip is a .* in format .*, and sb3_tare .* reads no such files: "):
        TAREPPO.load(tmp_path / "file")


def test_a_newer_file_is_refused_before_anything_in_it_is_unpickled(tmp_path):
    save_model(tmp_path / "file.zip")
    broken = {":type:": "", ":serialized:": b64encode(b"csb3_tare.of_tomorrow\nThing\n.").decode()}
    newer = {KEY: {"kind": "model", "format": FORMATS["model"] + 1, "version": "0.2.0"}}
    edited(tmp_path / "file.zip", tmp_path / "file.zip", policy_class=broken, **newer)
    with pytest.raises(ModuleNotFoundError):
        load_from_zip_file(tmp_path / "file.zip")
    with pytest.raises(ValueError, match=f"in format {FORMATS['model'] + 1}"):
        TAREPPO.load(tmp_path / "file")
    with (tmp_path / "memory.pkl").open("wb") as file:
        pickle.dump({KEY: {"kind": "replay memory", "format": 2, "version": "0.2.0"}}, file)
        file.write(b"csb3_tare.of_tomorrow\nThing\n.")
    with pytest.raises(ValueError, match=r"memory.pkl is a replay memory in format 2"):
        memory(tmp_path / "memory.pkl")


def test_a_study_stops_at_a_newer_result_and_leaves_it_as_it_is(tmp_path):
    save_result(tmp_path / "file.json")
    newer = {KEY: {"kind": "result", "format": 2, "version": "0.2.0"}}
    edited(tmp_path / "file.json", tmp_path / JOB.filename, **newer)
    with pytest.raises(ValueError, match=f"{JOB.filename} is a result in format 2"):
        results.read_all(tmp_path)


# files of something else


@pytest.mark.parametrize(
    ("save", "load", "sentence"),
    [
        (
            lambda path: ppo().save(path),
            TAREPPO.load,
            "no model: it carries no format number, .* 4; load it with the class",
        ),
        (
            lambda path: ppo().save(path),
            RewardLearner.load,
            "no RewardLearner: it carries no format number, .* 4; give",
        ),
        (save_awr, RewardLearner.load, "no RewardLearner: it is a model in format 4, .* in format 4; give"),
        (save_reward, RewardLearner.load, "no RewardLearner: it is a LearnedReward in format 1, .* in format 4; give"),
        (save_learner, TAREPPO.load, "no model: it is a RewardLearner in format 4, .* format 4; load"),
        (
            save_learner,
            LearnedReward.load,
            "no LearnedReward: it is a RewardLearner in format 4, .* 1; LearnedReward.of",
        ),
    ],
)
def test_a_file_that_holds_something_else_is_refused_with_both_formats(save, load, sentence, tmp_path):
    save(tmp_path / "file.zip")
    with pytest.raises(ValueError, match=rf"^{re.escape(str(tmp_path / 'file.zip'))} holds {sentence}"):
        load(tmp_path / "file")


def test_a_pickle_of_something_else_is_refused(tmp_path):
    (tmp_path / "file.pkl").write_bytes(pickle.dumps({"observations": []}))
    with pytest.raises(ValueError, match=r"file.pkl holds no replay memory: it carries no format number, .* 1; give"):
        memory(tmp_path / "file.pkl")


@pytest.mark.parametrize("load", [TAREPPO.load, LearnedReward.load, RewardLearner.load])
def test_what_is_no_zip_file_is_named(load, tmp_path):
    (tmp_path / "file.zip").write_text("nothing")
    with pytest.raises(ValueError, match=r"file.zip wasn't a zip-file"):
        load(tmp_path / "file")


def test_a_model_that_was_saved_without_its_generators_is_still_one(tmp_path):
    tare().save(tmp_path / "model", exclude=["_continuation"])
    assert TAREPPO.load(tmp_path / "model").saved_as == stamp("model")


def test_a_policy_of_sb3_may_still_be_taken_over(tmp_path):
    source, model = ppo(), tare(host={"seed": 1})
    source.save(tmp_path / "ppo")
    model.set_parameters(tmp_path / "ppo", exact_match=False)
    for ours, theirs in zip(model.policy.parameters(), source.policy.parameters(), strict=True):
        assert torch.equal(ours, theirs)


# memories


@pytest.mark.parametrize("given", ["memory", "memory.pkl", "new/folder/memory"])
def test_a_memorys_path_has_the_suffix_that_sb3_would_give_it(given, tmp_path):
    model = tare_awr(vec_env(2)).learn(ITERATION)
    for kind in (str, Path):
        model.save_replay_buffer(kind(tmp_path / given))
        (found,) = (path for path in tmp_path.rglob("*") if path.is_file())
        assert found == (tmp_path / given).with_suffix(".pkl")
        model.load_replay_buffer(kind(tmp_path / given))


def test_a_memory_may_be_saved_to_an_open_file():
    model, file = awr(vec_env(2, Toy)).learn(ITERATION), io.BytesIO()
    model.save_replay_buffer(file)
    file.seek(0)
    rewards = model.replay_buffer.rewards.copy()
    model.load_replay_buffer(file)
    np.testing.assert_array_equal(model.replay_buffer.rewards, rewards)

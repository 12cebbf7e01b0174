"""A damaged file is told in one sentence that names it, or loads as what was saved; the live model stays as it was."""

import os
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mutations import OF_PICKLES, OF_ZIPS, outcome
from test_malicious_files import saved_learner, saved_reward
from toys import (
    ITERATION,
    SMALL,
    all_of,
    awr,
    awr_of,
    differences,
    flat,
    implicit_learner,
    policy_of,
    ppo,
    tare,
    tare_awr,
    vec_env,
)

from sb3_tare import AWR, LIRPG, TAREAWR, TAREPPO, LearnedReward, RewardLearner
from sb3_tare.utils.sums import SUMS, Summed

N_FILES = int(os.environ.get("SB3_TARE_DAMAGED_FILES", "40"))
"""Damaged files for each loader: SB3_TARE_DAMAGED_FILES=1000 pytest tests/test_damaged_files.py"""
OTHER = {"policy_kwargs": {"net_arch": [8]}, "seed": 1}

pytestmark = pytest.mark.filterwarnings("ignore:Path|You are probably")


def lirpg(env: Any, **host: Any) -> LIRPG:
    return LIRPG("MlpPolicy", env, **{**SMALL, **host})


def bytes_of(value: Any) -> dict[str, Any]:
    """A state that Python compares to the last bit, NaN included."""
    return {name: leaf.numpy().tobytes() if hasattr(leaf, "numpy") else repr(leaf) for name, leaf in flat(value)}


def memory_of(model: AWR) -> dict[str, Any]:
    return {name: getattr(value, "tobytes", value.__repr__)() for name, value in flat(vars(model.replay_buffer))}


class Loader(NamedTuple):
    """One that reads files.

    :param make: a model, given arguments that differ, which learns an iteration before it is saved
    :param save: it
    :param load: what identifies the content of a file
    :param kinds: of damage
    :param live: what identifies a model that it changes
    """

    make: Callable[..., Any]
    save: Callable[[Any, Path], Any]
    load: Callable[[Path], Any]
    kinds: list[Callable[..., bytes]] = OF_ZIPS
    live: Callable[[], Any] = dict


def of_models(make: Callable[..., Any], load: Callable[[Path], Any], state: Callable[[Any], Any]) -> Loader:
    return Loader(make, lambda model, path: model.save(path), lambda path: bytes_of(state(load(path))))


def parameters() -> Loader:
    live = tare(vec_env(2))

    def load(path: Path) -> Any:
        live.set_parameters(path)
        return bytes_of(all_of(live))

    make = lambda **host: tare(vec_env(2), host=host)  # noqa: E731
    return Loader(make, lambda model, path: model.save(path), load, live=lambda: bytes_of(all_of(live)))


def memories() -> Loader:
    live = awr(vec_env(2))

    def load(path: Path) -> Any:
        live.load_replay_buffer(path)
        return memory_of(live)

    save = AWR.save_replay_buffer
    return Loader(lambda **host: awr(vec_env(2), **host), save, load, OF_PICKLES, lambda: memory_of(live))


def with_learner(**host: Any) -> Any:
    return ppo(vec_env(2), **host)


def save_learner(model: Any, path: Path) -> None:
    learner = implicit_learner()
    model.learn(2 * ITERATION, callback=learner)
    learner.save(path)


def reward_in(path: Path) -> Any:
    reward = LearnedReward.load(path)
    return bytes_of({"network": reward.network.state_dict(), "extractor": reward.extractor.state_dict(), "unit": reward.unit})


LOADERS: dict[str, Callable[[], Loader]] = {
    "TAREPPO.load": lambda: of_models(lambda **host: tare(vec_env(2), host=host), TAREPPO.load, all_of),
    "TAREAWR.load": lambda: of_models(lambda **host: tare_awr(vec_env(2), host=host), TAREAWR.load, awr_of),
    "LIRPG.load": lambda: of_models(lambda **host: lirpg(vec_env(2), **host), LIRPG.load, all_of),
    "AWR.load": lambda: of_models(lambda **host: awr(vec_env(2), **host), AWR.load, awr_of),
    "set_parameters": parameters,
    "load_replay_buffer": memories,
    "RewardLearner.load": lambda: Loader(
        with_learner, save_learner, lambda path: bytes_of(RewardLearner.load(path)._loaded.state)
    ),
    "LearnedReward.load": lambda: Loader(
        lambda **host: tare(vec_env(2), host=host), lambda model, path: LearnedReward.of(model).save(path), reward_in
    ),
}


@pytest.mark.parametrize("name", LOADERS)
def test_a_damaged_file_is_told_in_one_sentence_or_holds_what_was_saved(name, tmp_path):
    loader = LOADERS[name]()
    suffix = "pkl" if loader.kinds is OF_PICKLES else "zip"
    contents, path = [], tmp_path / f"file.{suffix}"
    for host in ({}, OTHER):
        loader.save(loader.make(**host).learn(2 * ITERATION), path)
        contents.append(path.read_bytes())
    path.write_bytes(contents[0])
    whole, rng, unclear = loader.load(path), random.Random(0), []
    for number in range(N_FILES):
        kind = loader.kinds[number % len(loader.kinds)]
        path.write_bytes(kind(*contents, rng))
        before = loader.live()
        told = outcome(lambda: loader.load(path), path, whole)
        if loader.live() not in (before, whole):
            told = f"the model was changed; {told}"
        unclear += [f"{kind.__name__}: {told}"] if told else []
    assert not unclear, f"{len(unclear)} of {N_FILES}"


def without(path: Path, name: str, other: str | None, to: Path) -> None:
    """A copy without an entry, or with that of another name in its place, from before there were checksums of entries."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(to, "w") as target:
        for each in archive.namelist():
            if each not in (name, SUMS):
                target.writestr(each, archive.read(each))
            elif each == name and other is not None:
                target.writestr(each, archive.read(other))


OF_ENTRIES = {"learner": (saved_learner, RewardLearner.load), "reward": (saved_reward, LearnedReward.load)}


@pytest.mark.parametrize(("save", "load"), OF_ENTRIES.values(), ids=OF_ENTRIES)
def test_entries_of_older_files_that_are_missing_or_another_are_named(save, load, tmp_path):
    whole, path = save(tmp_path / "whole.zip"), tmp_path / "file.zip"
    used = ["data", "reward_learner.pth" if load == RewardLearner.load else "network.pth"]
    for name in used:
        for other in (None, *({*used, "system_info.txt"} - {name})):
            without(whole, name, other, path)
            with pytest.raises(ValueError, match=str(path)):
                load(path)


def test_parameters_of_older_files_that_cannot_be_taken_over_leave_the_model_as_it_was(tmp_path):
    model, other, path = tare(), tare(host={"seed": 1}), tmp_path / "file.zip"
    other.save(tmp_path / "whole.zip")
    before, parts = policy_of(model), ("policy.pth", "policy.optimizer.pth", "reward_model.pt", "reward_optimisation.pt")
    for name in parts:
        for instead in {*parts} - {name} | {None}:
            without(tmp_path / "whole.zip", name, instead, path)
            with pytest.raises(ValueError, match=rf"^the parameters in {path} cannot be taken over \(\w+: .*\)$"):
                model.set_parameters(path)
            assert not differences(policy_of(model), before)


def test_an_entry_that_is_missing_or_anothers_is_named(tmp_path):
    for seed in (0, 1):
        tare(host={"seed": seed}).save(tmp_path / f"{seed}.zip")
    with zipfile.ZipFile(tmp_path / "0.zip") as first, zipfile.ZipFile(tmp_path / "1.zip") as second:
        for entry, words in (("policy.pth", "is not the one that was saved with the others"), (None, "is missing")):
            with zipfile.ZipFile(tmp_path / "file.zip", "w") as target:
                for name in first.namelist():
                    if name != "policy.pth" or entry is not None:
                        target.writestr(name, (second if name == entry else first).read(name))
            with pytest.raises(ValueError, match=rf"file\.zip is damaged: its entry 'policy\.pth' {words}"):
                TAREPPO.load(tmp_path / "file.zip")


def test_a_memory_from_before_there_were_checksums_is_read(tmp_path, monkeypatch):
    model, other = awr().learn(64), awr()
    monkeypatch.setattr("sb3_tare.utils.numbered.SUMMED", "unknown")
    model.save_replay_buffer(tmp_path / "memory")
    monkeypatch.undo()
    other.load_replay_buffer(tmp_path / "memory")
    assert memory_of(other) == memory_of(model)


def test_a_stream_sums_up_what_passes_through_it_alone(tmp_path):
    (tmp_path / "file").write_bytes(b"first\nsecond")
    with (tmp_path / "file").open("rb") as file:
        summed = Summed(file)
        assert (summed.readline(), summed.read(3)) == (b"first\n", b"sec")
        assert file.read() == b"ond"
    with (tmp_path / "copy").open("wb") as file:
        written = Summed(file)
        written.write(memoryview(b"first\nsec"))
    assert written.checksum == summed.checksum

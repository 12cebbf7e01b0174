"""A damaged file is told in one sentence that names it, and the live model stays as it was."""

import random
import zipfile
from pathlib import Path

import pytest
import torch
from test_malicious_files import saved_learner, saved_reward
from toys import tare

from sb3_tare import LearnedReward, RewardLearner


def damaged(content: bytes, rng: random.Random) -> bytes:
    """The file, cut short or with a byte changed."""
    if rng.random() < 0.4:
        return content[: rng.randrange(len(content))]
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]


def without(path: Path, name: str, other: str | None, to: Path) -> None:
    """A copy without an entry, or with that of another name in its place."""
    with zipfile.ZipFile(path) as archive, zipfile.ZipFile(to, "w") as target:
        for each in archive.namelist():
            if each != name:
                target.writestr(each, archive.read(each))
            elif other is not None:
                target.writestr(each, archive.read(other))


LOADERS = {"learner": (saved_learner, RewardLearner.load), "reward": (saved_reward, LearnedReward.load)}
with_each_loader = pytest.mark.parametrize(("save", "load"), LOADERS.values(), ids=LOADERS)


@with_each_loader
def test_a_file_that_was_cut_short_or_changed_is_named_or_says_the_same(save, load, tmp_path):
    content, rng = save(tmp_path / "whole.zip").read_bytes(), random.Random(0)
    path, n_refused = tmp_path / "file.zip", 0
    for _ in range(200):
        path.write_bytes(damaged(content, rng))
        try:
            load(path)
        except ValueError as error:
            assert str(path) in str(error)  # noqa: PT017 (a change that says the same is right too)
            assert "\n" not in str(error)  # noqa: PT017
            n_refused += 1
    assert n_refused > 150


@with_each_loader
def test_entries_that_are_missing_or_another_are_named(save, load, tmp_path):
    whole, path = save(tmp_path / "whole.zip"), tmp_path / "file.zip"
    used = ["data", "reward_learner.pth" if load == RewardLearner.load else "network.pth"]
    for name in used:
        for other in (None, *({*used, "system_info.txt"} - {name})):
            without(whole, name, other, path)
            with pytest.raises(ValueError, match=str(path)):
                load(path)


def test_parameters_that_cannot_be_taken_over_leave_the_model_as_it_was(tmp_path):
    model, other, path = tare(), tare(host={"seed": 1}), tmp_path / "file.zip"
    other.save(tmp_path / "whole.zip")
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    entries = ("policy.pth", "policy.optimizer.pth", "reward_model.pt", "reward_optimisation.pt")
    for name in entries:
        for instead in ({*entries} - {name}) | {None}:
            without(tmp_path / "whole.zip", name, instead, path)
            with pytest.raises((ValueError, RuntimeError, KeyError, TypeError)):
                model.set_parameters(path)
            assert all(torch.equal(value, before[key]) for key, value in model.policy.state_dict().items())

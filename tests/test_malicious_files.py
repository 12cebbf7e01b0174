"""Loading a reward, a reward learner or a memory runs nothing that the file brings along."""

import io
import json
import os
import pickle
import re
import zipfile
from base64 import b64encode
from pathlib import Path

import cloudpickle
import numpy as np
import pytest
import torch
from torch import nn
from toys import LinearReward, Toy, awr, implicit_learner, ppo, tare, vec_env

from sb3_tare import TAREPPO, LearnedReward, RewardLearner
from sb3_tare.analysis.loading import load_model
from sb3_tare.awr.memory import PathMemory
from sb3_tare.utils.known import KNOWN, KnownUnpickler
from sb3_tare.utils.sums import SUMS


class Runs:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def saved_learner(path: Path, **settings) -> Path:
    learner = implicit_learner(**settings)
    learner.attach(ppo())
    learner.save(path)
    return path


def saved_reward(path: Path) -> Path:
    LearnedReward.of(tare()).save(path)
    return path


def saved_memory(path: Path) -> Path:
    awr(vec_env(2), buffer_size=128).save_replay_buffer(path)
    return path


def load_memory(path: Path):
    model = awr(vec_env(2), buffer_size=128)
    model.load_replay_buffer(path)
    return model.replay_buffer


def with_entries(path: Path, **changes) -> None:
    """Replace entries of the archive, which forgets its checksums.

    Names hold two underscores for a dot, and ``data`` is changed key by key.
    """
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist() if name != SUMS}
    data = changes.pop("data", {})
    parts["data"] = json.dumps({**json.loads(parts["data"]), **data}).encode()
    parts |= {name.replace("__", "."): content for name, content in changes.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, content)


def serialised(value) -> dict[str, str]:
    return {":type:": "", ":serialized:": b64encode(cloudpickle.dumps(value)).decode()}


def torch_pickle(value) -> bytes:
    file = io.BytesIO()
    torch.save(value, file)
    return file.getvalue()


ZIPS = {
    "learner": (saved_learner, RewardLearner.load, "reward_kwargs", "reward_learner.pth"),
    "reward": (saved_reward, LearnedReward.load, "extractor", "network.pth"),
}
with_each_zip = pytest.mark.parametrize(("save", "load", "key", "part"), ZIPS.values(), ids=ZIPS)


@with_each_zip
def test_a_pickled_entry_runs_nothing(save, load, key, part, tmp_path):
    path = save(tmp_path / "file.zip")
    with_entries(path, data={key: serialised({"a": Runs(tmp_path / "ran")})})
    with pytest.raises(ValueError, match=rf"file\.zip names posix\.mkdir in '{key}', and classes that are not known") as error:
        load(path)
    assert "=..." in str(error.value), "the sentence names what the caller can give"
    assert not (tmp_path / "ran").exists()


@with_each_zip
def test_a_pickle_among_the_tensors_runs_nothing(save, load, key, part, tmp_path):
    path = save(tmp_path / "file.zip")
    with_entries(path, **{part.replace(".", "__"): torch_pickle({"a": Runs(tmp_path / "ran")})})
    with pytest.raises(ValueError, match=rf"file\.zip is damaged: its entry '{part}' cannot be read"):
        load(path)
    assert not (tmp_path / "ran").exists()


@with_each_zip
def test_a_pickle_where_it_is_not_looked_for_runs_nothing(save, load, key, part, tmp_path):
    path = save(tmp_path / "file.zip")
    with_entries(path, data={"unknown": serialised(Runs(tmp_path / "ran"))}, other__pth=torch_pickle(Runs(tmp_path / "ran")))
    load(path)
    assert not (tmp_path / "ran").exists()


@with_each_zip
@pytest.mark.parametrize("name", ["../evil", "/tmp/../evil", "a/../../evil"])
def test_nothing_is_written_where_an_entry_is_named_after_another_place(save, load, key, part, name, tmp_path):
    (tmp_path / "in").mkdir()
    path = save(tmp_path / "in" / "file.zip")
    with_entries(path, **{name: b"evil"})
    before = set(tmp_path.rglob("*"))
    load(path)
    assert set(tmp_path.rglob("*")) == before


@with_each_zip
def test_a_zip_bomb_is_refused_before_it_is_unpacked(save, load, key, part, tmp_path):
    path = save(tmp_path / "file.zip")
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb.pth", bytes(50_000_000))
    with pytest.raises(ValueError, match=r"file.zip is damaged: its entry 'bomb.pth' would become 50000000 bytes out of"):
        load(path)


@with_each_zip
def test_a_link_among_the_entries_is_not_followed(save, load, key, part, tmp_path):
    (tmp_path / "secret").write_text("secret")
    path = save(tmp_path / "file.zip")
    link = zipfile.ZipInfo("link")
    link.external_attr = 0o120777 << 16
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, str(tmp_path / "secret"))
    load(path)
    assert {each.name for each in tmp_path.iterdir()} == {"secret", "file.zip"}


def test_weights_of_other_shapes_and_types_are_refused(tmp_path):
    path = saved_reward(tmp_path / "file.zip")
    weights = LearnedReward.load(path).network.state_dict()
    name = next(iter(weights))
    for other in (torch.zeros(3, 5, 7), torch.zeros(1).expand(10**12), "text", None):
        with_entries(path, network__pth=torch_pickle({**weights, name: other}))
        with pytest.raises(ValueError, match=r"file\.zip is damaged: "):
            LearnedReward.load(path)


class Huge:
    def __reduce__(self):
        return np._core.multiarray._reconstruct, (np.ndarray, (2**62,), b"b")


def test_an_array_of_a_huge_declared_size_is_refused(tmp_path):
    path = saved_reward(tmp_path / "file.zip")
    with_entries(path, data={"observation_space": serialised(Huge())})
    with pytest.raises(ValueError, match=r"file\.zip is damaged: its entry 'observation_space' cannot be read"):
        LearnedReward.load(path)


@pytest.mark.parametrize("before", [b"", pickle.dumps({"saved_as": {"kind": "replay memory", "format": 1, "version": "1"}})])
def test_a_memory_runs_nothing(before, tmp_path):
    path = tmp_path / "file.pkl"
    path.write_bytes(before + pickle.dumps(Runs(tmp_path / "ran")))
    with pytest.raises(ValueError, match=r"file\.pkl names posix\.mkdir, and classes that are not known"):
        load_memory(path)
    assert not (tmp_path / "ran").exists()


def test_a_models_algorithm_and_parameters_are_read_without_its_pickles(tmp_path):
    model = tare()
    model.save(tmp_path / "file.zip")
    with_entries(tmp_path / "file.zip", data={"lr_schedule": serialised(Runs(tmp_path / "ran")), "algorithm_class": "PPPO"})
    with pytest.raises(ValueError, match="no algorithm 'PPPO'"):
        load_model(tmp_path / "file.zip")
    model.set_parameters(tmp_path / "file.zip")
    RewardLearner.load(tmp_path / "file.zip")
    assert not (tmp_path / "ran").exists()


def test_what_is_known_is_there_and_nothing_that_is_known_finds_other_names():
    file = io.BytesIO(b"N.")
    for module, names in KNOWN.items():
        for name in names:
            found = KnownUnpickler(file).find_class(module, name)
            assert callable(found) or isinstance(found, torch.dtype)
    for module, name in [("builtins", "eval"), ("builtins", "getattr"), ("torch", "load"), ("torch", "device.__class__")]:
        unpickler = KnownUnpickler(file)
        assert unpickler.find_class(module, name) not in (eval, getattr, torch.load, type)
        assert unpickler.unread == [f"{module}.{name}"]


# classes of one's own


def test_a_network_of_ones_own_is_given_by_the_caller(tmp_path):
    learner = saved_learner(tmp_path / "learner.zip", architecture=LinearReward)
    with pytest.raises(ValueError, match=re.escape("toys.LinearReward in 'reward_kwargs'") + ".*architecture=..."):
        RewardLearner.load(learner)
    assert RewardLearner.load(learner, architecture=LinearReward).settings.network.architecture is LinearReward
    LearnedReward.of(tare(architecture=LinearReward)).save(tmp_path / "reward.zip")
    with pytest.raises(ValueError, match=r"toys.LinearReward in 'architecture'.*network=\.\.\."):
        LearnedReward.load(tmp_path / "reward.zip")
    assert type(LearnedReward.load(tmp_path / "reward.zip", network=LinearReward).network) is LinearReward
    assert tare(architecture=LinearReward, initial_reward=str(tmp_path / "reward.zip"))


def test_a_network_whose_code_is_in_the_file_is_given_by_the_caller_too(tmp_path):
    class Local(LinearReward):
        """Pickled with its code, as what is defined in a notebook is."""

    path = saved_learner(tmp_path / "learner.zip", architecture=Local)
    with pytest.raises(ValueError, match=r"names cloudpickle.* architecture=\.\.\."):
        RewardLearner.load(path)
    assert RewardLearner.load(path, architecture=Local).settings.network.architecture is Local


def test_an_extractor_of_ones_own_is_given_by_the_caller_as_a_class_or_as_one_like_it(tmp_path):
    class Scaled(nn.Module):
        def __init__(self):
            super().__init__()
            self.features_dim, self.scale = 3, nn.Parameter(torch.ones(1))

        def forward(self, observations):
            return observations * self.scale

    extractor = Scaled()
    extractor.scale.data.fill_(2.0)
    reward = LearnedReward.of(tare(vec_env(2, Toy), architecture="StateAction"))
    object.__setattr__(reward, "extractor", extractor)
    reward.save(tmp_path / "reward.zip")
    with pytest.raises(ValueError, match=r"in 'extractor'.*extractor=\.\.\."):
        LearnedReward.load(tmp_path / "reward.zip")
    loaded = LearnedReward.load(tmp_path / "reward.zip", extractor=Scaled())
    assert loaded.extractor.scale.item() == 2.0


class OwnMemory(PathMemory):
    pass


def test_a_memory_of_ones_own_class_is_that_of_the_model(tmp_path):
    model = awr(vec_env(2), buffer_size=128)
    model.replay_buffer = OwnMemory(128, model.observation_space, model.action_space, "cpu", 2)
    model.save_replay_buffer(tmp_path / "memory")
    model.load_replay_buffer(tmp_path / "memory")
    assert type(model.replay_buffer) is OwnMemory
    with pytest.raises(ValueError, match=r"test_malicious_files\.OwnMemory, and classes .* replay_buffer is of that class"):
        load_memory(tmp_path / "memory.pkl")


def test_models_are_still_models_of_sb3(tmp_path):
    model = tare(architecture=LinearReward)
    model.save(tmp_path / "model")
    assert TAREPPO.load(tmp_path / "model").reward_learner.settings.network.architecture is LinearReward

"""Saved files are whole or not there, and what a kill leaves beside one is removed by the next save to its path."""

import errno
import os
import signal
from pathlib import Path

import pytest
from toys import awr, implicit_learner, ppo, tare, tare_awr, vec_env

from sb3_tare import LIRPG, LearnedReward
from sb3_tare.utils.files import write_atomically, write_json, write_text

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def save_learner(path):
    learner = implicit_learner()
    learner.attach(ppo())
    learner.save(path)


SAVERS = {
    "TAREPPO": lambda path: tare().save(path),
    "TAREAWR": lambda path: tare_awr().save(path),
    "AWR": lambda path: awr().save(path),
    "LIRPG": lambda path: LIRPG("MlpPolicy", vec_env(), n_steps=32, batch_size=32).save(path),
    "learner": save_learner,
    "reward": lambda path: LearnedReward.of(tare()).save(path),
    "memory": lambda path: awr().save_replay_buffer(path),
    "memory of TAREAWR": lambda path: tare_awr().save_replay_buffer(path),
    "text": lambda path: write_text(path, "text"),
    "json": lambda path: write_json(path, {"a": [1]}),
}
with_each_saver = pytest.mark.parametrize("save", SAVERS.values(), ids=SAVERS)
pytestmark = pytest.mark.filterwarnings("ignore:a rollout has only 32 steps")


@needs_fork
@with_each_saver
def test_a_killed_save_leaves_the_old_file_and_the_next_one_removes_its_rest(save, tmp_path):
    path = tmp_path / "file.any"
    path.write_bytes(b"old")
    for _ in range(3):
        child = os.fork()
        if child == 0:
            os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
            try:
                save(path)
            finally:
                os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        assert path.read_bytes() == b"old"
        assert len(list(tmp_path.iterdir())) == 2, "what the kill left, and nothing of the kill before"
    save(path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() != b"old"


@with_each_saver
def test_a_full_disk_leaves_the_old_file_and_nothing_beside_it(save, tmp_path, monkeypatch):
    path = tmp_path / "file.any"
    path.write_bytes(b"old")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left on device"):
        save(path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


@needs_fork
def test_only_what_was_left_for_the_same_path_is_removed(tmp_path):
    others = [
        ".a.zip.0123456.tmp",
        ".a.zip.0123abcd.tmp.zip",
        "a.zip.0123abcd.tmp",
        ".b.zip.0123abcd.tmp",
        ".aXzip.0123abcd.tmp",
    ]
    for name in (*others, ".a.zip.0123abcd.tmp"):
        (tmp_path / name).touch()
    write_text(tmp_path / "a.zip", "new")
    assert {path.name for path in tmp_path.iterdir()} == {*others, "a.zip"}


@needs_fork
def test_what_is_still_being_written_is_left_alone(tmp_path):
    def write(file):
        file.write(b"first")
        child = os.fork()
        if child == 0:
            try:
                write_text(tmp_path / "file", "second")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert (tmp_path / "file").read_bytes() == b"second"

    write_atomically(tmp_path / "file", write)
    assert (tmp_path / "file").read_bytes() == b"first"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_temporary_that_another_process_took_for_abandoned_is_made_anew(tmp_path, monkeypatch):
    from sb3_tare.utils import files

    taken = []

    def flock(file, _):
        if not taken:
            taken.append(Path(file.name))
            taken[0].unlink()

    monkeypatch.setattr(files.fcntl, "flock", flock)
    write_text(tmp_path / "file", "new")
    assert taken
    assert (tmp_path / "file").read_text() == "new"


def no_locks(*_):
    raise OSError(errno.ENOLCK, "No locks available")


@needs_fork
@pytest.mark.parametrize(("name", "replacement"), [("fcntl", None), ("fcntl.flock", no_locks)])
def test_without_locks_a_file_is_still_whole(name, replacement, tmp_path, monkeypatch):
    monkeypatch.setattr(f"sb3_tare.utils.files.{name}", replacement)
    for text in ("first", "second"):
        write_text(tmp_path / "file", text)
        assert (tmp_path / "file").read_text() == text
    assert len(list(tmp_path.iterdir())) == 1


def test_pictures_are_written_whole_in_the_format_of_their_suffix(tmp_path):
    drawing = pytest.importorskip("sb3_tare.analysis.drawing")
    from matplotlib.figure import Figure

    for suffix, start in ((".png", b"\x89PNG"), (".svg", b"<?xml")):
        drawing.write_figure(tmp_path / f"a{suffix}", Figure())
        assert (tmp_path / f"a{suffix}").read_bytes().startswith(start)

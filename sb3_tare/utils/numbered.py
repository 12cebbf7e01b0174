"""Saved files, read once their format number is known to be one that can be read."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.save_util import open_path

from sb3_tare.utils.damage import DamagedFile, check_archive, damaged
from sb3_tare.utils.files import found_zip, with_suffix, write_atomically, zip_path
from sb3_tare.utils.formats import KEY, check_stamp, holds_no, stamp
from sb3_tare.utils.known import KnownUnpickler
from sb3_tare.utils.sums import Summed, check_sums
from sb3_tare.utils.unnumbered import MOVED_ALGORITHMS, from_unnumbered_zip

File = str | Path | io.BufferedIOBase
"""Path or open file, as SB3 saves to and loads from"""

SUMMED = "is_summed"
"""Key by which a replay memory's file tells that its checksum follows it; older files have none."""


def check_zip(
    archive: zipfile.ZipFile, name: str, part: str | None = None, kind: str = "model", remedy: str = ""
) -> dict[str, Any]:
    """Check that an archive is whole and holds what is looked for; arguments are those of :func:`readable_zip`.

    :param name: of the file
    :return: attributes that SB3 writes beside parameters, by name: plain data, and descriptions of what is pickled, not
        unpickled. Under :data:`~sb3_tare.utils.formats.KEY` they tell kind, format and version, if the file has a number.
    :raises ValueError: if it is damaged, in a newer or unknown format, or lacks that part
    """
    check_archive(archive, name)
    names, data = archive.namelist(), _data(archive, name)
    found = data.get(KEY)
    if found is not None:
        check_stamp(name, found)
    is_kind = found is not None and found["kind"] == kind
    if part is not None and not (is_kind or part in names or part in data):
        raise holds_no(name, found, kind, remedy)
    check_sums(archive, name)
    return data


def readable_zip(path: File, part: str | None = None, kind: str = "model", remedy: str = "") -> File:
    """A file that SB3's functions for zip files can read: ``path`` itself, or a copy in format 1 if it has no number.

    The number is read before anything is unpickled.

    :param path: of a zip file, with or without suffix, or the open file
    :param part: entry of the archive or of its data by which to know a file without number, or of another kind that holds
        one of ``kind``; None: any zip file of SB3 will do
    :param kind: of :data:`~sb3_tare.utils.formats.FORMATS`
    :param remedy: what would work where that part is missing
    :raises ValueError: if it is no zip file, is in a newer or unknown format, or lacks that part
    """
    with open_zip(path) as (archive, name):
        has_number = KEY in check_zip(archive, name, part, kind, remedy)
        return path if has_number else from_unnumbered_zip(archive)


def holds_entry(path: str | Path, entry: str) -> bool:
    """Whether ``path``, with or without suffix, is a zip file that has ``entry``."""
    path = found_zip(path)
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return entry in archive.namelist()


def algorithm_in(path: File) -> str | None:
    """The algorithm that a model's file names, as ``module:Class``; None if it does not tell.

    :raises ValueError: if it is no zip file, or is in a newer or unknown format
    """
    named = written_in(path).get("algorithm_class")
    return MOVED_ALGORITHMS.get(named, named) if isinstance(named, str) else None


def written_in(path: File) -> dict[str, Any]:
    """Attributes that SB3 writes beside parameters, as :func:`check_zip` returns them.

    :raises ValueError: if it is no zip file, or is in a newer or unknown format
    """
    with open_zip(path) as (archive, name):
        return check_zip(archive, name)


def write_memory(path: File, memory: Any) -> None:
    """Pickle a replay memory between what tells its format and its checksum; a file is written whole or not at all.

    :param path: of a file, which gets the suffix ``.pkl`` where it has none, or the open file
    """

    def write(file: Any) -> None:
        pickle.dump({KEY: stamp("replay memory"), SUMMED: True}, file)
        summed = Summed(file)
        pickle.dump(memory, summed, protocol=pickle.HIGHEST_PROTOCOL)
        pickle.dump(summed.checksum, file)

    if isinstance(path, (str, Path)):
        write_atomically(with_suffix(path, ".pkl"), write)
    else:
        write(path)


def read_memory(path: File, memory_class: type) -> Any:
    """Read what :func:`write_memory` wrote, or the pickled memory of a file without number; nothing in it is run.

    :param memory_class: the model's, which may be the user's own
    :raises ValueError: if it is damaged, in a newer or unknown format, or holds no replay memory
    """
    file: Any = open_path(path, "r", suffix="pkl")
    try:
        found = _unpickled(file, memory_class, _name(file))  # the memory, or what stands before it
        if isinstance(found, dict) and KEY in found:
            check_stamp(_name(file), found[KEY])
            found = _summed(file, memory_class) if SUMMED in found else _unpickled(file, memory_class, _name(file))
        if not isinstance(found, ReplayBuffer):
            raise holds_no(_name(file), None, "replay memory", "give a file that save_replay_buffer of AWR or TAREAWR wrote")
        return found
    finally:
        if file is not path:
            file.close()


def _summed(file: Any, memory_class: type) -> Any:
    """A memory, once its checksum is found to be right."""
    summed = Summed(file)
    found = _unpickled(summed, memory_class, _name(file))
    with damaged(_name(file), "its checksum"):
        checksum = KnownUnpickler(file).load()
    if checksum != summed.checksum:
        raise DamagedFile(f"{_name(file)} is damaged: the checksum of the memory is wrong")
    return found


def _unpickled(file: Any, memory_class: type, name: str) -> Any:
    unpickler = KnownUnpickler(file, [memory_class])
    with damaged(name, "the memory"):
        found = unpickler.load()
    if unpickler.unread:
        raise ValueError(
            f"{name} names {unpickler.unread[0]}, and classes that are not known are not taken from a file, which "
            "could run anything: load it into a model whose replay_buffer is of that class"
        )
    return found


@contextmanager
def open_zip(path: File) -> Iterator[tuple[zipfile.ZipFile, str]]:
    """The zip file, open, and its name for errors.

    :raises DamagedFile: if its table of contents cannot be read
    :raises FileNotFoundError: if there is none
    """
    if isinstance(path, (str, Path)) and not any(Path(name).exists() for name in (path, f"{path}.zip")):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(zip_path(path)))
    file: Any = open_path(path, "r", suffix="zip")
    try:
        if not zipfile.is_zipfile(file):
            raise DamagedFile(f"{_name(file)} wasn't a zip-file: it is damaged, or something else")
        with damaged(_name(file), "its table of contents"):
            archive = zipfile.ZipFile(file)
        with archive:
            yield archive, _name(file)
    finally:
        if file is not path:
            file.close()


def _data(archive: zipfile.ZipFile, name: str) -> dict[str, Any]:
    """Entry that SB3 writes beside parameters, not unpickled."""
    if "data" not in archive.namelist():
        return {}
    with damaged(name, "its entry 'data'"):
        data = json.loads(archive.read("data"))
        if not isinstance(data, dict):
            raise TypeError(f"it is a {type(data).__name__}, not a dictionary")
    return data


def named(path: File) -> str:
    """The name of a zip file, given with or without suffix, for errors."""
    if not isinstance(path, (str, Path)):
        return _name(path)
    return str(found_zip(path))


def _name(file: Any) -> str:
    return str(getattr(file, "name", "the file"))

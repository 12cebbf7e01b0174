"""Seeded damage to saved files, and what a loader makes of each."""

from __future__ import annotations

import io
import json
import pickle
import random
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sb3_tare.utils.formats import KEY

STAMPS = [None, "a", 1, {}, {"kind": "model"}, {"kind": "nothing", "format": 1}, {"kind": "model", "format": 0}]
STAMPS += [{"kind": "LearnedReward", "format": 99, "version": "9.9.9"}, {"kind": "model", "format": "1"}, [1, 2]]
"""What files of other versions, or of none, could tell of themselves."""


def _unzipped(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(parts: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, part in parts.items():
            archive.writestr(name, part)
    return file.getvalue()


def cut(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """The file's beginning."""
    return content[: rng.randrange(len(content))]


def flipped(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """A bit in each of a few bytes changed."""
    changed = bytearray(content)
    for _ in range(rng.choice([1, 1, 1, 8])):
        changed[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def zeroed(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """A block that never reached the disk."""
    place, size = rng.randrange(len(content)), rng.choice([16, 512, 4096])
    return content[:place] + bytes(len(content[place : place + size])) + content[place + size :]


def lacking(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """An entry gone."""
    parts = _unzipped(content)
    del parts[rng.choice(sorted(parts))]
    return _zipped(parts)


def swapped(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """The content of one entry in another's place."""
    parts = _unzipped(content)
    first, second = rng.sample(sorted(parts), 2)
    parts[first], parts[second] = parts[second], parts[first] if rng.random() < 0.5 else parts[second]
    return _zipped(parts)


def mixed(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """An entry of another model's file."""
    parts, others = _unzipped(content), _unzipped(other)
    name = rng.choice(sorted(name for name in {*parts} & {*others} if parts[name] != others[name]))
    return _zipped({**parts, name: others[name]})


def forgetful(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """One of the attributes gone, or another's in its place."""
    parts = _unzipped(content)
    data = json.loads(parts["data"])
    first, second = rng.sample(sorted(data), 2)
    if rng.random() < 0.5:
        del data[first]
    else:
        data[first] = data[second]
    return _zipped({**parts, "data": json.dumps(data).encode()})


def of_a_version(content: bytes, other: bytes, rng: random.Random) -> bytes:
    """Written by another version, or by none."""
    stamp = rng.choice(STAMPS)
    if not zipfile.is_zipfile(io.BytesIO(content)):
        _, rest = _first_pickle(content)
        return pickle.dumps({KEY: stamp}) + rest
    parts = _unzipped(content)
    return _zipped({**parts, "data": json.dumps({**json.loads(parts["data"]), KEY: stamp}).encode()})


def _first_pickle(content: bytes) -> tuple[Any, bytes]:
    file = io.BytesIO(content)
    return pickle.load(file), file.read()


OF_ZIPS = [cut, flipped, zeroed, lacking, swapped, mixed, forgetful, of_a_version]
OF_PICKLES = [cut, flipped, zeroed, of_a_version]


def outcome(load: Callable[[], Any], path: Path, whole: Any) -> str:
    """What became of a damaged file: empty if it was told in one sentence, or if what was loaded is what was saved.

    :param load: returns what identifies the content
    :param whole: what it returns of the undamaged file
    """
    try:
        loaded = load()
    except ValueError as error:
        told = str(error)
        return f"{told[:200]!r} is not one sentence that names the file" if str(path) not in told or "\n" in told else ""
    except Exception as error:
        return f"{type(error).__name__}: {str(error)[:200]!r}"
    return "" if loaded == whole else "something else was loaded, without a word"

"""Result files: one JSON a job, whole or not there, with a checksum of itself."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from sb3_tare.experiments.running.jobs import Job, filename_of
from sb3_tare.utils.files import write_text
from sb3_tare.utils.formats import KEY, check_stamp, stamp
from sb3_tare.utils.unnumbered import from_unnumbered_result

Result = dict[str, Any]
"""Plain data, the ``result`` that :func:`sb3_tare.experiments.running.training.train` returns and how it was ``made``."""


class DamagedResult(ValueError):
    """A file that does not hold what was written.

    :param path: of the file
    :param why: what is wrong with it
    """

    def __init__(self, path: Path, why: object) -> None:
        super().__init__(f"{path} is damaged: {why}")
        self.path = path


def write(folder: Path, job: Job, result: Result) -> None:
    """Write a job's result; equal results give equal bytes.

    :raises ValueError: if it holds a number that is not finite
    """
    signed = _signed({KEY: stamp("result"), **result})
    lines = [f"{json.dumps(key)}: {json.dumps(value, allow_nan=False)}" for key, value in signed.items()]
    text = "{\n" + ",\n".join(lines) + "\n}\n"  # a line for each key: short files, and their differences can be read
    write_text(folder / job.filename, text)


def read(path: Path) -> Result:
    """Read a job's result.

    :raises DamagedResult: if the file is not what :func:`write` wrote
    :raises ValueError: if it is in a newer or unknown format
    """
    try:
        content = json.loads(path.read_bytes())
    except ValueError as error:
        raise DamagedResult(path, error) from error
    is_numbered = isinstance(content, dict) and KEY in content
    if is_numbered:
        check_stamp(str(path), content[KEY])
    if not isinstance(content, dict) or _signed({key: content[key] for key in content if key != "sha256"}) != content:
        raise DamagedResult(path, "its checksum is not that of its contents")
    if is_numbered:
        return {key: value for key, value in content.items() if key not in (KEY, "sha256")}
    return from_unnumbered_result(content)


def read_all(folder: Path) -> tuple[dict[str, Result], list[DamagedResult]]:
    """Whole results by their file's name, and what is wrong with the others.

    :raises ValueError: if one is in a newer or unknown format: it may be whole, and is not to be made again; or if one has
        another name than its run's: a copy would count as a further seed
    """
    results: dict[str, Result] = {}
    damaged = []
    for path in sorted(folder.glob("*.json")):
        try:
            results[path.name] = read(path)
        except DamagedResult as error:
            damaged.append(error)
    for name, result in results.items():
        if name != (its_own := filename_of(result["settings"])):
            raise ValueError(f"{folder / name} holds the result of {its_own}: rename it, or remove it if it is a copy")
    return results, damaged


def missing(jobs: list[Job], results: dict[str, Result], versions: dict[str, str]) -> list[Job]:
    """The jobs that have no result yet.

    :param versions: those that a missing job would run with
    :raises ValueError: if some result is of another study than these jobs: of other settings, or of other versions while
        jobs are missing
    """
    names = [job.filename for job in jobs]
    if len(set(names)) < len(names):
        raise ValueError(f"several runs have {max(names, key=names.count)} as the file of their result; use a folder for each")
    for name, result in results.items():
        _check_settings(name, result["settings"], jobs)
    todo = [job for job in jobs if job.filename not in results]
    for name, result in results.items():
        if todo and result["versions"] != versions:
            raise ValueError(f"{name} has other versions: {_differences(result['versions'], versions)}. Use another folder")
    return todo


def _check_settings(name: str, settings: dict[str, Any], jobs: list[Job]) -> None:
    """All runs of a folder share the study's protocol, all of a name the variant, and a file belongs to one job."""
    itself = [job for job in jobs if job.filename == name]
    same_name = [job for job in jobs if job.name == settings["name"]]
    free = set() if itself else {"env", "seed"} if same_name else {"env", "seed", "name", "variant"}
    expected = (itself or same_name or jobs)[0].settings
    theirs, ours = ({key: value for key, value in each.items() if key not in free} for each in (settings, expected))
    if theirs != ours:
        raise ValueError(f"{name} has other settings: {_differences(theirs, ours)}. Use another folder")


def _differences(theirs: dict[str, Any], ours: dict[str, Any]) -> str:
    keys = [key for key in {**theirs, **ours} if theirs.get(key) != ours.get(key)]
    return ", ".join(f"{key} {json.dumps(theirs.get(key))}, not {json.dumps(ours.get(key))}" for key in keys)


def _signed(result: Result) -> Result:
    canonical = json.dumps(result, sort_keys=True)
    return {**result, "sha256": hashlib.sha256(canonical.encode()).hexdigest()}

"""Files that are whole or not there."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, BinaryIO

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def write_atomically(path: str | Path, write: Callable[[Any], None]) -> None:
    """Let ``write`` fill a temporary binary file beside ``path`` and put it in place once it is on the disk.

    A kill or a full disk leaves the file that was there before, whole. What a kill leaves beside it is removed by the next
    call for the same ``path``, but for what another process is still writing, or may be where a disk has no locks. Parent
    folders are made.
    """
    path = Path(path).resolve()  # a link goes on pointing where it did
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    temporary, file = _open_temporary(path)
    try:
        with file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
            if fcntl is None:
                file.close()  # Windows moves no file that is open
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def check_folder(name: str, folder: Path) -> None:
    """Check that files can be written to a folder, which is made.

    :param name: of the argument, for the error
    :raises ValueError: if they cannot
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ValueError(f"{name} must be a folder that can be written to, got {folder}: {error}") from error


def _open_temporary(path: Path) -> tuple[Path, BinaryIO]:
    """A new file beside ``path``, locked for as long as it is open."""
    while True:
        temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
        file = temporary.open("xb+")
        if not _lock(file) or os.fstat(file.fileno()).st_nlink > 0:
            return temporary, file
        file.close()  # another process took it for abandoned before it was locked


def _remove_abandoned(path: Path) -> None:
    """Remove temporary files for ``path`` whose writers are gone: nobody holds their locks."""
    ours = re.compile(rf"\.{re.escape(path.name)}\.[0-9a-f]{{8}}\.tmp")
    for name in filter(ours.fullmatch, os.listdir(path.parent)):
        temporary = path.with_name(name)
        try:
            with temporary.open("rb") as file:
                if _lock(file, wait=False):
                    temporary.unlink()
        except (BlockingIOError, FileNotFoundError):  # being written, or put in place meanwhile
            continue


def _lock(file: BinaryIO, wait: bool = True) -> bool:
    """Lock a file until it is closed, where there are locks: Windows and some shared disks have none.

    :return: whether there are
    :raises BlockingIOError: if another process has locked it, and this one is not to wait
    """
    if fcntl is None:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP):
            return False
        raise
    return True


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write bytes, whole or not at all."""
    write_atomically(path, lambda file: file.write(content))


def write_text(path: str | Path, text: str) -> None:
    """Write text as UTF-8, whole or not at all."""
    write_bytes(path, text.encode())


def write_json(path: str | Path, data: Any) -> None:
    """Write plain data as indented JSON, whole or not at all."""
    write_text(path, json.dumps(data, indent=2) + "\n")


def zip_path(path: str | Path) -> Path:
    """``path`` with the suffix that SB3 gives a model's file where it has none."""
    return with_suffix(path, ".zip")


def found_zip(path: str | Path) -> Path:
    """The file that SB3 reads for ``path``: itself, or with ``.zip`` behind it. If there is neither, what SB3 would write."""
    return next((file for file in (Path(path), Path(f"{path}.zip")) if file.is_file()), zip_path(path))


def reward_path(model: str | Path) -> Path:
    """The file of the learned reward that goes with a model's file: ``best_model.reward.zip`` with ``best_model.zip``."""
    model = found_zip(model)
    return model.with_name(f"{model.name.removesuffix('.zip')}.reward.zip")


def with_suffix(path: str | Path, suffix: str) -> Path:
    """``path``, with ``suffix`` where it has none."""
    path = Path(path)
    return path if path.suffix else path.with_name(f"{path.name}{suffix}")

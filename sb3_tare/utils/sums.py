"""Checksums by which a saved file knows its own content.

A zip file sums up each entry, and does not notice one that is missing or another file's; a pickle sums up nothing.
"""

from __future__ import annotations

import io
import json
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sb3_tare.utils.damage import DamagedFile, damaged
from sb3_tare.utils.files import found_zip, write_atomically, zip_path

SUMS = "checksums.json"
"""Entry of a zip file with the checksum of each other; files of Stable-Baselines3, and older ones, have none."""


def write_zip(path: str | Path | io.BufferedIOBase, write: Callable[[Any], None]) -> None:
    """Let ``write`` fill a zip file, and add the checksums of its entries; a file is written whole or not at all.

    :param path: of a file, which gets the suffix ``.zip`` where it has none, or the open file
    :param write: given a file that is open for reading and writing
    """

    def write_all(file: Any) -> None:
        write(file)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(SUMS, json.dumps({entry.filename: entry.CRC for entry in archive.infolist()}))

    if isinstance(path, (str, Path)):
        write_atomically(zip_path(path), write_all)
    else:  # which may be open for writing alone
        whole = io.BytesIO()
        write_all(whole)
        path.write(whole.getvalue())


def check_sums(archive: zipfile.ZipFile, name: str) -> None:
    """Check that the entries of an archive are those that were saved together, where it tells.

    :param archive: whose entries have been read, so that each is what its own checksum says
    :param name: of the file
    :raises DamagedFile: if one is missing, or another
    """
    found = {entry.filename: entry.CRC for entry in archive.infolist()}
    if SUMS not in found:
        return
    with damaged(name, f"its entry {SUMS!r}"):
        saved = dict(json.loads(archive.read(SUMS)))
    for entry, checksum in saved.items():
        if entry not in found:
            raise DamagedFile(f"{name} is damaged: its entry {entry!r} is missing")
        if found[entry] != checksum:
            raise DamagedFile(f"{name} is damaged: its entry {entry!r} is not the one that was saved with the others")


def parameter_sums(path: str | Path) -> dict[str, int]:
    """Checksums of the parameters in a model's file, by which it is known again; empty where there is no such file.

    :param path: with or without suffix
    """
    path = found_zip(path)
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        return {entry.filename: entry.CRC for entry in archive.infolist() if entry.filename.endswith(".pth")}


class Summed:
    """An open file, and the checksum of what is written to it or read from it.

    :param file: open; what it looks ahead at is not asked for, so that reading stops where a pickle ends
    """

    def __init__(self, file: Any) -> None:
        self._file = file
        self.checksum = 0

    def write(self, content: Any) -> Any:
        """Write bytes."""
        self.checksum = zlib.crc32(content, self.checksum)
        return self._file.write(content)

    def read(self, size: int = -1) -> bytes:
        """Read ``size`` bytes, or as many as there are."""
        return self._summed(self._file.read(size))

    def readline(self) -> bytes:
        """Read up to the end of a line."""
        return self._summed(self._file.readline())

    def _summed(self, content: bytes) -> bytes:
        self.checksum = zlib.crc32(content, self.checksum)
        return content

"""Damaged files, told in one sentence that names the file and what is wrong with it."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from contextlib import contextmanager

MOST_UNPACKED = 200
"""Bytes that a byte of a zip file may become. SB3 packs nothing; tensors of zeros, packed by hand, stay well below."""


class DamagedFile(ValueError):
    """A file that cannot be read, or whose content is not what its kind of file holds."""


@contextmanager
def damaged(name: str, part: str = "it") -> Iterator[None]:
    """Tell an error inside, which is raised while a file's content is read, as damage of that file.

    What is wrong with a content can show as any error: those of zip, json, pickle and torch have no common kind.

    :param name: of the file
    :param part: of it that is read
    :raises DamagedFile: for any error
    """
    try:
        yield
    except DamagedFile:
        raise
    except KeyError as error:
        raise DamagedFile(f"{name} is damaged: {part} lacks {error}") from error
    except Exception as error:
        told = " ".join(str(error).split()) or "nothing more is known"
        raise DamagedFile(f"{name} is damaged: {part} cannot be read ({type(error).__name__}: {told})") from error


@contextmanager
def parameters_of(name: str) -> Iterator[None]:
    """Tell an error inside, which is raised while a file's parameters are given to a model, in one sentence.

    :param name: of the file
    :raises ValueError: for any error
    """
    try:
        yield
    except Exception as error:
        told = " ".join(str(error).split())
        raise ValueError(f"the parameters in {name} cannot be taken over ({type(error).__name__}: {told})") from error


def check_archive(archive: zipfile.ZipFile, name: str) -> None:
    """Check that the entries of an archive are whole, each there once, and not made to fill the memory.

    :raises DamagedFile: if they are not
    """
    seen = set()
    for entry in archive.infolist():
        if entry.file_size > MOST_UNPACKED * max(entry.compress_size, 1024):
            raise DamagedFile(
                f"{name} is damaged: its entry {entry.filename!r} would become {entry.file_size} bytes out of "
                f"{entry.compress_size}, which no saved file does"
            )
        if entry.filename in seen:
            raise DamagedFile(f"{name} is damaged: its entry {entry.filename!r} is there twice")
        seen.add(entry.filename)
    broken = archive.testzip()
    if broken is not None:
        raise DamagedFile(f"{name} is damaged: the checksum of its entry {broken!r} is wrong")

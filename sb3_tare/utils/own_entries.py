"""Entries of a model's file that Stable-Baselines3 passes over, so that the algorithm which was extended can load it.

SB3 takes every entry ``name.pth`` for parameters of the algorithm that loads the file, and refuses a name that it has not.
Parameters of an extension lie in ``name.pt``: ``PPO.load`` finds in the file of a TAREPPO what it would find in a PPO's.
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from sb3_tare.utils.numbered import File, open_zip

SB3, OWN = ".pth", ".pt"
"""Suffixes of parameters that SB3 reads, and of those that it passes over"""


def write_apart(save: Callable[[Any], None], file: Any, names: Iterable[str]) -> None:
    """Let SB3's ``save`` write a zip file, with the parameters of these ``names`` where it does not look for any.

    :param file: open
    """
    written = io.BytesIO()
    save(written)
    with zipfile.ZipFile(written) as archive:
        _copy(archive, file, {f"{name}{SB3}": f"{name}{OWN}" for name in names})


def with_own(path: File, names: Iterable[str]) -> File:
    """A zip file in which SB3 finds the parameters of these ``names`` as well: ``path`` itself if it has none apart.

    :raises DamagedFile: if its table of contents cannot be read
    """
    shown, renamed = io.BytesIO(), {f"{name}{OWN}": f"{name}{SB3}" for name in names}
    with open_zip(path) as (archive, _):
        if not renamed.keys() & set(archive.namelist()):
            return path
        _copy(archive, shown, renamed)
    return shown


def _copy(archive: zipfile.ZipFile, file: Any, renamed: Mapping[str, str]) -> None:
    with zipfile.ZipFile(file, "w") as target:
        for name in archive.namelist():
            target.writestr(renamed.get(name, name), archive.read(name))

"""Entries of a saved reward or reward learner, read without running anything that the file brings along."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from sb3_tare.utils.damage import DamagedFile, damaged
from sb3_tare.utils.formats import KEY
from sb3_tare.utils.known import KnownUnpickler, Unread
from sb3_tare.utils.numbered import File, check_zip, open_zip
from sb3_tare.utils.unnumbered import convert_unnumbered_learner_state, convert_unnumbered_settings


@dataclass(frozen=True)
class Entries:
    """Entries of a zip file as SB3 writes them, each read when it is asked for.

    :param name: of the file, for errors
    :param data: what SB3 writes beside parameters: plain, or pickled and not read yet
    :param parts: the other entries of the archive
    :param is_unnumbered: whether it is from before there were format numbers; what is read is converted
    """

    name: str
    data: Mapping[str, Any]
    parts: Mapping[str, bytes] = field(repr=False)
    is_unnumbered: bool

    def __contains__(self, key: str) -> bool:
        return key in self.data

    def value(self, key: str, remedy: str, classes: Iterable[type] = (), may_lack: Iterable[str] = ()) -> Any:
        """An entry of the data.

        :param remedy: what would work where the entry needs classes that are not known
        :param classes: known beside those of :mod:`sb3_tare.utils.known`
        :param may_lack: keys of a dictionary that are left out, if they need classes that are not known
        :raises ValueError: if it is not there, damaged, or needs classes that are not known
        """
        with damaged(self.name, f"its entry {key!r}"):
            value, unread = _unpickled(self.data[key], classes)
        if unread and isinstance(value, dict):
            value = {name: each for name, each in value.items() if name not in may_lack}
        if unread and not (isinstance(value, dict) and not _holds_unread(value)):
            raise ValueError(
                f"{self.name} names {unread[0]} in {key!r}, and classes that are not known are not taken from a file, which "
                f"could run anything: {remedy}"
            )
        return convert_unnumbered_settings(value) if self.is_unnumbered and key == "reward_kwargs" else value

    def tensors(self, part: str, device: torch.device | str = "cpu") -> dict[str, Any]:
        """A dictionary of tensors and plain data, under ``part`` in the archive.

        :raises DamagedFile: if it is not there, or damaged
        """
        with damaged(self.name, f"its entry {part!r}"):
            found = torch.load(io.BytesIO(self.parts[part]), map_location=device, weights_only=True)
            if not isinstance(found, dict):
                raise DamagedFile(f"{self.name} is damaged: its entry {part!r} is a {type(found).__name__}, not a dictionary")
            is_older = self.is_unnumbered and part == "reward_learner.pth"
            return convert_unnumbered_learner_state(found) if is_older else found


def entries_of(path: File, part: str, kind: str, remedy: str) -> Entries:
    """The entries of a file; arguments are those of :func:`~sb3_tare.utils.numbered.readable_zip`.

    :raises ValueError: if it is damaged, in a newer or unknown format, or lacks that part
    """
    with open_zip(path) as (archive, name):
        data = check_zip(archive, name, part, kind, remedy)
        with damaged(name):
            parts = {each: archive.read(each) for each in archive.namelist()}
            del parts["data"]
            return Entries(name, data, parts, KEY not in data)


def _unpickled(value: Any, classes: Iterable[type]) -> tuple[Any, list[str]]:
    if not isinstance(value, dict) or ":serialized:" not in value:
        return value, []
    unpickler = KnownUnpickler(io.BytesIO(base64.b64decode(value[":serialized:"])), classes)
    return unpickler.load(), unpickler.unread


def _holds_unread(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(_holds_unread, value.values()))
    if isinstance(value, (list, tuple)):
        return any(map(_holds_unread, value))
    return isinstance(value, Unread) or (isinstance(value, type) and issubclass(value, Unread))

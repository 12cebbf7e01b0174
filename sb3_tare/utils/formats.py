"""Format numbers of saved files, and the sentences for files that cannot be read.

Every file that this package writes holds under :data:`KEY` its kind, the number of its format, and the version that wrote
it. Files from before there were numbers are read by :mod:`sb3_tare.utils.unnumbered`.
"""

from __future__ import annotations

from typing import Any

from sb3_tare.utils.version import __version__

KEY = "saved_as"
"""Key under which a file tells what it is."""

FORMATS = {"model": 4, "RewardLearner": 4, "LearnedReward": 1, "replay memory": 1, "result": 1}
"""The format in which each kind of file is written. The number of a kind goes up when its files change so that older ones
need a conversion. A model's zip holds a reward learner's state: the numbers of both go up with that. Since 2, settings that
name no preset mean ``preset="decomposition"``: :func:`sb3_tare.settings.older.from_format_1`. Since 3, a model's reward lies
in entries that SB3 passes over, and its statistics are a tensor: :mod:`sb3_tare.learning.optimisation`. Since 4, a guard is
the default: :func:`sb3_tare.settings.older.from_format_3`."""


def stamp(kind: str) -> dict[str, Any]:
    """Plain data for :data:`KEY` of a file.

    :param kind: of :data:`FORMATS`
    """
    return {"kind": kind, "format": FORMATS[kind], "version": __version__}


def check_stamp(name: str, found: Any) -> None:
    """Refuse a file in a format that this version does not read; older ones it does.

    :param name: of the file
    :param found: what it holds under :data:`KEY`
    :raises ValueError: if that is a newer format, or one that never was
    """
    told = found if isinstance(found, dict) else {"format": found}
    kind, number, version = told.get("kind", "file"), told.get("format"), told.get("version", "of an unknown version")
    newest = FORMATS.get(str(kind))
    if type(number) is int and 0 < number <= (newest or 0):
        return
    is_newer = type(number) is int and number > (newest or 0)
    reads = "no such files" if newest is None else f"formats up to {newest} and files without a number"
    raise ValueError(
        f"{name} is a {kind} in format {number!r}, written by sb3_tare {version}, and sb3_tare {__version__} reads {reads}: "
        + ("install that version or a newer one" if is_newer else "no version wrote that, save it again where it was made")
    )


def is_before(number: int, found: Any) -> bool:
    """Whether a file is in a format before ``number``, or from before there were numbers.

    :param found: what it holds under :data:`KEY`, once that is checked, or None
    """
    return found is None or found["format"] < number


def holds_no(name: str, found: Any, kind: str, remedy: str) -> ValueError:
    """The error for a file that holds something else.

    :param name: of the file
    :param found: what it holds under :data:`KEY`, once that is checked, or None
    :param kind: what was looked for, of :data:`FORMATS`
    :param remedy: what would work
    """
    told = "carries no format number" if found is None else f"is a {found['kind']} in format {found['format']}"
    reads = f"sb3_tare {__version__} reads a {kind} in format {FORMATS[kind]}"
    return ValueError(f"{name} holds no {kind}: it {told}, where {reads}; {remedy}")

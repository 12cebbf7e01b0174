"""Numbers that change along a run, written so that files can hold them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule

from sb3_tare.utils.checks import check_number

Scheduled = float | str | Callable[[float], float]
"""A number, or one that changes along a run: text such as ``lin_0.001``, or a ``LinearSchedule`` of SB3"""

FORMS = (
    "'lin_0.001' falls to zero along the run, 'lin_0.001_0.0001' to 0.0001, and 'lin_0.001_0.0001_0.8' does so within its "
    "first 0.8; stable_baselines3.common.utils.LinearSchedule means the same"
)


def written(name: str, value: Any, above: float | None = None, at_least: float = 0.0) -> Any:
    """A number as it is, or a schedule as text.

    :param name: of the argument, for errors
    :param value: a :data:`Scheduled`
    :param above: what the number, and a schedule's first one, must exceed; None: ``at_least`` is the bound
    :param at_least: bound of a schedule's last number, and of the first where there is no ``above``
    :raises ValueError: if a number is out of its range, or it is a schedule that cannot be written
    """
    first = {"at_least": at_least} if above is None else {"above": above}
    while isinstance(value, FloatSchedule):
        value = value.value_schedule
    if isinstance(value, ConstantSchedule):
        value = value.val
    value = from_text(name, value)
    if isinstance(value, LinearSchedule):
        check_number(f"{name}, where it starts,", value.start, **first)
        check_number(f"{name}, where it ends,", value.end, at_least=at_least)
        check_number(f"{name}, in its share of the run,", value.end_fraction, above=0.0, at_most=1.0)
        return f"lin_{float(value.start)!r}_{float(value.end)!r}_{float(value.end_fraction)!r}"
    if callable(value):
        raise ValueError(f"{name}={value!r} cannot be written to a file, from which a run resumes to the bit: {FORMS}")
    check_number(name, value, **first)
    return value


def linear(name: str, text: str) -> LinearSchedule:
    """The schedule that ``text`` names.

    :param name: of the argument, for errors
    :raises ValueError: if it names none
    """
    try:
        start, end, fraction = (*map(float, text.split("_")[1:]), *(0.0, 1.0)[text.count("_") - 1 :])
    except ValueError as error:
        raise ValueError(f"{name}={text!r} is no schedule: {FORMS}") from error
    return LinearSchedule(start, end, fraction)


def from_text(name: str, value: Any) -> Any:
    """A schedule that is text as the function that SB3 takes; anything else as it is.

    :param name: of the argument, for errors
    :raises ValueError: if text names no schedule
    """
    return linear(name, value) if isinstance(value, str) and value.startswith("lin_") else value


def value_at(setting: Scheduled, progress: float) -> float:
    """A setting as it is at a point of a run, of a number or of text that :func:`written` has returned.

    :param progress: the share of the run that is still to come, 1 where it begins
    """
    if isinstance(setting, str):
        return _linear(setting)(progress)
    assert not callable(setting)
    return setting


@cache
def _linear(text: str) -> LinearSchedule:
    return linear("schedule", text)

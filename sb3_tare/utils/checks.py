"""Bad arguments and bad data, refused where they come in, with what would work."""

from __future__ import annotations

import math
from collections.abc import Callable
from numbers import Integral, Real
from typing import Any

import numpy as np
import torch
from torch import Tensor


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Check that an argument is one of some choices; 1 is not True here.

    :raises ValueError: if ``value`` is none of ``choices``
    """
    if not any(value is choice or (type(value) is type(choice) and value == choice) for choice in choices):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}, got {value!r}")


def check_count(name: str, value: Any, least: int, otherwise: str = "") -> None:
    """Check that an argument is a whole number of at least ``least``.

    :raises ValueError: if it is not
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} must be a whole number of at least {least}{otherwise}, got {value!r}")


def check_device(device: torch.device) -> None:
    """Check that a device has the double precision in which advantages and statistics are computed.

    :raises ValueError: if it has not
    """
    if device.type == "mps":
        raise ValueError("device='mps' has no double precision, which advantages are computed in: use device='cpu'")


def check_number(
    name: str,
    value: Any,
    above: float = -math.inf,
    at_least: float = -math.inf,
    at_most: float = math.inf,
    below: float = math.inf,
) -> None:
    """Check that an argument is a finite number within the bounds.

    :raises ValueError: if it is not
    """
    is_number = isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)
    if not is_number or not above < value < below or not at_least <= value <= at_most:
        bounds = [f"above {above}"] if above > -math.inf else [f"at least {at_least}"] if at_least > -math.inf else []
        bounds += [f"at most {at_most}"] if at_most < math.inf else [f"below {below}"] if below < math.inf else []
        hint = "; yaml reads 3e-4 as text and 3.0e-4 as a number" if _is_number_as_text(value) else ""
        raise ValueError(f"{name} must be a number {' and '.join(bounds)}, got {value!r}{hint}")


def _is_number_as_text(value: Any) -> bool:
    try:
        return isinstance(value, str) and math.isfinite(float(value))
    except ValueError:
        return False


LOWER_RATES = "lower the learning rates, or scale rewards and observations of very large size"
"""What works where a network that is learned has left the finite numbers."""

Place = Callable[..., str]
"""The words for where a number lies, given its indices in an array, such as ``"in environment 1 at step 75"``."""


def in_environment(env: int = 0, *_: int) -> str:
    """The words for a number in an array ``[N, ...]`` of N environments."""
    return f"in environment {env}"


def at_step(step: int) -> Place:
    """Words for a number in an array ``[N, ...]`` of N environments at a step of the run."""
    return lambda *indices: f"{in_environment(*indices)} at step {step}"


def check_finite(
    values: Any,
    name: str,
    source: str = "the environment returned",
    remedy: str = "mend the environment, or wrap it so that NaN and infinity never leave it",
    place: Place = in_environment,
) -> None:
    """Check that data is finite.

    :param values: an array or tensor ``[...]``, a number, or a dictionary of them
    :param name: of one of them, for the error
    :param source: who made them, likewise
    :param remedy: what would work, likewise
    :param place: where one lies, likewise, given its indices; it is not called before there is an error
    :raises ValueError: if they hold NaN or infinity
    """
    if isinstance(values, dict):
        for key, array in values.items():
            check_finite(array, f"{name} {key!r}", source, remedy, place)
        return
    values = np.asarray(values)
    # A sum of squares is quick, and finite only if all terms are; large numbers may still overflow it.
    if values.dtype.kind != "f" or math.isfinite(np.vdot(values, values)):
        return
    broken = ~np.isfinite(values)
    if broken.any():
        first = place(*(int(index) for index in np.argwhere(broken)[0]))
        raise ValueError(f"{source} a {name} that is not finite {first}: {values[broken][:3]}; {remedy}")


def check_learned(values: Tensor, source: str, remedy: str, place: Place) -> None:
    """Check numbers ``[n]`` that a learned network has returned.

    :param source: who returned what, for the error
    :param remedy: what would work, likewise
    :param place: where one lies, likewise, given its index
    :raises FloatingPointError: if one is NaN or infinity
    """
    finite = torch.isfinite(values)
    if not finite.all():
        first = int((~finite).nonzero()[0])
        raise FloatingPointError(f"{source} that are not finite, first {place(first)}; {remedy}")

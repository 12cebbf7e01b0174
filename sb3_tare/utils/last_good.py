"""Networks that are what they were before an update, where the update has left a number that is not finite."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.nn import Parameter
from torch.optim import Optimizer


@contextmanager
def last_good(parameters: Iterable[Parameter], optimiser: Optimizer | None, what: str, remedy: str) -> Iterator[None]:
    """Check parameters after an update, and put them and their optimiser back where the update has ruined them.

    Whatever else ends the update, such as Ctrl-C, leaves finite parameters as they are by then.

    :param parameters: that the update moves
    :param optimiser: that moves them; None where something else does
    :param what: is learned, for the error
    :param remedy: what would work, likewise
    :raises FloatingPointError: if a parameter is not finite behind the update, or passed on from inside it
    """
    parameters = list(parameters)
    before = [parameter.detach().clone() for parameter in parameters]
    state = {} if optimiser is None else {key: _copied(entries) for key, entries in optimiser.state.items()}
    try:
        yield
        if not all_finite(parameters):
            raise FloatingPointError(f"the update of the {what} left parameters that are not finite, and was undone; {remedy}")
    except BaseException as error:
        if isinstance(error, FloatingPointError) or not all_finite(parameters):
            _put_back(parameters, before)
            if optimiser is not None:
                optimiser.state.clear()
                optimiser.state.update(state)
        raise


def all_finite(tensors: Iterable[torch.Tensor]) -> bool:
    """Whether no number in any of the tensors is NaN or infinity."""
    flat = [tensor.detach().flatten() for tensor in tensors]
    return bool(torch.isfinite(torch.cat(flat)).all()) if flat else True


@torch.no_grad()
def _put_back(parameters: list[Parameter], before: list[torch.Tensor]) -> None:
    for parameter, value in zip(parameters, before, strict=True):
        parameter.copy_(value)


def _copied(entries: dict[str, Any]) -> dict[str, Any]:
    return {name: entry.clone() if isinstance(entry, torch.Tensor) else entry for name, entry in entries.items()}

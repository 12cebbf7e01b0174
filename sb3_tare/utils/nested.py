"""Tensors, and dictionaries of them: observations as Stable-Baselines3 has them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

Observations = Tensor | dict[str, Tensor]


def take(values: Any, rows: Tensor) -> Any:
    """Rows ``[m]``, by number, of each tensor ``[n, ...]`` of a nested structure."""
    return map_tensors(values, lambda tensor: tensor[rows.to(tensor.device)])


def concatenated(parts: Sequence[Any]) -> Any:
    """Put the tensors ``[n, ...]`` of nested structures of one shape one behind the other; all else is the last one's."""
    last = parts[-1]
    if isinstance(last, Tensor):
        return torch.cat(list(parts))
    if isinstance(last, dict):
        return {key: concatenated([part[key] for part in parts]) for key in last}
    if isinstance(last, list):
        return [concatenated(items) for items in zip(*parts, strict=True)]
    if is_dataclass(last) and not isinstance(last, type):
        values = {each.name: concatenated([getattr(part, each.name) for part in parts]) for each in fields(last)}
        return replace(last, **values)
    return last


def in_chunks(function: Callable[[Any], Tensor], values: Observations, rows: int | None) -> Tensor:
    """Apply ``function`` to a tensor ``[n, ...]``, or a dictionary of them, a few rows at a time.

    :param function: of ``[m, ...]``, which returns a tensor ``[m, ...]``
    :param rows: at a time; None: all of them
    :return: its results for all rows, one behind the other
    """
    n_rows = len(next(iter(values.values())) if isinstance(values, dict) else values)
    if rows is None or n_rows <= rows:
        return function(values)
    return torch.cat([function(take(values, chunk)) for chunk in torch.arange(n_rows).split(rows)])


def at_rows(values_at: Callable[[np.ndarray], Any], rows: np.ndarray, at_most: int) -> Any:
    """Read or compute something at all ``rows`` of a memory, a few at a time: images of a whole memory would not fit.

    :param values_at: of row numbers ``[m]``, returns a tensor ``[m, ...]`` or a nested structure of them
    :param rows: ``[n]`` row numbers
    :param at_most: at a time
    :return: its results for all rows, ``[n, ...]`` each
    """
    return concatenated([values_at(chunk) for chunk in np.array_split(rows, max(1, -(-len(rows) // at_most)))])


def map_tensors(value: Any, function: Callable[[Tensor], Tensor]) -> Any:
    """Apply ``function`` to every tensor of a nested structure."""
    if isinstance(value, Tensor):
        return function(value)
    if isinstance(value, dict):
        return {key: map_tensors(item, function) for key, item in value.items()}
    if isinstance(value, list):
        return [map_tensors(item, function) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(*(map_tensors(getattr(value, each.name), function) for each in fields(value)))
    return value


def on_cpu(value: Any) -> Any:
    """The same nested structure with every tensor on the CPU; those that are there already are not copied."""
    return map_tensors(value, Tensor.cpu)

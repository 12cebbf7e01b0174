"""Lend a host's rollout buffer out narrowed to chosen rows, with given advantages and returns."""

from __future__ import annotations

from collections.abc import Callable, Generator
from functools import cache
from typing import Any

import numpy as np
from stable_baselines3.common.buffers import RolloutBuffer


def flat_rows(array: np.ndarray) -> np.ndarray:
    """Flatten ``[T, N, ...]`` to ``[T * N, ...]``, row = env * T + t, the order of SB3's ``swap_and_flatten``."""
    return array.swapaxes(0, 1).reshape(-1, *array.shape[2:])


def narrow(
    buffer: RolloutBuffer,
    rows: np.ndarray,
    advantages: np.ndarray,
    returns: np.ndarray,
    between_passes: Callable[[], None] | None = None,
    before_batch: Callable[[np.ndarray], None] | None = None,
) -> None:
    """Make ``buffer`` hold ``rows`` alone, as one environment's rollout, until :func:`widen` or its own ``reset()``.

    The buffer changes in place, since SB3's training loop holds a reference to it. While it is narrow its class is a
    subclass of its own that keeps what is needed to undo this.

    :param rows: ``[n]`` ascending, ``env * T + t``
    :param advantages: ``[n]``
    :param returns: ``[n]``
    :param between_passes: called before each pass of ``get()`` over the rows but the first
    :param before_batch: called before each mini-batch is taken out, with its places ``[m]`` among ``rows``
    """
    original = dict(buffer.__dict__)
    shape = (buffer.buffer_size, buffer.n_envs)

    def chosen(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: chosen(item) for key, item in value.items()}
        if isinstance(value, np.ndarray) and value.shape[:2] == shape:
            return flat_rows(value)[rows][:, None]
        return value

    for name, value in original.items():
        buffer.__dict__[name] = chosen(value)
    buffer.advantages, buffer.returns = advantages[:, None], returns[:, None]
    buffer.buffer_size, buffer.n_envs, buffer.pos, buffer.full = len(rows), 1, len(rows), True
    buffer.generator_ready = False
    buffer.__class__ = _narrowed(type(buffer))
    buffer.__dict__["_original"] = original
    buffer.__dict__["_between_passes"] = between_passes
    buffer.__dict__["_before_batch"] = before_batch
    buffer.__dict__["_n_passes"] = 0


def relabel(buffer: RolloutBuffer, advantages: np.ndarray, returns: np.ndarray) -> None:
    """Give the rows of a narrowed buffer other advantages and returns, ``[n]`` each."""
    buffer.advantages, buffer.returns = advantages[:, None], returns[:, None]


def widen(buffer: RolloutBuffer) -> None:
    """Give a narrowed buffer its own class, sizes and arrays back; any other buffer is left as it is."""
    original = buffer.__dict__.get("_original")
    if original is not None:
        buffer.__class__ = type(buffer).__bases__[0]
        buffer.__dict__.clear()
        buffer.__dict__.update(original)


@cache
def _narrowed(buffer_class: type[RolloutBuffer]) -> type[RolloutBuffer]:
    """The class of a narrowed ``buffer_class``."""

    class Narrowed(buffer_class):  # type: ignore[valid-type,misc]
        def reset(self) -> None:
            widen(self)
            self.reset()

        def __reduce_ex__(self, protocol: Any) -> Any:  # a copy is nobody's loan: it is as wide as the buffer was
            return _of_class, (buffer_class, self.__dict__["_original"])

        def get(self, batch_size: int | None = None) -> Generator[Any, None, None]:
            if self._n_passes > 0 and self._between_passes is not None:
                self._between_passes()
            self._n_passes += 1
            return super().get(None if batch_size is None else _rows_of_a_batch(self, batch_size))

        def _get_samples(self, batch_inds: np.ndarray, env: Any = None) -> Any:
            if self._before_batch is not None:
                self._before_batch(batch_inds)
            return super()._get_samples(batch_inds, env)

    if buffer_class is RolloutBuffer:  # the promise of sb3_tare.lean.GathersPlainly, which no other class's get() may keep
        Narrowed.plain_batch_size = _plain_batch_size  # type: ignore[attr-defined]
    return Narrowed


def _of_class(buffer_class: type[RolloutBuffer], attributes: dict[str, Any]) -> RolloutBuffer:
    buffer = buffer_class.__new__(buffer_class)
    buffer.__dict__.update(attributes)
    return buffer


def _plain_batch_size(buffer: Any, batch_size: int) -> int | None:
    """Rows of a mini-batch of a narrowed ``RolloutBuffer``; None where others wait for its passes or mini-batches."""
    is_plain = buffer._between_passes is None and buffer._before_batch is None
    return _rows_of_a_batch(buffer, batch_size) if is_plain else None


def _rows_of_a_batch(buffer: Any, batch_size: int) -> int:
    """Rows of a mini-batch such that none is left with a single row.

    A mini-batch of one row has no standard deviation to normalise by, and not every host guards against it. Where the split
    made it, slightly larger mini-batches avoid it; a whole rollout keeps the user's size.
    """
    original = buffer.__dict__["_original"]
    is_part = buffer.buffer_size < original["buffer_size"] * original["n_envs"]
    while is_part and batch_size > 1 and buffer.buffer_size % batch_size == 1:
        batch_size += 1
    return batch_size

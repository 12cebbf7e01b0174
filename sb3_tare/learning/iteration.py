"""One iteration of Algorithm 1 around a host's policy updates, as a generator that hands control to the host."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from sb3_tare.data.cutting import MIN_PART_STEPS, split
from sb3_tare.data.recorder import Record
from sb3_tare.data.rollout import Rollout
from sb3_tare.hosts.buffers import narrow, relabel, widen
from sb3_tare.learning.trainer import RewardTrainer


class Update(NamedTuple):
    """One policy update: the rows of the rollout that it uses, and the steps that validate it, if they are there yet."""

    rows: Tensor
    training: Rollout
    validation: Rollout | None


class Iteration:
    """Relabels parts of a host's rollout and takes the reward steps that follow its policy updates.

    :param model: the host
    :param trainer: of its reward
    """

    def __init__(self, model: Any, trainer: RewardTrainer) -> None:
        self.model = model
        self.trainer = trainer
        self.settings = trainer.settings
        self.seconds = 0.0
        """Of the last iteration that were spent here rather than in the host's updates."""

    @property
    def n_updates(self) -> int:
        """How many policy updates there are in an iteration."""
        return 2 if self.settings.validation == "split" and self.settings.swap else 1

    def updates(self, record: Record) -> Generator[None, None, None]:
        """Yield whenever the host is to call ``train()`` on its rollout buffer as it is then.

        However it ends, by ``close()`` too, the buffer is whole again.
        """
        self.seconds = 0.0
        try:
            with self._timed():
                rollout = self.trainer.read(record)
                updates = self._prepare(rollout)
            for update in updates:
                with self._timed():
                    self._narrow(update)
                yield
                with self._timed():
                    self._after(update)
            with self._timed():
                self._finish(rollout)
        finally:
            self._give_back()

    def _prepare(self, rollout: Rollout) -> list[Update]:
        """Split the rollout, measure the reward as it is, and take the step that has waited for this rollout."""
        trainer, settings = self.trainer, self.settings
        n_steps = rollout.episodes.n_steps
        halves: list[Update] = []
        if n_steps >= 2 * MIN_PART_STEPS:
            parts = split(rollout.episodes, trainer.generator)
            first, second = (rollout.select(part) for part in parts)
            halves = [Update(parts[0].rows, first, second), Update(parts[1].rows, second, first)]
            trainer.measure_alignment(first, second)  # before any step has seen these rewards
        if settings.validation == "split":
            return halves if settings.swap else halves[:1]
        waiting = trainer.take_waiting()
        if waiting is not None:
            trainer.reward_step(waiting, rollout)
        return [Update(torch.arange(n_steps), rollout, None)]

    def _narrow(self, update: Update) -> None:
        """Leave the host nothing but the update's rows, with what the learned reward makes of them."""

        def relabelled() -> tuple[np.ndarray, np.ndarray]:
            advantages, returns = self.trainer.relabel(update.training)
            return advantages.cpu().numpy(), returns.cpu().numpy()

        def between_epochs() -> None:
            with self._timed():
                self._after(update)
                relabel(buffer, *relabelled())

        buffer = self.model.rollout_buffer
        widen(buffer)
        narrow(buffer, update.rows.numpy(), *relabelled(), between_epochs if self.settings.interleave else None)

    def _after(self, update: Update) -> None:
        if self.settings.n_reward_updates == 0:
            return
        if update.validation is None:
            self.trainer.wait(update.training)
        else:
            self.trainer.reward_step(update.training, update.validation)

    def _finish(self, rollout: Rollout) -> None:
        self.trainer.finish(rollout)

    def _give_back(self) -> None:
        widen(self.model.rollout_buffer)

    @contextmanager
    def _timed(self) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds += time.perf_counter() - start

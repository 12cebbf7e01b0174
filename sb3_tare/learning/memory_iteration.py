"""One iteration of Algorithm 1 around AWR's actor phase."""

from __future__ import annotations

import math
from collections.abc import Generator
from typing import NamedTuple

import torch
from torch import Tensor

from sb3_tare.awr.memory import Paths
from sb3_tare.data.cutting import split
from sb3_tare.data.episodes import Part
from sb3_tare.data.rollout import Rollout
from sb3_tare.hosts.memory_reader import ActorUpdate, MemoryReader
from sb3_tare.learning.iteration import Iteration
from sb3_tare.learning.memory_settings import MemorySettings


class ActorFit(NamedTuple):
    """What the actor is fitted to."""

    paths: Paths
    advantages: Tensor
    """``[n]``"""
    n_steps: int
    """Gradient steps"""


class MemoryUpdate(NamedTuple):
    """One fit of the actor, and the steps drawn to differentiate it."""

    part: Part
    """The paths of the memory that it uses"""
    training: Rollout
    """Steps drawn from them"""
    validation: Rollout | None
    """Steps that validate it, if they are there yet"""


class MemoryIteration(Iteration):
    """Relabels parts of AWR's memory and takes the reward steps that follow the actor's fits to them.

    The actor is fitted to all paths of the memory, as AWR's is, so that all are relabelled, by one pass of the reward
    network in an iteration. Everything that needs a gradient takes ``sampled_steps`` steps of paths drawn at random from
    each part instead: hypergradients of more steps would be less noisy, at a cost that grows with the memory.
    """

    settings: MemorySettings
    fit: ActorFit | None = None
    """For the host, while it is its turn"""

    def updates(self, record: ActorUpdate) -> Generator[None, None, None]:  # type: ignore[override]
        """Yield whenever the host is to fit its actor to :attr:`fit`."""
        self._record = record
        yield from super().updates(record)  # type: ignore[arg-type]

    @property
    def _reader(self) -> MemoryReader:
        assert isinstance(self.trainer.reader, MemoryReader)
        return self.trainer.reader

    def _prepare(self, rollout: Rollout) -> list[MemoryUpdate]:  # type: ignore[override]
        """Split the memory, measure the reward as it is, and take the step that has waited for the steps just collected."""
        trainer = self.trainer
        parts = split(rollout.episodes, trainer.generator)
        first, second = (self._sample(rollout.select(part)) for part in parts)
        trainer.measure_alignment(first, second)
        self._whole = rollout
        if self.settings.validation == "split":
            halves = [MemoryUpdate(parts[0], first, second), MemoryUpdate(parts[1], second, first)]
            return halves if self.settings.swap else halves[:1]
        waiting = trainer.take_waiting()
        if waiting is not None:
            trainer.reward_step(waiting, self._reader.fetch(self._reader.collected(rollout)))
        everything = Part(rollout.episodes, torch.arange(rollout.episodes.n_steps))
        return [MemoryUpdate(everything, self._sample(rollout), None)]

    def _narrow(self, update: MemoryUpdate) -> None:  # type: ignore[override]
        """Relabel the update's paths, which takes no gradient, and hand them to the host."""
        part, record = update.part, self._record
        with torch.no_grad():
            advantages = self.trainer.parameterised(self._whole.select(part))
        n_steps = math.ceil(record.n_steps * len(part.rows) / len(record.paths.rows))
        self.fit = ActorFit(Paths(record.paths.rows[part.rows.numpy()], part.episodes), advantages, n_steps)

    def _finish(self, rollout: Rollout) -> None:
        collected = self._reader.collected(rollout)
        self.trainer.finish(collected, share=collected.episodes.n_steps / rollout.episodes.n_steps)

    def _give_back(self) -> None:
        self.fit = self._whole = self._record = None  # type: ignore[assignment]

    def _sample(self, rollout: Rollout) -> Rollout:
        """``sampled_steps`` steps or a little more of paths drawn at random, with their observations."""
        episodes = rollout.episodes
        order = torch.randperm(len(episodes), generator=self.trainer.generator)
        n_pieces = 1 + int((episodes.lengths[order].cumsum(0) < self.settings.sampled_steps).sum())
        chosen = order[:n_pieces].sort().values
        return self._reader.fetch(rollout.select(episodes.select(chosen)))

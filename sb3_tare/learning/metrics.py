"""Numbers for the log."""

from __future__ import annotations

import math
from collections import defaultdict

import torch
from torch import Tensor

from sb3_tare.hypergradient.conjugate_gradient import Solution


class Metrics:
    """Collects numbers by name; the log gets their means."""

    def __init__(self) -> None:
        self._values: dict[str, list[float]] = defaultdict(list)

    def note(self, **values: float) -> None:
        """Keep a number under each name."""
        for name, value in values.items():
            self._values[name].append(value)

    def note_solution(self, solution: Solution | None) -> None:
        """Keep how the linear system of a hypergradient was solved, where there was one."""
        if solution is not None:
            self.note(
                cg_residual=solution.residual,
                cg_steps=solution.steps,
                negative_curvature=float(solution.negative_curvature),
            )

    def note_rewards(self, learned: Tensor, extrinsic: Tensor) -> None:
        """Keep mean and standard deviation of both rewards ``[n]``, and their correlation where both vary."""
        self.note_moments(learned, extrinsic)
        self.note_correlation("correlation", learned, extrinsic)

    def note_moments(self, learned: Tensor, extrinsic: Tensor) -> None:
        """Keep mean and standard deviation of both rewards ``[n]``."""
        learned, extrinsic = learned.double(), extrinsic.double()
        self.note(
            learned_mean=float(learned.mean()),
            learned_std=float(learned.std()),
            extrinsic_mean=float(extrinsic.mean()),
            extrinsic_std=float(extrinsic.std()),
        )

    def note_correlation(self, name: str, first: Tensor, second: Tensor) -> None:
        """Keep the correlation of two ``[n]`` tensors under ``name``, where both vary and are numbers."""
        self.note_finite(**{name: float(torch.corrcoef(torch.stack([first.double(), second.double()]))[0, 1])})

    def note_finite(self, **values: float) -> None:
        """Keep those that are numbers."""
        self.note(**{name: value for name, value in values.items() if math.isfinite(value)})

    def means(self) -> dict[str, float]:
        """Mean by name of what was kept since :meth:`clear`."""
        return {name: sum(values) / len(values) for name, values in self._values.items()}

    def clear(self) -> None:
        """Forget all."""
        self._values.clear()

"""The state of a reward learner in files: its own, or that of a model which learned its reward."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from sb3_tare.learning.beside import BESIDE, check_beside
from sb3_tare.learning.optimisation import LEARNER, MODEL, OPTIMISATION
from sb3_tare.utils.entries import Entries, entries_of
from sb3_tare.utils.files import reward_path
from sb3_tare.utils.numbered import holds_entry
from sb3_tare.utils.own_entries import OWN, SB3

WHOLE, PART = f"{LEARNER}{SB3}", f"{OPTIMISATION}{OWN}"
"""Entries by which files are known that hold a learner's state as one, and in parts"""


def holds_learner(path: str | Path) -> bool:
    """Whether a file, with or without suffix, holds what a reward learner has learned."""
    return any(holds_entry(path, entry) for entry in (PART, WHOLE))


def learner_entries(path: str | Path) -> Entries:
    """The entries of a learner's file: of ``path`` itself, or of the one beside a model's file that holds no learner.

    :raises ValueError: if neither holds one, or the model is not the one that the learner's file was saved beside
    """
    beside = reward_path(path)
    remedy = f"give a file that RewardLearner.save wrote, or that of a model with {beside.name} beside it"
    found = next((entry for entry in (PART, WHOLE) if holds_entry(path, entry)), None)
    if found is not None or not beside.exists():
        return entries_of(path, found or WHOLE, "RewardLearner", remedy)
    entries = entries_of(beside, WHOLE, "RewardLearner", remedy)
    check_beside(entries.name, entries.data.get(BESIDE), path)
    return entries


def learner_state(entries: Entries, device: torch.device) -> dict[str, Any]:
    """The state that entries of a learner hold, with its tensors on ``device``.

    :raises DamagedFile: if it is not there, or damaged
    """
    if PART not in entries.parts:
        return entries.tensors(WHOLE, device)
    return {MODEL: entries.tensors(f"{MODEL}{OWN}", device), **entries.tensors(PART, device)}

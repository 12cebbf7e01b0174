"""The state of a reward learner in files: its own, or that of a model which learned its reward."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sb3_tare.learning.beside import BESIDE, check_beside
from sb3_tare.learning.optimisation import LEARNER, MODEL, OPTIMISATION
from sb3_tare.settings.older import settings_in
from sb3_tare.utils.entries import Entries, entries_of
from sb3_tare.utils.files import reward_path
from sb3_tare.utils.numbered import holds_entry
from sb3_tare.utils.own_entries import OWN, SB3

WHOLE, PART = f"{LEARNER}{SB3}", f"{OPTIMISATION}{OWN}"
"""Entries by which files are known that hold a learner's state as one, and in parts"""

OWN_NETWORK = (
    "give the class of a network of your own, RewardLearner.load(path, architecture=...), or all settings, "
    "custom_objects={'reward_kwargs': ...}"
)


@dataclass(frozen=True)
class Loaded:
    """Contents of a file from which a learner goes on once it has a model.

    :param state: of its trainer
    :param times: steps that each environment was into its episode
    :param spaces: that it was learned in, in words
    :param vec_normalize: whether environments were in ``VecNormalize``; None where that is not told
    """

    state: Mapping[str, Any]
    times: list[int]
    spaces: Mapping[str, str]
    vec_normalize: bool | None


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


def learner_settings(
    entries: Entries,
    presets: Mapping[str, Mapping[str, Any]],
    changes: Mapping[str, Any],
    custom_objects: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The settings with which a saved learner goes on.

    :param presets: of the learner's settings; another one than the saved takes the place of what that had set
    :param changes: settings that differ from the saved ones, or that are not taken from a file
    :param custom_objects: may hold ``"reward_kwargs"`` in place of all that were saved
    :raises ValueError: if the file names classes that are not known, or rewards were learned in a way that is no more
    """
    if "reward_kwargs" in (custom_objects or {}):
        saved = (custom_objects or {})["reward_kwargs"]
    else:
        own = [changes["architecture"]] if isinstance(changes.get("architecture"), type) else []
        saved = entries.value("reward_kwargs", OWN_NETWORK, own, may_lack=changes)
        saved = settings_in({**entries.data, "reward_kwargs": saved}, bool(presets))
    if "preset" in changes:
        replaced = presets.get(saved.get("preset", ""), {}).items()
        saved = {key: value for key, value in saved.items() if (key, value) not in replaced}
    return {**saved, **presets.get(changes.get("preset", ""), {}), **changes}


def learner_state(entries: Entries, device: torch.device) -> dict[str, Any]:
    """The state that entries of a learner hold, with its tensors on ``device``.

    :raises DamagedFile: if it is not there, or damaged
    """
    if PART not in entries.parts:
        return entries.tensors(WHOLE, device)
    return {MODEL: entries.tensors(f"{MODEL}{OWN}", device), **entries.tensors(PART, device)}

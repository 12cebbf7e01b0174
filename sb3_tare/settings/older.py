"""Settings as older files and users know them, and what stands in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sb3_tare.utils.formats import KEY, is_before

REMOVED = {
    "return_consistency": "see return_decomposition",
    "consistency_window": "whole episodes need no window, see return_decomposition",
    "consistency_rollouts": "see decomposition_memory",
    "consistency_updates": "see decomposition_updates",
    "consistency_batch_size": "see decomposition_episodes and decomposition_steps",
}
"""Settings of return consistency, and what to look at today."""


def settings_in(data: Mapping[str, Any], has_presets: bool) -> dict[str, Any]:
    """The settings that a saved model or reward learner holds, as they are said today.

    :param data: of the file
    :param has_presets: whether the learner's settings have presets
    :raises ValueError: if rewards were learned by return consistency, which does not exist any more
    """
    saved: dict[str, Any] = data["reward_kwargs"]
    if is_before(2, data.get(KEY)):
        saved = from_format_1(saved, has_presets)
    return from_format_3(saved) if is_before(4, data.get(KEY)) and has_presets else saved


def from_format_1(settings: Mapping[str, Any], has_presets: bool) -> dict[str, Any]:
    """The settings that files of format 1, and those before it, hold, as they are said today.

    There the implicit gradient was what happened where no preset was named, its curvature was the Fisher matrix, and each
    rollout had its reward phase.

    :param settings: some or all, flat
    :param has_presets: whether the learner's settings have presets
    :raises ValueError: if rewards were learned by return consistency, which does not exist any more
    """
    kept = {name: value for name, value in settings.items() if name not in REMOVED}
    if has_presets:
        kept["preset"] = kept.get("preset") or "implicit"
        kept.setdefault("reward_every", 0)
    if kept.get("preset") in ("implicit", "decomposition"):
        kept.setdefault("curvature", "fisher")
    if settings.get("return_consistency", 0.0) > 0:
        raise ValueError(
            f"this was saved with return_consistency={settings['return_consistency']}, which does not exist any more: load it "
            f"with custom_objects={{'reward_kwargs': {kept}}} to go on without, or learn anew with preset='decomposition', "
            "which has taken its place"
        )
    return kept


def from_format_3(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that files of format 3, and those before it, hold, as they are said today: no guard was the default.

    :param settings: some or all, flat
    :raises ValueError: if a guard compared totals of episodes, which it does not any more
    """
    kept = {name: value for name, value in settings.items() if name != "guard_correlation"}
    if kept.get("return_decomposition", kept.get("preset", "decomposition") == "decomposition"):
        kept.setdefault("trust_slope", 0.0)
    if settings.get("guard_correlation", 0.0) > 0:
        raise ValueError(
            f"this was saved with guard_correlation={settings['guard_correlation']}, in whose place there is trust_slope: "
            f"load it with custom_objects={{'reward_kwargs': {kept}}} to go on without a guard"
        )
    return kept

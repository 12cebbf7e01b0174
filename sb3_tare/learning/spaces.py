"""The spaces that a saved learner was learned in, and those that it is to go on in; the same of ``VecNormalize``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sb3_tare.utils.continuation import is_behind_vec_normalize

NAMES = ("observation_space", "action_space")


def spaces_of(model: Any) -> dict[str, str]:
    """Observation and action space of an algorithm in words, as plain data for a file."""
    return {name: repr(getattr(model, name)) for name in NAMES}


def spaces_in(data: Mapping[str, Any]) -> dict[str, str]:
    """The same as a file tells them; empty for a learner of its own that was saved before they were told.

    :param data: of a learner's file, or of an algorithm's that owned its learner
    """
    told = data.get("spaces")
    return dict(told) if told is not None else {name: repr(data[name]) for name in NAMES if name in data}


def check_spaces(saved: Mapping[str, str], model: Any) -> None:
    """Check that a learner goes on in the spaces that it was saved in.

    :param saved: in words
    :raises ValueError: if it does not, naming both
    """
    for name, ours in spaces_of(model).items():
        theirs = saved.get(name, ours)
        if theirs != ours:
            raise ValueError(
                f"this RewardLearner was saved with {name} {theirs}, and the model has {ours}: give it an environment like "
                "the one that it has learned in, or a new RewardLearner"
            )


def check_vec_normalize(saved: bool | None, model: Any) -> None:
    """Check that a learner goes on with observations that are normalised as they were.

    :param saved: whether there was ``VecNormalize``; None if that is not known
    :raises ValueError: if it came or went
    """
    ours = is_behind_vec_normalize(model)
    if saved is not None and ours is not None and saved != ours:
        raise ValueError(
            f"this RewardLearner was saved {_behind(saved)}, and the model is {_behind(ours)}, so that the reward would see "
            "other observations: wrap the environment as it was, with the statistics that were saved, or start a new one"
        )


def _behind(vec_normalize: bool) -> str:
    return "behind VecNormalize" if vec_normalize else "without VecNormalize"

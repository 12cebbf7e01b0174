"""Correlations of learned rewards with extrinsic ones, and slopes on their parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from sb3_tare.analysis.recording import Episode

FEWEST_EPISODES = 10
"""Fewer returns have no correlation worth a number: its 95% interval would be wider than 1."""


def correlations(episodes: Sequence[Episode]) -> pd.DataFrame:
    """Pearson's and Spearman's correlation of learned rewards with extrinsic ones, and with undistorted ones if known.

    :return: a row for the rewards of steps and one for the returns of episodes, with their number ``n``; NaN where there
        are fewer than two steps or ten episodes, or one of the two never varies
    """
    by_name = [episode.rewards() for episode in episodes]
    levels = {
        "rewards of steps": {name: np.concatenate([rewards[name] for rewards in by_name]) for name in by_name[0]},
        "returns of episodes": {name: np.array([rewards[name].sum() for rewards in by_name]) for name in by_name[0]},
    }
    rows = [
        {"of": level, "learned with": other, "n": len(values["learned"]), **_both(values["learned"], values[other], fewest)}
        for fewest, (level, values) in zip((2, FEWEST_EPISODES), levels.items(), strict=True)
        for other in values
        if other != "learned"
    ]
    return pd.DataFrame(rows)


def true_rewards(episodes: Sequence[Episode]) -> tuple[str, NDArray[np.float64]]:
    """True rewards ``[n]`` of all steps, as far as their task tells them, and of which kind these are.

    :return: ``"undistorted"`` rewards where all episodes tell them, ``"extrinsic"`` ones elsewhere
    """
    told = all(episode.undistorted is not None for episode in episodes)
    name = "undistorted" if told else "extrinsic"
    return name, np.concatenate([episode.rewards()[name] for episode in episodes])


def pearson(learned: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    """Pearson's correlation of two kinds of rewards ``[n]`` of the same steps; NaN where one of them never varies."""
    return _both(learned, other, fewest=2)["pearson"]


def slope(learned: ArrayLike, part: ArrayLike) -> float:
    """Slope of learned rewards on a part of the extrinsic reward that is known, such as what actions cost.

    It is 1 where the part is learned and 0 where the learned reward is blind to it, even if rewards of steps correlate. The
    part must not go with what else is rewarded.

    :param learned: ``[n]``, learned rewards of steps, in the environment's units
    :param part: ``[n]``, that part of the same steps' extrinsic reward
    :raises ValueError: if the part never varies, or there is not one number of each a step
    """
    given, known = np.asarray(learned, dtype=np.float64), np.asarray(part, dtype=np.float64)
    if given.shape != known.shape or given.ndim != 1:
        raise ValueError(f"learned and part must be [n], one number a step, got {given.shape} and {known.shape}")
    centred = known - known.mean() if len(known) else known
    if not centred.any():
        raise ValueError("part must vary from step to step, or there is no slope on it")
    return float(centred @ given / (centred @ centred))


def scales(episodes: Sequence[Episode]) -> dict[str, float]:
    """Standard deviation of each kind of reward of a step: learned rewards may be small beside extrinsic ones."""
    by_name = [episode.rewards() for episode in episodes]
    return {name: float(np.concatenate([rewards[name] for rewards in by_name]).std()) for name in by_name[0]}


def _both(learned: np.ndarray, other: np.ndarray, fewest: int) -> dict[str, float]:
    pair = pd.DataFrame({"learned": learned, "other": other})
    if len(pair) < fewest or (pair.max() == pair.min()).any():
        return {"pearson": np.nan, "spearman": np.nan}
    return {method: float(pair.corr(method).loc["learned", "other"]) for method in ("pearson", "spearman")}  # type: ignore[arg-type]

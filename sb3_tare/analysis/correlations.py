"""Correlations of learned rewards with extrinsic ones, and slopes on their parts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from sb3_tare.analysis.recording import Episode


def correlations(episodes: Sequence[Episode]) -> pd.DataFrame:
    """Pearson's and Spearman's correlation of learned rewards with extrinsic ones, and with undistorted ones if known.

    :return: a row for the rewards of steps and one for the returns of episodes, with their number ``n``; NaN where there
        are fewer than two, or one of the two never varies
    """
    by_name = [episode.rewards() for episode in episodes]
    levels = {
        "rewards of steps": {name: np.concatenate([rewards[name] for rewards in by_name]) for name in by_name[0]},
        "returns of episodes": {name: np.array([rewards[name].sum() for rewards in by_name]) for name in by_name[0]},
    }
    rows = [
        {"of": level, "learned with": other, "n": len(values["learned"]), **_both(values["learned"], values[other])}
        for level, values in levels.items()
        for other in values
        if other != "learned"
    ]
    return pd.DataFrame(rows)


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


def _both(learned: np.ndarray, other: np.ndarray) -> dict[str, float]:
    pair = pd.DataFrame({"learned": learned, "other": other})
    if len(pair) < 2 or (pair.max() == pair.min()).any():
        return {"pearson": np.nan, "spearman": np.nan}
    return {method: float(pair.corr(method).loc["learned", "other"]) for method in ("pearson", "spearman")}  # type: ignore[arg-type]

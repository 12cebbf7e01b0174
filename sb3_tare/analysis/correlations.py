"""Correlations of learned rewards with extrinsic ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

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


def _both(learned: np.ndarray, other: np.ndarray) -> dict[str, float]:
    pair = pd.DataFrame({"learned": learned, "other": other})
    if len(pair) < 2 or (pair.max() == pair.min()).any():
        return {"pearson": np.nan, "spearman": np.nan}
    return {method: float(pair.corr(method).loc["learned", "other"]) for method in ("pearson", "spearman")}  # type: ignore[arg-type]

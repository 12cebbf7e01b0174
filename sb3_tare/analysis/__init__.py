"""Looking at a learned reward: episodes step by step, as pictures and videos; what it looks at, and goes with.

``python -m sb3_tare.analysis MODEL.zip --env ID`` writes all of it. Needs the extra ``plots``.
"""

from typing import TYPE_CHECKING

from sb3_tare.utils.extras import lazily

if TYPE_CHECKING:
    from sb3_tare.analysis.correlating import correlations, slope
    from sb3_tare.analysis.figures import agreement, histogram, importance_bars, timeline
    from sb3_tare.analysis.importance import importances
    from sb3_tare.analysis.loading import load_model, make_env
    from sb3_tare.analysis.naming import observation_names
    from sb3_tare.analysis.recording import Episode, Recording, record, watch
    from sb3_tare.analysis.video import write_video

__all__ = [
    "Episode",
    "Recording",
    "agreement",
    "correlations",
    "histogram",
    "importance_bars",
    "importances",
    "load_model",
    "make_env",
    "observation_names",
    "record",
    "slope",
    "timeline",
    "watch",
    "write_video",
]

__getattr__ = lazily(
    __name__,
    {
        "Episode": "recording",
        "Recording": "recording",
        "agreement": "figures",
        "correlations": "correlating",
        "histogram": "figures",
        "importance_bars": "figures",
        "importances": "importance",
        "load_model": "loading",
        "make_env": "loading",
        "observation_names": "naming",
        "record": "recording",
        "slope": "correlating",
        "timeline": "figures",
        "watch": "recording",
        "write_video": "video",
    },
)

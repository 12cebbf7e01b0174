"""Looking at a learned reward: episodes step by step, as pictures and videos; its distribution; its correlations.

``python -m sb3_tare.analysis MODEL.zip --env ID`` writes all of it. Needs the extra ``plots``.
"""

from typing import TYPE_CHECKING

from sb3_tare.utils.extras import lazily

if TYPE_CHECKING:
    from sb3_tare.analysis.correlating import correlations, slope
    from sb3_tare.analysis.figures import histogram, timeline
    from sb3_tare.analysis.loading import load_model, make_env
    from sb3_tare.analysis.recording import Episode, record
    from sb3_tare.analysis.video import write_video

__all__ = ["Episode", "correlations", "histogram", "load_model", "make_env", "record", "slope", "timeline", "write_video"]

__getattr__ = lazily(
    __name__,
    {
        "Episode": "recording",
        "correlations": "correlating",
        "histogram": "figures",
        "load_model": "loading",
        "make_env": "loading",
        "record": "recording",
        "slope": "correlating",
        "timeline": "figures",
        "write_video": "video",
    },
)

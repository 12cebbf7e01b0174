"""Looking at a learned reward: episodes step by step, as pictures and videos; its distribution; its correlations.

``python -m sb3_tare.analysis MODEL.zip --env ID`` writes all of it. Needs the extra ``plots``.
"""

from sb3_tare.analysis.correlations import correlations, slope
from sb3_tare.analysis.figures import histogram, timeline
from sb3_tare.analysis.loading import load_model, make_env
from sb3_tare.analysis.recording import Episode, record
from sb3_tare.analysis.video import write_video

__all__ = ["Episode", "correlations", "histogram", "load_model", "make_env", "record", "slope", "timeline", "write_video"]

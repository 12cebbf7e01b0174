"""Models and their learned rewards on the Hugging Face hub: packed with a card, pushed, and loaded again.

Needs the extra ``hub``.
"""

from typing import TYPE_CHECKING

from sb3_tare.utils.extras import lazily

if TYPE_CHECKING:
    from sb3_tare.hub.loading import load_from_hub
    from sb3_tare.hub.packing import package
    from sb3_tare.hub.pushing import push_to_hub, upload

__all__ = ["load_from_hub", "package", "push_to_hub", "upload"]

__getattr__ = lazily(
    __name__,
    {"load_from_hub": "loading", "package": "packing", "push_to_hub": "pushing", "upload": "pushing"},
)

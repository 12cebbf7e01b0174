"""SAC with the callback that learns its reward, as one algorithm that a variant can name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stable_baselines3 import SAC
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import MaybeCallback

from sb3_tare import RewardLearner


class LearnedSAC(SAC):
    """SB3's SAC, whose ``learn`` is given a :class:`~sb3_tare.RewardLearner` beside the other callbacks.

    :param reward_kwargs: settings of that learner
    """

    def __init__(self, *args: Any, reward_kwargs: Mapping[str, Any], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.learner = RewardLearner(**reward_kwargs)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "learner"]  # a callback has a file of its own

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        others = callback if isinstance(callback, list) else [callback] if isinstance(callback, BaseCallback) else []
        return super()._init_callback([*others, self.learner], progress_bar)

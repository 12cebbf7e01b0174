"""PPO on a learned reward."""

from __future__ import annotations

from typing import Any, TypeVar

from stable_baselines3.common.type_aliases import MaybeCallback

from sb3_tare.algorithms.owner import LearnsReward
from sb3_tare.lean import LeanPPO
from sb3_tare.settings import RewardKwargs

SelfTAREPPO = TypeVar("SelfTAREPPO", bound="TAREPPO")


class TAREPPO(LearnsReward, LeanPPO):
    """Taming Reward for PPO: a policy trained on a learned reward, a reward trained on the policy's held-out return.

    Takes every argument of :class:`~sb3_tare.LeanPPO`, and so of :class:`stable_baselines3.PPO`, and ``reward_kwargs``.

    :param policy: as for PPO
    :param env: as for PPO
    :param reward_kwargs: settings of the reward learner, plain data; see :class:`~sb3_tare.settings.RewardSettings`
    :raises TypeError: for an unknown setting
    :raises ValueError: for a setting out of its range, or rollouts too short to split
    """

    def __init__(self, *args: Any, reward_kwargs: RewardKwargs | None = None, **kwargs: Any) -> None:
        super().__init__(*args, reward_kwargs=reward_kwargs, **kwargs)

    def learn(
        self: SelfTAREPPO,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "TAREPPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfTAREPPO:
        """Train like ``PPO.learn``; ``rollout/ep_rew_mean`` is the environment's reward, ``reward/...`` the learner's log."""
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

"""LIRPG: learning intrinsic rewards for policy gradient methods (Zheng et al., 2018), with PPO."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar, Unpack

from sb3_contrib import MaskablePPO
from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import MaybeCallback
from torch.optim import Adam, AdamW

from sb3_tare.algorithms.owner import LearnsReward
from sb3_tare.lean import LeanPPO
from sb3_tare.learning.iteration import Iteration
from sb3_tare.learning.learner import RewardLearner
from sb3_tare.learning.plans import WholePlan
from sb3_tare.learning.timing import AfterEachStep
from sb3_tare.learning.trainer import RewardTrainer
from sb3_tare.settings import LearnerSettings, RewardSettings
from sb3_tare.settings.groups import (
    AdvantageSettings,
    CriticSettings,
    GradientSettings,
    NetworkSettings,
    ScheduleSettings,
    StepSettings,
)
from sb3_tare.settings.kwargs import SharedKwargs
from sb3_tare.utils.checks import check_count
from sb3_tare.utils.stopwatch import Stopwatch

SelfLIRPG = TypeVar("SelfLIRPG", bound="LIRPG")


@dataclass(frozen=True)
class OneStepSettings:
    """The gradient through single steps of the policy.

    :param n_reward_updates: reward steps after each step of the policy: 1, or 0, which leaves the reward as it is
    :param through_second_moment: differentiate Adam's second moment too; False takes it for a constant, as the authors do
    :raises ValueError: for a value out of its range
    """

    n_reward_updates: int = 1
    through_second_moment: bool = False

    def __post_init__(self) -> None:
        check_count("n_reward_updates", self.n_reward_updates, least=0)
        if self.n_reward_updates > 1:
            raise ValueError(
                f"n_reward_updates must be 0 or 1 in LIRPG, got {self.n_reward_updates}: after a reward step, the policy's "
                "last step is no longer one on the learned reward"
            )
        if not isinstance(self.through_second_moment, bool):
            raise ValueError(f"through_second_moment must be True or False, got {self.through_second_moment!r}")


class LIRPGKwargs(SharedKwargs, total=False):
    """Keys of ``reward_kwargs`` of :class:`LIRPG`."""

    n_reward_updates: int
    through_second_moment: bool


class LIRPGSettings(LearnerSettings):
    """Settings of :class:`LIRPG`: groups of :class:`~sb3_tare.RewardSettings` that it has a use for, and one of its own.

    The defaults are those of the authors' MuJoCo experiments, where the policy is trained on the learned reward alone, as
    it is in TARE's comparison. Their mixture of both rewards is ``reward_mode="add"`` with ``reward_coef``, the ratio of
    the coefficients of learned and extrinsic reward: the policy's step forgets their common factor, as PPO standardises
    advantages. The network is ``StateActionTanh``, that of LIRPG; ``LSTMbMul`` is TARE's second comparison.

    :raises TypeError: for an unknown name
    :raises ValueError: for a value out of its range, or a setting that has no effect here
    """

    groups: ClassVar[Mapping[str, type[Any]]] = {
        "network": NetworkSettings,
        "advantage": AdvantageSettings,
        "critic": CriticSettings,
        "step": StepSettings,
        "one_step": OneStepSettings,
    }
    own_defaults: ClassVar[Mapping[str, Any]] = {
        "architecture": "StateActionTanh",
        "reward_mode": "replace",
        "normalize_reward": False,
        "learning_rate": 1e-4,
    }
    adam_eps: ClassVar[float] = 1e-5
    gradient = GradientSettings(curvature="identity")

    one_step: OneStepSettings

    def _check(self) -> None:
        super()._check()
        updates = self.one_step.n_reward_updates
        self.schedule = ScheduleSettings(validation="next_rollout", n_reward_updates=updates, reward_every=0)

    def _refusal(self, name: str, value: Any) -> Exception:
        if name == "preset" or name in RewardSettings.names():
            return ValueError(
                f"{name}={value!r} has no effect in LIRPG, whose reward steps follow each step of the policy on the same "
                "mini-batch; leave it out"
            )
        return super()._refusal(name, value)


class LIRPGLearner(RewardLearner):
    """Learns a reward through single steps of its host, a PPO or MaskablePPO.

    :param verbose: as for every SB3 callback
    :param reward_kwargs: see :class:`LIRPGSettings`
    """

    settings_class = LIRPGSettings
    settings: LIRPGSettings

    def __init__(self, verbose: int = 0, **reward_kwargs: Unpack[LIRPGKwargs]) -> None:
        super().__init__(verbose, **reward_kwargs)  # type: ignore[misc]

    def attach(self, model: Any, drives_host: bool = True) -> None:
        """Build all networks for ``model``, as :meth:`~sb3_tare.RewardLearner.attach` does.

        :raises TypeError: if ``model`` does not train by mini-batches of a clipped objective
        :raises ValueError: if its policy is not optimised by plain Adam
        """
        if not isinstance(model, (PPO, MaskablePPO)):
            raise TypeError(
                f"LIRPG differentiates through PPO's steps on mini-batches; {type(model).__name__} does not train by them. "
                "Supported: PPO, MaskablePPO and their subclasses"
            )
        _check_optimiser(model.policy.optimizer)
        super().attach(model, drives_host)

    def _iteration(self, trainer: RewardTrainer) -> Iteration:
        clock = Stopwatch()
        return Iteration(trainer, WholePlan(trainer), AfterEachStep(trainer, clock), clock)


class LIRPG(LearnsReward, LeanPPO):
    """PPO on a learned reward, which follows the gradient of the extrinsic objective through each of PPO's own steps.

    Where TARE validates the reward on held-out episodes and differentiates implicitly through the whole policy update,
    LIRPG uses the mini-batch that the policy was just stepped on and differentiates that step of Adam alone.

    Takes every argument of :class:`~sb3_tare.LeanPPO`, and so of PPO, and ``reward_kwargs``. The authors' code differs in the
    critics: there the one of mixed returns is trained with the policy and the extrinsic one with the reward. Here it is the
    other way round, as in :class:`~sb3_tare.TAREPPO`, so that the policy's own values are extrinsic.

    :param policy: as for PPO
    :param env: as for PPO
    :param reward_kwargs: settings of the reward learner, plain data; see :class:`LIRPGSettings`
    :raises TypeError: for an unknown setting
    :raises ValueError: for a setting out of its range or without effect, or an optimiser other than Adam
    """

    learner_class = LIRPGLearner

    def __init__(self, *args: Any, reward_kwargs: LIRPGKwargs | None = None, **kwargs: Any) -> None:
        super().__init__(*args, reward_kwargs=reward_kwargs, **kwargs)

    def learn(
        self: SelfLIRPG,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "LIRPG",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfLIRPG:
        """Train like ``PPO.learn``; ``rollout/ep_rew_mean`` is the environment's reward, ``reward/...`` the learner's log."""
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)


def _check_optimiser(optimiser: Any) -> None:
    name = type(optimiser).__name__
    if not isinstance(optimiser, Adam):
        raise ValueError(f"LIRPG differentiates through Adam, got optimizer_class={name}: leave it at torch.optim.Adam")
    if len(optimiser.param_groups) != 1:
        raise ValueError(f"LIRPG needs an optimiser with one group of parameters, got {len(optimiser.param_groups)}")
    group = optimiser.param_groups[0]
    changed = [f"{key}={group[key]}" for key in ("weight_decay", "amsgrad", "maximize") if group[key]]
    if changed and isinstance(optimiser, AdamW):
        raise ValueError(
            f"LIRPG differentiates through plain Adam, got {name} with {', '.join(changed)}, which may be its defaults: "
            "leave optimizer_class at torch.optim.Adam"
        )
    if changed:
        raise ValueError(
            f"LIRPG differentiates through plain Adam, got {name} with {', '.join(changed)}: leave it out of optimizer_kwargs"
        )

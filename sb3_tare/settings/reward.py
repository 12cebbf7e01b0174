"""The settings of :class:`~sb3_tare.RewardLearner`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from sb3_tare.settings.flat import FlatSettings
from sb3_tare.settings.groups import (
    AdvantageSettings,
    CriticSettings,
    DecompositionSettings,
    GradientSettings,
    NetworkSettings,
    ScheduleSettings,
    StepSettings,
)

_PAPER: dict[str, Any] = {
    "architecture_kwargs": {"lstm_layers": 2},
    "reward_mode": "replace",
    "validation": "split",
    "swap": True,
    "gae_lambda": 1.0,
    "n_reward_updates": 1,
    "interleave": False,
}
_PAPER_CURVATURE: dict[str, Any] = {"curvature": "fisher", "curvature_episodes": "validation", "damping": 0.1}

PRESETS: dict[str, dict[str, Any]] = {
    "decomposition": {
        "return_decomposition": True,
        "architecture": "StateActionUnbounded",
        "reward_mode": "replace",
        "critics": 1,
        "normalize_reward": False,
        "validation": "next_rollout",
        "n_reward_updates": 0,
        "reward_every": 2048,  # as many fits for each step, however short a rollout is, as with PPO's default rollouts
    },
    "implicit": {},
    "paper": {**_PAPER, **_PAPER_CURVATURE},
    "paper_literal": {**_PAPER, **_PAPER_CURVATURE, "critics": 1, "curvature": "hessian"},
    "paper_residual": {**_PAPER, "residual": True, "critics": 1, "gae_lambda": None, "hypergradient_rollouts": 16},
}
"""Values that a ``preset`` sets where the user does not; see :class:`RewardSettings`."""


class LearnerSettings(FlatSettings):
    """Settings that every reward learner reads, whether its user can choose all of them or not."""

    adam_eps: ClassVar[float] = 1e-8
    """Epsilon of the learner's Adam optimisers, PyTorch's default."""

    network: NetworkSettings
    advantage: AdvantageSettings
    critic: CriticSettings
    schedule: ScheduleSettings
    gradient: GradientSettings
    step: StepSettings
    decomposition: DecompositionSettings = DecompositionSettings()

    @property
    def starts_at_zero(self) -> bool:
        """Whether the network's last layer starts at zero."""
        zero_head = self.network.zero_head
        return self.advantage.reward_mode == "add" or self.advantage.residual if zero_head is None else zero_head

    @property
    def takes_hypergradients(self) -> bool:
        """Whether the reward follows the gradient through the policy's updates at all."""
        return self.schedule.n_reward_updates > 0 or self.decomposition.hypergradient_share > 0

    @property
    def averaged_gradients(self) -> int:
        """Hypergradients that make a step; where each half of a rollout trains, a rollout has two."""
        if self.decomposition.hypergradient_share > 0:
            return self.gradient.hypergradient_rollouts or 4
        n_rollouts = self.gradient.hypergradient_rollouts or 1
        halves = self.schedule.validation == "split" and self.schedule.swap
        return 2 * n_rollouts if halves and n_rollouts > 1 else n_rollouts

    def _check(self) -> None:
        if self.decomposition.return_decomposition:
            self._check_decomposition()
        elif self.preset == "decomposition":
            raise ValueError(
                "return_decomposition=False leaves preset='decomposition', the default, nothing to learn by: take "
                "preset='implicit', the implicit gradient alone, on PPO and its like; leave it out on SAC, DQN and their like"
            )
        if self.decomposition.hypergradient_share > 0:
            self._check_share()
        elif (self.gradient.hypergradient_rollouts or 1) > 1:
            self._check_averaging()

    def _check_share(self) -> None:
        needed: dict[str, tuple[Any, Any]] = {
            "return_decomposition": (self.decomposition.return_decomposition, True),
            "validation": (self.schedule.validation, "next_rollout"),
            "n_reward_updates": (self.schedule.n_reward_updates, 0),
        }
        for name, (value, works) in needed.items():
            if value != works:
                raise ValueError(
                    f"hypergradient_share={self.decomposition.hypergradient_share} is a share of the steps that decompose "
                    f"returns, and needs {name}={works!r}, got {value!r}"
                )

    def _check_averaging(self) -> None:
        if self.schedule.interleave or self.schedule.n_reward_updates > 1:
            raise ValueError(
                f"hypergradient_rollouts={self.gradient.hypergradient_rollouts} averages gradients before one step, so it "
                "goes with n_reward_updates=1 and interleave=False: leave it out, or these"
            )

    def _check_decomposition(self) -> None:
        network = self.network.network_class
        needed = {"reward_mode": (self.advantage.reward_mode, "replace"), "critics": (self.critic.critics, 1)}
        needed["normalize_reward"] = (self.advantage.normalize_reward, False)
        for name, (value, works) in needed.items():
            if value != works:
                raise ValueError(
                    f"return_decomposition=True needs {name}={works!r}, got {value!r}: preset='decomposition', the default, "
                    f"sets all that goes with it. preset='implicit', the implicit gradient alone, takes {name}={value!r} on "
                    f"PPO and its like; SAC, DQN and their like decompose returns: leave {name} out there"
                )
        if self.advantage.residual:
            raise ValueError(
                "residual=True puts the extrinsic reward into the learned one, which a decomposition learns from totals "
                "alone: leave it out, or take preset='paper_residual', on PPO and its like"
            )
        if getattr(network, "sees_reward", True) or getattr(network, "context", "episode") != "step":
            raise ValueError(
                f"return_decomposition=True needs an architecture that sees the state and action of a step alone, which "
                f"{network.__name__} does not say of itself: preset='decomposition', the default, takes StateActionUnbounded, "
                "and preset='implicit', the implicit gradient alone, takes any on PPO and its like; a class of your own has "
                "the attributes sees_reward = False and context = 'step'"
            )


class RewardSettings(LearnerSettings):
    """Settings of :class:`~sb3_tare.RewardLearner`: its keyword arguments, and the keys of ``reward_kwargs``.

    Each is a field of one of the groups below, which say what it means: :class:`~sb3_tare.settings.groups.NetworkSettings`
    (what is learned), :class:`~sb3_tare.settings.groups.AdvantageSettings` (what the policy is trained on),
    :class:`~sb3_tare.settings.groups.CriticSettings`, :class:`~sb3_tare.settings.groups.ScheduleSettings` (when the reward is
    trained), :class:`~sb3_tare.settings.groups.GradientSettings`, :class:`~sb3_tare.settings.groups.StepSettings` and
    :class:`~sb3_tare.settings.groups.DecompositionSettings`.

    ``preset="decomposition"``, the default, learns the reward from the totals of whole episodes alone and pays it in their
    place, as far as it foretells what is paid (``trust_slope``): one critic, whole rollouts, no hypergradient.

    ``preset="implicit"`` learns it by the implicit gradient alone, with the groups' own defaults: beside the extrinsic reward
    (``add``), split and swap, two critics.

    ``preset="paper"`` is the setting of the paper's comparison where its text decides (sections 2.2 and 2.4, appendix F):
    ``replace``, split and swap, ``gae_lambda=1``, one reward step a phase, two LSTM layers. It is not the paper to the letter:
    the curvature is the Fisher matrix, which is positive semi-definite where the Hessian of eq. 14 need not be, and learned
    returns have a critic of their own, as in LIRPG. ``preset="paper_literal"`` takes these too as they are printed: the
    Hessian of the objective on the validation episodes (eq. 14), and one critic. ``preset="paper_residual"`` stays within the
    paper's words and starts as the host: the learned reward, in place of the extrinsic one, is that one plus a network whose
    last layer starts at zero; one critic, the host's lambda, the curvature of the defaults, and a step on the mean of 16
    rollouts' gradients.

    :param preset: ``"decomposition"``, ``"implicit"``, ``"paper"``, ``"paper_literal"`` or ``"paper_residual"``; what else is
        said goes before it
    :param seed: of the reward's initial weights, splits and shuffles; None takes the model's
    :raises TypeError: for an unknown name
    :raises ValueError: for a value out of its range, or a combination that cannot work
    """

    groups: ClassVar[Mapping[str, type[Any]]] = {
        "network": NetworkSettings,
        "advantage": AdvantageSettings,
        "critic": CriticSettings,
        "schedule": ScheduleSettings,
        "gradient": GradientSettings,
        "step": StepSettings,
        "decomposition": DecompositionSettings,
    }
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = PRESETS
    default_preset: ClassVar[str | None] = "decomposition"

    def _preset(self, preset: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        """The preset's arguments of the network are those of its own network."""
        values = dict(PRESETS[preset])
        if settings.get("architecture", "LSTMbMul") != "LSTMbMul":
            values.pop("architecture_kwargs", None)
        return values

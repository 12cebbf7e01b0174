"""All settings of the reward learner, as plain data that a yaml file can hold."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar

from torch import nn

from sb3_tare.networks.registry import ARCHITECTURES
from sb3_tare.utils.checks import check_choice, check_count, check_number

PRESETS: dict[str, dict[str, Any]] = {
    "paper": {
        "reward_mode": "replace",
        "validation": "split",
        "swap": True,
        "gae_lambda": 1.0,
        "n_reward_updates": 1,
        "interleave": False,
    }
}
"""What ``preset`` sets where the user does not: the setting of the paper's comparison (sections 2.2 and 2.4)."""

_CHOICES: dict[str, tuple[Any, ...]] = {
    "preset": (None, *PRESETS),
    "features": ("policy", "own"),
    "reward_mode": ("add", "replace"),
    "critics": (1, 2),
    "validation": ("split", "next_rollout"),
    "curvature": ("fisher", "hessian", "identity"),
    "curvature_episodes": ("validation", "training"),
    "actor_parameters": ("all", "without_log_std"),
    "swap": (True, False),
    "interleave": (True, False),
    "center": (True, False),
    "normalize_reward": (True, False),
    "zero_head": (None, True, False),
}
_POSITIVE = ("learning_rate", "critic_learning_rate", "max_grad_norm")
_NOT_NEGATIVE = ("reward_coef", "damping", "kl_coef", "return_consistency")
_COUNTS = {
    "cg_steps": 1,
    "n_reward_updates": 0,
    "critic_batch_size": 1,
    "critic_epochs": 0,
    "consistency_window": 1,
    "consistency_rollouts": 1,
    "consistency_updates": 1,
    "consistency_batch_size": 1,
}


@dataclass(frozen=True, init=False)
class RewardSettings:
    """Settings of :class:`~sb3_tare.RewardLearner`: its keyword arguments, and the keys of ``reward_kwargs``.

    What is learned
        :param preset: ``"paper"`` sets what the paper's comparison uses where nothing else is said: ``replace``, split and
            swap, ``gae_lambda=1``, one reward step a phase
        :param architecture: name of a reward network (``LSTMbMul``, the paper's default; ``LSTMb``, ``LSTMf``, ``MLPMul``,
            ``MLPConcat``, ``StateAction``, ``StateActionTanh``), or a ``torch.nn.Module`` class as described in
            :mod:`sb3_tare.networks`
        :param architecture_kwargs: its own arguments: ``hidden_size`` (64), ``lstm_hidden_size`` (32, table 1), ``bound``
            (20, table 1; 1 in ``StateActionTanh``)
        :param features: the state as the reward sees it: ``"policy"``, the policy's feature extractor, shared and detached
            (appendix F), or ``"own"``, an extractor of the same kind that learns with the reward
        :param zero_head: start the network's last layer at zero, so that training starts exactly as the host's; None means
            yes in ``add`` and no in ``replace``
        :param initial_reward: file of an exported :class:`~sb3_tare.LearnedReward` whose weights the network starts with, in
            the unit of the rewards that it then meets; with ``n_reward_updates=0`` it stays as it is. Read when a model is
            new, and not when a saved one goes on

    What the policy is trained on
        :param reward_mode: ``"add"``: extrinsic reward plus ``reward_coef`` times the learned one (introduction);
            ``"replace"``: the learned one alone (section 2.2)
        :param reward_coef: coefficient of the learned reward in ``add``
        :param normalize_reward: express the learned reward in units of the extrinsic reward's running standard deviation,
            and show it to the network standardised (appendix F); False leaves both in the environment's units
        :param center: subtract the learned reward's mean over the training part, so that it cannot make mere survival
            good or bad
        :param gae_lambda: lambda of the parameterised advantage; None takes the host's, 1.0 is the paper's text
        :param critics: 2: one critic of extrinsic returns, the policy's own, and one of learned returns, the learner's
            (as in LIRPG); 1: the policy's own critic, of the rewards that the policy is trained on
        :param critic_learning_rate: Adam step size of the second critic
        :param critic_batch_size: steps in one of its mini-batches
        :param critic_epochs: its passes over each rollout

    When the reward is trained
        :param validation: ``"split"``: the rollout's episodes, split at random (Algorithm 1); ``"next_rollout"``: the whole
            rollout trains the policy, and the rollout that the updated policy collects next validates it
        :param swap: after the first part has trained the policy and the second the reward, exchange them (appendix F)
        :param interleave: a reward step after each of the host's epochs, in place of one after all of them
        :param n_reward_updates: gradient steps on the reward after each policy update; 0 leaves it as it is

    Its gradient
        :param curvature: ``"fisher"``: Hessian of the KL term at the updated policy, always positive semi-definite;
            ``"hessian"``: that of the whole objective of eq. 11; ``"identity"``: no curvature, a one-step approximation
        :param curvature_episodes: where it is measured: ``"validation"`` (eq. 14 as printed) or ``"training"`` (Theorem 1)
        :param kl_coef: coefficient beta of the KL term (eq. 3)
        :param damping: added to the curvature's diagonal (0.1 as sb3-contrib's TRPO)
        :param cg_steps: steps of conjugate gradient (table 1: 10)
        :param actor_parameters: those that enter the gradient: ``"all"`` of the actor's, or ``"without_log_std"``
        :param learning_rate: Adam step size of the reward (table 1: 1e-3)
        :param max_grad_norm: clip of the gradients of reward and second critic (table 1: 0.5)

    Return consistency, for networks that do not see the reward
        :param return_consistency: step size, relative to ``learning_rate``, of Adam steps that make the learned reward sum
            to the extrinsic one over windows of episodes; 0 leaves them out
        :param consistency_window: steps in a window; well above the reward's delay
        :param consistency_rollouts: rollouts kept to draw windows from
        :param consistency_updates: steps for each rollout
        :param consistency_batch_size: windows in a step

    :param seed: of the reward's initial weights, splits and shuffles; None takes the model's
    :raises TypeError: for an unknown name
    :raises ValueError: for a value out of its range, or a combination that cannot work
    """

    adam_eps: ClassVar[float] = 1e-8
    """Epsilon of the learner's Adam optimisers, PyTorch's default."""

    preset: str | None = None
    architecture: str | type[nn.Module] = "LSTMbMul"
    architecture_kwargs: Mapping[str, Any] = field(default_factory=dict)
    features: str = "policy"
    zero_head: bool | None = None
    initial_reward: str | None = None
    reward_mode: str = "add"
    reward_coef: float = 1.0
    normalize_reward: bool = True
    center: bool = False
    gae_lambda: float | None = None
    critics: int = 2
    critic_learning_rate: float = 3e-3
    critic_batch_size: int = 512
    critic_epochs: int = 4
    validation: str = "split"
    swap: bool = True
    interleave: bool = False
    n_reward_updates: int = 1
    curvature: str = "fisher"
    curvature_episodes: str = "validation"
    kl_coef: float = 1.0
    damping: float = 0.1
    cg_steps: int = 10
    actor_parameters: str = "all"
    learning_rate: float = 1e-3
    max_grad_norm: float = 0.5
    return_consistency: float = 0.0
    consistency_window: int = 200
    consistency_rollouts: int = 20
    consistency_updates: int = 20
    consistency_batch_size: int = 256
    seed: int | None = None

    def __init__(self, **settings: Any) -> None:
        known = {setting.name: setting for setting in fields(self)}
        for name in settings.keys() - known.keys():
            close = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
            raise TypeError(f"unknown reward setting {name!r}; {hint}")
        preset = settings.get("preset")
        check_choice("preset", preset, _CHOICES["preset"])
        chosen = {**(PRESETS[preset] if preset else {}), **settings}
        for name, setting in known.items():
            default = {} if name == "architecture_kwargs" else setting.default
            object.__setattr__(self, name, chosen.get(name, default))  # as dataclasses do it where they are frozen
        self._check()

    def _check(self) -> None:
        for name in _CHOICES:
            check_choice(name, getattr(self, name), _CHOICES[name])
        for name in _POSITIVE:
            check_number(name, getattr(self, name), above=0.0)
        for name in _NOT_NEGATIVE:
            check_number(name, getattr(self, name), at_least=0.0)
        for name, least in _COUNTS.items():
            check_count(name, getattr(self, name), least)
        if self.gae_lambda is not None:
            check_number("gae_lambda", self.gae_lambda, at_least=0.0, at_most=1.0)
        if self.seed is not None:
            check_count("seed", self.seed, least=0, otherwise=" or None")
        if self.initial_reward is not None and not isinstance(self.initial_reward, str):
            raise ValueError(f"initial_reward must be the path of an exported reward, as text, got {self.initial_reward!r}")
        if not isinstance(self.architecture_kwargs, Mapping):
            raise ValueError(f"architecture_kwargs must be a mapping, got {self.architecture_kwargs!r}")
        self._check_combinations()

    def _check_combinations(self) -> None:
        network = self.network_class
        if self.initial_reward is not None and self.zero_head:
            raise ValueError("zero_head=True would undo initial_reward: leave one of them out")
        if self.reward_mode == "replace" and self.reward_coef != 1.0:
            raise ValueError(
                f"reward_coef={self.reward_coef} scales the learned reward beside the extrinsic one, of which "
                "reward_mode='replace' leaves nothing: leave it out, or set reward_mode='add'"
            )
        if self.interleave and self.validation == "next_rollout":
            raise ValueError(
                "interleave=True needs its validation episodes at once, so it goes with validation='split', not with "
                "'next_rollout', whose validation episodes are collected after the policy's update"
            )
        if self.return_consistency > 0 and getattr(network, "sees_reward", True):
            raise ValueError(
                f"return_consistency={self.return_consistency} needs a reward network that does not see the extrinsic "
                f"reward, as one that does could copy it; {network.__name__} sees it. architecture='StateAction' does not; "
                "a class of your own says so with the attribute sees_reward = False"
            )

    @property
    def network_class(self) -> type[nn.Module]:
        """The class that ``architecture`` names."""
        if isinstance(self.architecture, str):
            if self.architecture not in ARCHITECTURES:
                raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}, got {self.architecture!r}")
            return ARCHITECTURES[self.architecture]
        if isinstance(self.architecture, type) and issubclass(self.architecture, nn.Module):
            return self.architecture
        raise ValueError(f"architecture must be a name or a torch.nn.Module class, got {self.architecture!r}")

    @property
    def starts_at_zero(self) -> bool:
        """Whether the network's last layer starts at zero."""
        return self.reward_mode == "add" if self.zero_head is None else self.zero_head

"""Groups of settings: what belongs together, with its defaults and checks. An algorithm's settings are made of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from sb3_tare.networks.registry import ARCHITECTURES
from sb3_tare.utils.checks import check_choice, check_count, check_number
from sb3_tare.utils.schedules import Scheduled, written


@dataclass(frozen=True)
class NetworkSettings:
    """The reward network that is learned.

    :param architecture: name of a reward network (``LSTMbMul``, the paper's default; ``LSTMb``, ``LSTMf``, ``MLPMul``,
        ``MLPConcat``, ``StateAction``, ``StateActionTanh``, ``StateActionUnbounded``), or a ``torch.nn.Module`` class as
        described in :mod:`sb3_tare.networks`
    :param architecture_kwargs: its own arguments: ``hidden_size`` (64), ``lstm_hidden_size`` (32, table 1), ``bound``
        (20, table 1; 1 in ``StateActionTanh``)
    :param features: the state as the reward sees it: ``"policy"``, the policy's feature extractor, shared and detached
        (appendix F), or ``"own"``, an extractor of the same kind that learns with the reward, whose features no running
        statistics standardise. Return decomposition on rollouts keeps features, and takes those of the policy's extractor as
        it was in the beginning where that goes on learning
    :param zero_head: start the network's last layer at zero, so that training starts exactly as the host's; None means
        yes in ``add`` and no in ``replace``
    :param initial_reward: file of an exported :class:`~sb3_tare.LearnedReward` whose weights the network starts with, in
        the unit of the rewards that it then meets; with ``preset="implicit"`` and ``n_reward_updates=0`` it stays as it
        is, while return decomposition fits it on. Read when a model is new, and not when a saved one goes on
    :raises ValueError: for a value that is none of these
    """

    architecture: str | type[nn.Module] = "LSTMbMul"
    architecture_kwargs: Mapping[str, Any] = field(default_factory=dict)
    features: str = "policy"
    zero_head: bool | None = None
    initial_reward: str | None = None

    def __post_init__(self) -> None:
        check_choice("features", self.features, ("policy", "own"))
        check_choice("zero_head", self.zero_head, (None, True, False))
        if self.initial_reward is not None and not isinstance(self.initial_reward, str):
            raise ValueError(f"initial_reward must be the path of an exported reward, as text, got {self.initial_reward!r}")
        if not isinstance(self.architecture_kwargs, Mapping):
            raise ValueError(f"architecture_kwargs must be a mapping, got {self.architecture_kwargs!r}")
        if self.initial_reward is not None and self.zero_head:
            raise ValueError("zero_head=True would undo initial_reward: leave one of them out")
        if isinstance(self.architecture, str):
            if self.architecture not in ARCHITECTURES:
                raise ValueError(f"architecture must be one of {', '.join(ARCHITECTURES)}, got {self.architecture!r}")
        elif not (isinstance(self.architecture, type) and issubclass(self.architecture, nn.Module)):
            raise ValueError(f"architecture must be a name or a torch.nn.Module class, got {self.architecture!r}")

    @property
    def network_class(self) -> type[nn.Module]:
        """The class that ``architecture`` names."""
        return ARCHITECTURES[self.architecture] if isinstance(self.architecture, str) else self.architecture


@dataclass(frozen=True)
class AdvantageSettings:
    """The rewards and advantages that the policy is trained on.

    :param reward_mode: ``"add"``: extrinsic reward plus ``reward_coef`` times the learned one (introduction);
        ``"replace"``: the learned one alone (section 2.2)
    :param reward_coef: coefficient of the learned reward in ``add``, or its schedule
    :param normalize_reward: express the learned reward in units of the extrinsic reward's running standard deviation,
        and show it to the network standardised (appendix F); False leaves both in the environment's units
    :param center: subtract the learned reward's mean over the training part, so that it cannot make mere survival
        good or bad
    :param gae_lambda: lambda of the parameterised advantage; None takes the host's, 1.0 is the paper's text
    :param residual: in ``replace``, the learned reward is the extrinsic one plus what the network returns
    :raises ValueError: for a value out of its range, or without effect
    """

    reward_mode: str = "add"
    reward_coef: Scheduled = 1.0
    normalize_reward: bool = True
    center: bool = False
    gae_lambda: float | None = None
    residual: bool = False

    def __post_init__(self) -> None:
        check_choice("reward_mode", self.reward_mode, ("add", "replace"))
        _write(self, "reward_coef")
        check_choice("normalize_reward", self.normalize_reward, (True, False))
        check_choice("center", self.center, (True, False))
        check_choice("residual", self.residual, (True, False))
        if self.gae_lambda is not None:
            check_number("gae_lambda", self.gae_lambda, at_least=0.0, at_most=1.0)
        if self.residual and self.reward_mode == "add":
            raise ValueError(
                "residual=True puts the extrinsic reward into the learned one, beside which reward_mode='add' would pay it a "
                "second time: set reward_mode='replace', or leave residual out"
            )
        if self.reward_mode == "replace" and self.reward_coef != 1.0:
            raise ValueError(
                f"reward_coef={self.reward_coef} scales the learned reward beside the extrinsic one, of which "
                "reward_mode='replace' leaves nothing: leave it out, or set reward_mode='add'"
            )


@dataclass(frozen=True)
class CriticSettings:
    """The critics that say what rewards are to come.

    :param critics: 2: one critic of extrinsic returns, the policy's own, and one of learned returns, the learner's
        (as in LIRPG); 1: the policy's own critic, of the rewards that the policy is trained on
    :param critic_learning_rate: Adam step size of the second critic, or its schedule
    :param critic_batch_size: steps in one of its mini-batches
    :param critic_epochs: its passes over each rollout
    :raises ValueError: for a value out of its range
    """

    critics: int = 2
    critic_learning_rate: Scheduled = 3e-3
    critic_batch_size: int = 512
    critic_epochs: int = 4

    def __post_init__(self) -> None:
        check_choice("critics", self.critics, (1, 2))
        _write(self, "critic_learning_rate", above=0.0)
        check_count("critic_batch_size", self.critic_batch_size, least=1)
        check_count("critic_epochs", self.critic_epochs, least=0)


@dataclass(frozen=True)
class ScheduleSettings:
    """The times at which the reward is trained, and the steps that validate it.

    :param validation: ``"split"``: the rollout's episodes, split at random (Algorithm 1); ``"next_rollout"``: the whole
        rollout trains the policy, and the rollout that the updated policy collects next validates it
    :param swap: after the first part has trained the policy and the second the reward, exchange them (appendix F)
    :param interleave: a reward step after each of the host's epochs, in place of one after all of them
    :param n_reward_updates: gradient steps on the reward after each policy update; 0 leaves it as it is
    :param reward_every: least number of environment steps between two reward phases: rollouts of fewer are pooled until
        there are as many, as a phase costs nearly as much for 128 steps as for 2,048 and tells less. In return decomposition,
        least number between two fits, which is 2048 with its preset. 0: a phase for each rollout
    :raises ValueError: for a value out of its range, or a combination that cannot work
    """

    validation: str = "split"
    swap: bool = True
    interleave: bool = False
    n_reward_updates: int = 1
    reward_every: int = 512

    def __post_init__(self) -> None:
        check_choice("validation", self.validation, ("split", "next_rollout"))
        check_choice("swap", self.swap, (True, False))
        check_choice("interleave", self.interleave, (True, False))
        check_count("n_reward_updates", self.n_reward_updates, least=0)
        check_count("reward_every", self.reward_every, least=0)
        if self.interleave and self.validation == "next_rollout":
            raise ValueError(
                "interleave=True needs its validation episodes at once, so it goes with validation='split', not with "
                "'next_rollout', whose validation episodes are collected after the policy's update"
            )


@dataclass(frozen=True)
class GradientSettings:
    """The reward's implicit gradient.

    :param curvature: ``"fisher"``: Hessian of the KL term at the updated policy, always positive semi-definite;
        ``"hessian"``: that of the whole objective of eq. 11; ``"identity"``: no curvature, a one-step approximation;
        ``"adam"``: the diagonal by which the host's own Adam divides its steps, over its mean, undamped, solved exactly. None:
        ``"adam"`` where an Adam moves the actor, as in PPO, which comes nearest to the gradient through all of its steps
        (``sb3_tare.experiments.benchmarks.curvatures``), and ``"fisher"`` on other hosts
    :param curvature_episodes: where it is measured: ``"validation"`` (eq. 14 as printed) or ``"training"`` (Theorem 1)
    :param kl_coef: coefficient beta of the KL term (eq. 3)
    :param damping: added to the curvature's diagonal (0.1 as sb3-contrib's TRPO)
    :param cg_steps: steps of conjugate gradient (table 1: 10)
    :param actor_parameters: those that enter the gradient: ``"all"`` of the actor's, or ``"without_log_std"``
    :param curvature_samples: steps that the curvature is measured on, drawn at random where there are more, as by
        sb3-contrib's TRPO with ``sub_sampling_factor``. Products with the curvature are most of a large rollout's reward
        phase; the default leaves rollouts of up to 4,096 steps whole
    :param hold_features: hold what the policy's feature extractor makes of observations fixed, so that gradients are those
        of the layers behind it: observations pass through it once for each update of the policy, in place of some sixty
        times. None: where observations are images; what it saves is in ``examples/results/speed``
    :param chunk_rows: observations that pass through an extractor at a time, which bounds memory; gradients of the policy
        are summed over as many steps at a time too. None: 256 where observations are images, else all at once
    :param hypergradient_rollouts: rollouts whose gradients are averaged before one step is taken; None means 4 beside a
        decomposition (``hypergradient_share``), and 1 elsewhere
    :raises ValueError: for a value out of its range
    """

    curvature: str | None = None
    curvature_episodes: str = "validation"
    kl_coef: float = 1.0
    damping: float = 0.1
    cg_steps: int = 10
    actor_parameters: str = "all"
    curvature_samples: int = 4096
    hold_features: bool | None = None
    chunk_rows: int | None = None
    hypergradient_rollouts: int | None = None

    def __post_init__(self) -> None:
        check_choice("curvature", self.curvature, (None, "fisher", "hessian", "identity", "adam"))
        check_choice("curvature_episodes", self.curvature_episodes, ("validation", "training"))
        check_number("kl_coef", self.kl_coef, at_least=0.0)
        check_number("damping", self.damping, at_least=0.0)
        check_count("cg_steps", self.cg_steps, least=1)
        check_choice("actor_parameters", self.actor_parameters, ("all", "without_log_std"))
        check_count("curvature_samples", self.curvature_samples, least=2)
        check_choice("hold_features", self.hold_features, (None, True, False))
        if self.chunk_rows is not None:
            check_count("chunk_rows", self.chunk_rows, least=1, otherwise=" or None")
        if self.hypergradient_rollouts is not None:
            check_count("hypergradient_rollouts", self.hypergradient_rollouts, least=1, otherwise=" or None")


@dataclass(frozen=True)
class StepSettings:
    """The reward's steps along its gradient.

    :param learning_rate: Adam step size of the reward, or its schedule (table 1: 1e-3)
    :param max_grad_norm: clip of the gradients of reward and second critic (table 1: 0.5)
    :raises ValueError: for a value out of its range
    """

    learning_rate: Scheduled = 1e-3
    max_grad_norm: float = 0.5

    def __post_init__(self) -> None:
        _write(self, "learning_rate", above=0.0)
        check_number("max_grad_norm", self.max_grad_norm, above=0.0)


@dataclass(frozen=True)
class DecompositionSettings:
    """Return decomposition: rewards of steps that sum to what whole episodes paid, for networks that do not see the reward.

    Defaults are those of method and measurements with PPO's defaults on MuJoCo's tasks; ``preset="decomposition"``, the
    default, switches it on and sets what goes with it.

    :param return_decomposition: whether the learned reward is fitted to the totals of finished episodes, and paid in place of
        what the environment pays
    :param decomposition_steps: steps m drawn of each episode in a mini-batch
    :param decomposition_episodes: episodes in a mini-batch
    :param decomposition_updates: steps of Adam before an update of the policy, once ``reward_every`` steps were collected;
        off-policy, for every 2,048 steps collected
    :param decomposition_learning_rate: Adam step size, or its schedule
    :param decomposition_memory: steps of finished episodes kept, all of them until there are more, then a uniform sample;
        off-policy the replay buffer is the memory
    :param decomposition_length: steps after which an episode is cut, each part with what was paid in it. Where rewards come at
        an episode's end it must be an episode's length at least; where they come step by step, endless episodes are learned
        from. Off-policy episodes stay whole
    :param decomposition_recent: share of the episodes in a mini-batch that are drawn from the newest tenth of those kept;
        not with AWR, whose memory is recent as a whole
    :param shrinkage: of rewards towards the mean of their episode, of L steps. ``"steps"``: what drawing m steps brings with
        it, L / m times the variance within the episode; ``"penalty"``: ``shrinkage_penalty`` times the variance, or L / m
        times where that is more; ``"none"``: an unbiased estimate from two halves of the draw
    :param shrinkage_penalty: see ``shrinkage``
    :param action_cost: solve what the squared size of actions costs exactly, apart from the network, where actions are a Box
    :param trust_slope: slope of what is paid on what the learned reward foretold of it, from which on the learned reward is
        paid alone; below it the extrinsic reward has a share, and at zero all. 0 trusts it at once. None: 0.5 where a host
        collects rollouts; with AWR and off-policy there is no guard
    :param hypergradient_share: the implicit gradient beside the fit: once those of ``hypergradient_rollouts`` rollouts have
        been averaged, each step of the next fit follows their mean too, scaled to this share of its own gradient's norm
    :raises ValueError: for a value out of its range
    """

    return_decomposition: bool = False
    decomposition_steps: int = 64
    decomposition_episodes: int = 32
    decomposition_updates: int = 50
    decomposition_learning_rate: Scheduled = 1e-3
    decomposition_memory: int = 1_000_000
    decomposition_length: int = 1_000
    decomposition_recent: float = 0.0
    shrinkage: str = "steps"
    shrinkage_penalty: float = 16.0
    action_cost: bool = True
    trust_slope: float | None = None
    hypergradient_share: float = 0.0

    def __post_init__(self) -> None:
        check_choice("return_decomposition", self.return_decomposition, (True, False))
        check_choice("action_cost", self.action_cost, (True, False))
        check_choice("shrinkage", self.shrinkage, ("steps", "penalty", "none"))
        check_count("decomposition_episodes", self.decomposition_episodes, least=1)
        check_count("decomposition_updates", self.decomposition_updates, least=1)
        check_count("decomposition_length", self.decomposition_length, least=1)
        check_count(
            "decomposition_memory",
            self.decomposition_memory,
            self.decomposition_length,
            f", one episode of decomposition_length={self.decomposition_length}",
        )
        least = 1 if self.shrinkage == "steps" else 2
        check_count("decomposition_steps", self.decomposition_steps, least, f" with shrinkage={self.shrinkage!r}")
        if self.shrinkage == "none" and self.decomposition_steps % 2:
            raise ValueError(
                "decomposition_steps must be even with shrinkage='none', which needs two halves, "
                f"got {self.decomposition_steps}"
            )
        _write(self, "decomposition_learning_rate", above=0.0)
        check_number("shrinkage_penalty", self.shrinkage_penalty, at_least=0.0)
        check_number("decomposition_recent", self.decomposition_recent, at_least=0.0, at_most=1.0)
        if self.trust_slope is not None:
            check_number("trust_slope", self.trust_slope, at_least=0.0)
        check_number("hypergradient_share", self.hypergradient_share, at_least=0.0)


def _write(group: Any, name: str, above: float | None = None) -> None:
    """Let a group hold a number or schedule as files can hold it.

    :raises ValueError: if it is out of its range, or cannot be written
    """
    object.__setattr__(group, name, written(name, getattr(group, name), above))

"""The adapter between the reward learner and an algorithm whose policy it trains: one object, a :class:`Host`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Generic, TypeVar

import numpy as np
import torch
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from sb3_tare.advantages.sums import DiscountedSums
from sb3_tare.data.labelled import Labelled
from sb3_tare.data.rollout import Baseline, Part, Rollout
from sb3_tare.hosts.held import rows_at_a_time
from sb3_tare.policy.objectives import HostObjective
from sb3_tare.settings import LearnerSettings
from sb3_tare.utils.checks import Place
from sb3_tare.utils.extractors import acting_extractor
from sb3_tare.utils.nested import Observations, in_chunks

RecordT = TypeVar("RecordT")
"""Notes that a host takes while it collects, beside what the algorithm keeps itself."""

Critic = Callable[[Observations], Tensor]
"""Function from states ``[n, ...]`` to values ``[n]``."""


class Loan:
    """A labelled part in the hands of its host.

    :param labelled: the part as it was last labelled
    :param relabel: gives the host other advantages and returns for the same rows
    """

    def __init__(self, labelled: Labelled, relabel: Callable[[Labelled], None] = lambda labelled: None) -> None:
        self.labelled = labelled
        self._relabel = relabel

    def relabel(self, labelled: Labelled) -> None:
        """Let the host go on with ``labelled``, the same part under a reward that has moved."""
        self.labelled = labelled
        self._relabel(labelled)


class AnyHost(ABC, Generic[RecordT]):
    """An algorithm of Stable-Baselines3 as every reward learner sees it.

    Nothing of the algorithm is kept here: policy, discounts and coefficients are read from it when they are used.

    :param model: the algorithm
    :param policy_features: whether the reward sees the features that the policy's extractor makes, or observations
    :param chunk_rows: rows of observations that pass through an extractor at a time; see
        :class:`~sb3_tare.settings.groups.GradientSettings`
    """

    def __init__(self, model: Any, policy_features: bool, chunk_rows: int | None = None) -> None:
        self.model = model
        self.policy_features = policy_features
        self.chunk_rows = rows_at_a_time(chunk_rows, model.observation_space)
        """Rows of observations that pass through an extractor at a time; None: all of them"""
        self.frozen_extractor: nn.Module | None = None
        """Extractor of the features that the reward sees in place of the policy's, which goes on learning"""

    @property
    def policy(self) -> Any:
        """Its policy as it is now."""
        return self.model.policy

    @property
    def device(self) -> torch.device:
        """The device of its networks."""
        return self.model.device

    @property
    def gamma(self) -> float:
        """Its discount factor."""
        return self.model.gamma

    @property
    def progress(self) -> float:
        """The share of its run that is still to come, from 1 to 0, as its own schedules see it."""
        return self.model._current_progress_remaining

    @abstractmethod
    def check(self, settings: LearnerSettings) -> None:
        """Check the settings of the learner against the algorithm.

        :raises ValueError: if they do not go together
        """

    def undoing(self) -> AbstractContextManager[None]:
        """Put its policy back where its own update leaves numbers that are not finite, unless it does so itself."""
        return nullcontext()

    def updates_after(self) -> int:
        """The number of updates that the algorithm will count once its next ``train()`` is over."""
        return 0

    def is_past(self, n_updates: int) -> bool:
        """Whether that ``train()`` is known to be over, given what :meth:`updates_after` was before."""
        return False

    def start_training(self, was_reset: bool) -> None:
        """Note that a call of ``learn()`` starts.

        :param was_reset: whether it is known to have reset the environments
        """

    def end_training(self) -> None:
        """Note that a call of ``learn()`` ends; an exception that ends it is not told of."""

    @abstractmethod
    def begin(self) -> None:
        """Start a rollout."""

    @abstractmethod
    def add(self, step: Mapping[str, Any]) -> None:
        """Note a step of all environments, given the locals of the algorithm's own loop."""

    @abstractmethod
    def record(self) -> RecordT:
        """Notes taken since :meth:`begin`."""

    @property
    @abstractmethod
    def times(self) -> np.ndarray:
        """Steps ``[N]`` that each environment is into its episode, where the adapter has to know."""

    @abstractmethod
    def go_on_from(self, times: np.ndarray) -> None:
        """Expect environments that are ``times`` ``[N]`` steps into their episodes."""

    def states(self, observations: Observations) -> Observations:
        """States ``[n, ...]`` that the reward sees of observations ``[n, ...]``. The policy must be in evaluation mode."""
        if not self.policy_features:
            return observations
        return self._features(self.frozen_extractor or acting_extractor(self.policy), observations)

    def actor_features(self, observations: Observations) -> Tensor:
        """Features ``[n, features_dim]`` that the actor sees of observations ``[n, ...]``, apart from any graph.

        The policy must be in evaluation mode.
        """
        return self._features(acting_extractor(self.policy), observations)

    @torch.no_grad()
    def _features(self, extractor: nn.Module, observations: Observations) -> Tensor:
        policy = self.policy

        def features(chunk: Observations) -> Tensor:
            return extractor(preprocess_obs(chunk, policy.observation_space, normalize_images=policy.normalize_images))

        return in_chunks(features, observations, self.chunk_rows)


class Host(AnyHost[RecordT]):
    """A host whose policy update is a maximisation that hypergradients pass through."""

    has_epochs: ClassVar[bool] = False
    """Whether its ``train()`` passes several times over the rollout."""

    @property
    def rollout_steps(self) -> int | None:
        """Steps of a rollout that is gone after the policy's update; None where they stay in a memory."""
        return None

    @property
    @abstractmethod
    def gae_lambda(self) -> float:
        """The lambda of its own advantages."""

    @property
    @abstractmethod
    def sums(self) -> DiscountedSums:
        """Its function for discounted sums."""

    @property
    @abstractmethod
    def objective(self) -> HostObjective:
        """The objective that it maximises, with its coefficients as they are now."""

    @property
    @abstractmethod
    def optimiser(self) -> Optimizer | None:
        """The optimiser that moves its actor's parameters; None if something else does."""

    @abstractmethod
    def standardise(self, advantages: Tensor, whole: Tensor | None = None) -> Tensor:
        """Advantages ``[n]`` as they enter its objective.

        :param advantages: of steps that gradients are taken on, differentiable
        :param whole: ``[m]`` those of all steps that the algorithm standardises over, where these are more
        """

    @abstractmethod
    def updated_parameters(self) -> list[nn.Parameter]:
        """Parameters that nothing but its policy update changes."""

    @abstractmethod
    def read(self, record: RecordT) -> Part:
        """All steps that its policy is to be trained on now, without the learner's critic."""

    @abstractmethod
    def place(self, rows: Tensor) -> Place:
        """Words for where in the environments steps were taken, given their numbers among ``rows`` ``[n]`` of a part."""

    @abstractmethod
    def collected(self, part: Part) -> Part:
        """The steps of ``part``, all that were read, that were collected since the last reading."""

    @abstractmethod
    def sample(self, part: Part, generator: torch.Generator) -> Rollout:
        """Steps of ``part`` that gradients are taken on, with the policy's side of them."""

    @abstractmethod
    def fetch(self, part: Part) -> Rollout:
        """All steps of ``part`` with the policy's side of them."""

    @abstractmethod
    def baseline(self, part: Part, record: RecordT, critic: Critic) -> Baseline:
        """Values of ``critic`` along all steps that were read."""

    @abstractmethod
    def lending(
        self,
        labelled: Labelled,
        between_passes: Callable[[], None] | None = None,
        before_batch: Callable[[Tensor], None] | None = None,
    ) -> AbstractContextManager[Loan]:
        """Leave the algorithm nothing to train on but ``labelled``, and take it back at the end.

        :param between_passes: called before each of its passes over the steps but the first
        :param before_batch: called before each mini-batch is taken out, with its places ``[m]`` in the part
        """

    def curvature(self, settings: LearnerSettings) -> str:
        """The name of its curvature: the settings', or where they have none the one that suits its updates."""
        return settings.gradient.curvature or ("adam" if isinstance(self.optimiser, Adam) else "fisher")

    def check_curvature(self, settings: LearnerSettings) -> None:
        """Check that the curvature which the settings name can be read from the algorithm.

        :raises ValueError: if it cannot
        """
        optimiser = self.optimiser
        if settings.gradient.curvature == "adam" and not isinstance(optimiser, Adam):
            name = type(self.model).__name__
            moved_by = "no optimiser of torch" if optimiser is None else type(optimiser).__name__
            works = "use curvature='fisher' or 'identity'"
            if optimiser is not None:
                works += ", or policy_kwargs={'optimizer_class': torch.optim.Adam}"
            raise ValueError(
                f"curvature='adam' is read from the Adam that moves the actor, and {name}'s is moved by {moved_by}: {works}"
            )

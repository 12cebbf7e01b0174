"""AWR as a host: a replay memory that is read whole, and fits of its actor to parts of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.type_aliases import TrainFrequencyUnit
from torch import Tensor, nn
from torch.optim import Optimizer

from sb3_tare.advantages.sums import DiscountedSums, discounted_sum_by_doubling
from sb3_tare.awr import AWR
from sb3_tare.awr.evaluation import CHUNK, path_baseline
from sb3_tare.awr.memory import Paths
from sb3_tare.awr.updates import ADVANTAGE_EPSILON, moments
from sb3_tare.data.cutting import MIN_PART_STEPS
from sb3_tare.data.episodes import Selection
from sb3_tare.data.labelled import Labelled
from sb3_tare.data.recorder import undistorted_rewards
from sb3_tare.data.rollout import Baseline, Part, PolicySteps, RewardSteps, Rollout
from sb3_tare.hosts.host import Critic, Host, Loan
from sb3_tare.policy.objectives import HostObjective, advantage_weighted, advantage_weights
from sb3_tare.settings import LearnerSettings
from sb3_tare.utils.checks import Place
from sb3_tare.utils.nested import at_rows, take


class ActorUpdate(NamedTuple):
    """A request to AWR's actor phase: the memory, and how long to fit the actor to it."""

    paths: Paths
    """All steps of the memory"""
    n_steps: int
    """Gradient steps"""


class ActorFit(NamedTuple):
    """A fit that the actor is to make: to these steps, weighted by these advantages."""

    paths: Paths
    advantages: Tensor
    """``[n]``, one for each step of the paths"""
    n_steps: int
    """Gradient steps"""


class AWRHost(Host[ActorUpdate]):
    """AWR, whose memory keeps what other hosts' steps have to be noted for.

    Everything that needs a gradient takes ``sampled_steps`` steps of paths drawn at random from each part instead of all:
    hypergradients of more steps would be less noisy, at a cost that grows with the memory.

    :param model: an AWR
    :param policy_features: as for every :class:`~sb3_tare.hosts.host.Host`
    :param sampled_steps: steps that gradients are taken on
    :param chunk_rows: as for every host
    :raises TypeError: if ``model`` is another algorithm
    """

    def __init__(
        self, model: Any, policy_features: bool = True, sampled_steps: int = 2048, chunk_rows: int | None = None
    ) -> None:
        if not isinstance(model, AWR):
            raise TypeError(f"this learner is AWR's; {type(model).__name__} takes a RewardLearner")
        super().__init__(model, policy_features, chunk_rows)
        self.sampled_steps = sampled_steps
        self.update: ActorUpdate | None = None
        """Request to the actor phase, while it is under way"""
        self.fit: ActorFit | None = None
        """Fit that the actor is to make, while a part is lent"""
        self._undistorted: list[list[float]] = []

    @property
    def gae_lambda(self) -> float:
        """AWR's ``td_lambda``: a TD(lambda) return minus the value is a generalised advantage with this lambda."""
        return self.model.td_lambda

    @property
    def sums(self) -> DiscountedSums:
        """Discounted sums that cost a few operations on all rows at once."""
        return discounted_sum_by_doubling

    @property
    def objective(self) -> HostObjective:
        """The log-likelihood weighted by exponentials of advantages (eq. 4 and 12)."""
        coefficients = {"temperature": self.model.temperature, "max_weight": self.model.max_weight}
        return HostObjective(
            partial(advantage_weighted, **coefficients), has_kl_term=False, weights=partial(advantage_weights, **coefficients)
        )

    @property
    def optimiser(self) -> Optimizer:
        """The actor's."""
        return self.policy.actor_optimizer

    def standardise(self, advantages: Tensor, whole: Tensor | None = None) -> Tensor:
        """Advantages ``[n]`` as they enter the objective: standardised over all that the actor is fitted to.

        The numbers are AWR's own. Of the mean and deviation of the whole, only the sample's are functions of phi, and their
        derivatives stand for those of the whole.
        """
        mean, deviation = advantages.mean(), advantages.std(correction=0)
        whole_mean, whole_deviation = moments(advantages.detach() if whole is None else whole)
        mean, deviation = mean - mean.detach() + whole_mean, deviation - deviation.detach() + whole_deviation
        return (advantages - mean) / (deviation + ADVANTAGE_EPSILON)

    def check(self, settings: LearnerSettings) -> None:
        """Check that an iteration collects enough steps, and that the curvature can be read.

        :raises ValueError: if it does not
        """
        self.check_curvature(settings)
        frequency, unit = self.model.train_freq
        least = 2 * MIN_PART_STEPS
        if unit is TrainFrequencyUnit.STEP and frequency * self.model.n_envs < least:
            raise ValueError(
                f"an iteration needs at least {least} steps to learn a reward from, got train_freq={frequency} times "
                f"{self.model.n_envs} environments: raise train_freq"
            )

    def check_memory(self) -> None:
        """Check that the memory holds enough steps to be split.

        :raises ValueError: if it does not, as after an episode of one step
        """
        memory, (frequency, unit) = self.model.replay_buffer, self.model.train_freq
        n_steps, least = memory.size() * memory.n_envs, 2 * MIN_PART_STEPS
        if n_steps < least:
            raise ValueError(
                f"validation='split' needs at least {least} steps, and train_freq=({frequency}, {unit.value!r}) has collected "
                f"{n_steps}: give train_freq in steps, such as train_freq=2048, or set validation='next_rollout'"
            )

    def updated_parameters(self) -> list[nn.Parameter]:
        """The actor's parameters: the critic moves on before the next episodes validate the update."""
        return self.policy.actor_parameters()

    def begin(self) -> None:
        """Start a rollout."""
        self._undistorted = []

    def add(self, step: Mapping[str, Any]) -> None:
        """Note what a step earned beneath a delay or noise; the memory has all else."""
        self._undistorted.append(undistorted_rewards(step["infos"], len(step["dones"])))

    @property
    def undistorted_rewards(self) -> Tensor:
        """Rewards ``[T, N]`` that the steps since :meth:`begin` earned beneath a delay or noise; NaN where nobody tells."""
        return torch.tensor(self._undistorted, dtype=torch.float64).view(-1, self.model.n_envs)

    def record(self) -> ActorUpdate:
        """The request to the actor phase that is under way."""
        assert self.update is not None
        return self.update

    @property
    def times(self) -> np.ndarray:
        """Empty, ``[0]``, as the memory knows the time of each step."""
        return np.zeros(0, dtype=np.int64)

    def go_on_from(self, times: np.ndarray) -> None:
        """Do nothing with ``times`` ``[N]``, as the memory knows the time of each step."""

    @torch.no_grad()
    def read(self, record: ActorUpdate) -> Part:
        """All paths of the memory."""
        model, rows = self.model, record.paths.rows
        memory, env = model.replay_buffer, model.get_vec_normalize_env()
        encoded = preprocess_obs(memory.actions_at(rows), model.action_space, normalize_images=False)
        assert isinstance(encoded, Tensor)
        return Part(
            rows=torch.from_numpy(rows).to(self.device),
            reward=RewardSteps(
                states=at_rows(lambda chunk: self.states(memory.observations_at(chunk, env)), rows, CHUNK),
                encoded_actions=encoded.flatten(1),
                rewards=memory.rewards_at(rows, env),
                episodes=record.paths.episodes,
                original_rewards=memory.rewards_at(rows),
            ),
            policy_critic=model.baseline(record.paths),
        )

    def place(self, rows: Tensor) -> Place:
        """Words for the environment and the row of the memory, given numbers among ``rows`` ``[n]``."""
        return self.model.replay_buffer.place(rows)

    def collected(self, part: Part) -> Part:
        """The steps of the memory that were collected since the last iteration."""
        memory = self.model.replay_buffer
        newest = memory.paths(memory.n_new)
        by_env = torch.arange(len(part)).view(memory.n_envs, -1)
        rows = by_env[:, by_env.shape[1] - len(newest.rows) // memory.n_envs :].flatten()
        return part.select(Selection(newest.episodes, rows))

    def sample(self, part: Part, generator: torch.Generator) -> Rollout:
        """Paths drawn at random, of ``sampled_steps`` steps or a little more."""
        episodes = part.reward.episodes
        order = torch.randperm(len(episodes), generator=generator)
        n_pieces = 1 + int((episodes.lengths[order].cumsum(0) < self.sampled_steps).sum())
        chosen = order[:n_pieces].sort().values
        return self.fetch(part.select(episodes.select(chosen)))

    def fetch(self, part: Part) -> Rollout:
        """The part with its observations and actions."""
        model, rows = self.model, part.rows.cpu().numpy()
        memory, env = model.replay_buffer, model.get_vec_normalize_env()
        return Rollout.of(part, PolicySteps(memory.observations_at(rows, env), memory.actions_at(rows)))

    @torch.no_grad()
    def baseline(self, part: Part, record: ActorUpdate, critic: Critic) -> Baseline:
        """Values of ``critic`` along all paths."""
        model = self.model
        numbers, states = np.arange(len(part)), part.reward.states
        values = at_rows(lambda chunk: critic(take(states, torch.from_numpy(chunk))), numbers, CHUNK)
        return path_baseline(
            lambda observations: critic(self.states(observations)),
            model.replay_buffer,
            record.paths,
            self.gamma,
            model.get_vec_normalize_env(),
            values,
        )

    @contextmanager
    def lending(
        self,
        labelled: Labelled,
        between_passes: Callable[[], None] | None = None,
        before_batch: Callable[[Tensor], None] | None = None,
    ) -> Iterator[Loan]:
        """Ask for a fit of the actor to the part, with its share of the gradient steps; nothing can happen during it."""
        update, part = self.record(), labelled.part
        n_steps = math.ceil(update.n_steps * len(part) / len(update.paths.rows))
        self.fit = ActorFit(Paths(part.rows.cpu().numpy(), part.reward.episodes), labelled.advantages, n_steps)
        try:
            yield Loan(labelled)
        finally:
            self.fit = None

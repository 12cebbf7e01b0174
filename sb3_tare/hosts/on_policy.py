"""PPO, MaskablePPO, TRPO and A2C as hosts: a rollout buffer that is read, and lent out narrowed to a part."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from gymnasium import spaces
from sb3_contrib import TRPO, MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.common.utils import obs_as_tensor
from torch import Tensor, nn
from torch.optim import Optimizer

from sb3_tare.advantages.generalised import standardise
from sb3_tare.advantages.sums import DiscountedSums, discounted_sum
from sb3_tare.data.cutting import MIN_PART_STEPS
from sb3_tare.data.labelled import Labelled
from sb3_tare.data.recorder import Record, Recorder
from sb3_tare.data.rollout import Baseline, Part, Rollout
from sb3_tare.hosts.buffers import narrow, relabel, widen
from sb3_tare.hosts.host import Critic, Host, Loan
from sb3_tare.hosts.reading import next_values, read_rollout
from sb3_tare.hosts.resting import Resting
from sb3_tare.policy.objectives import LOG_LIKELIHOOD, SURROGATE, HostObjective
from sb3_tare.settings import LearnerSettings
from sb3_tare.utils.checks import LOWER_RATES, Place, at_step, check_count, check_device, check_finite
from sb3_tare.utils.last_good import last_good

FEW_ROWS = 64
"""A rollout of fewer steps is warned about: a reward phase costs nearly as much for it as for 2,048."""


class _Kind(NamedTuple):
    """An algorithm, subclasses included."""

    objective: HostObjective
    has_epochs: bool
    optimises_actor: bool = True


KINDS: dict[type[BaseAlgorithm], _Kind] = {
    PPO: _Kind(SURROGATE, has_epochs=True),
    MaskablePPO: _Kind(SURROGATE, has_epochs=True),
    TRPO: _Kind(SURROGATE, has_epochs=False, optimises_actor=False),
    A2C: _Kind(LOG_LIKELIHOOD, has_epochs=False),
}
"""The algorithms that an :class:`OnPolicyHost` adapts; a further one is a line here."""


class OnPolicyHost(Host[Record]):
    """An algorithm with a rollout buffer.

    :param model: a PPO, MaskablePPO, TRPO or A2C, or of a subclass
    :param policy_features: as for every :class:`~sb3_tare.hosts.host.Host`
    :param chunk_rows: likewise
    :raises TypeError: if no reward can be learned for ``model``
    """

    def __init__(self, model: Any, policy_features: bool = True, chunk_rows: int | None = None) -> None:
        super().__init__(model, policy_features, chunk_rows)
        self._kind = _kind_of(model)
        self._recorder = Recorder(model.n_envs)
        self._resting = Resting(model)
        self.records_originals = False
        """Whether observations from before ``VecNormalize`` are noted too, for a memory of episodes that keeps them"""

    @property
    def has_epochs(self) -> bool:  # type: ignore[override]
        """Whether its ``train()`` passes ``n_epochs`` times over the rollout."""
        return self._kind.has_epochs

    @property
    def rollout_steps(self) -> int:
        """Steps of a rollout, of all environments."""
        return self.model.n_steps * self.model.n_envs

    def updates_after(self) -> int:
        """The number of updates that it will count once its next ``train()`` is over, unless that stops early."""
        return self.model._n_updates + (self.model.n_epochs if self.has_epochs else 1)

    def is_past(self, n_updates: int) -> bool:
        """Whether it has counted as many updates, or emptied its buffer, which it does before a rollout's callbacks."""
        buffer = self.model.rollout_buffer
        return self.model._n_updates >= n_updates or (buffer.pos == 0 and not buffer.full)

    @property
    def gamma(self) -> float:
        """Discount factor of its buffer, which computes its advantages; the algorithm's own bootstraps time-outs alone."""
        return self.model.rollout_buffer.gamma

    @property
    def gae_lambda(self) -> float:
        """The lambda of its buffer."""
        return self.model.rollout_buffer.gae_lambda

    @property
    def sums(self) -> DiscountedSums:
        """Discounted sums as in SB3's rollout buffer, to the last bit."""
        return discounted_sum

    @property
    def objective(self) -> HostObjective:
        """The surrogate of PPO and TRPO, or A2C's log-likelihood."""
        return self._kind.objective

    @property
    def optimiser(self) -> Optimizer | None:
        """The policy's optimiser; None where it moves the critic alone, as in TRPO."""
        return self.policy.optimizer if self._kind.optimises_actor else None

    def standardise(self, advantages: Tensor, whole: Tensor | None = None) -> Tensor:
        """Advantages ``[n]`` as they enter the objective; over the whole part, where the host does it by mini-batch."""
        return standardise(advantages) if self.model.normalize_advantage else advantages

    def check(self, settings: LearnerSettings) -> None:
        """Check the settings of the learner against the rollouts of the algorithm.

        :raises ValueError: if they do not go together
        """
        model = self.model
        if settings.schedule.interleave and not self.has_epochs:
            raise ValueError(f"interleave=True needs a host that trains in epochs, which {type(model).__name__} does not")
        if hasattr(model, "n_epochs"):
            check_count("n_epochs", model.n_epochs, least=1)
        self.check_curvature(settings)
        check_device(model.device)
        n_rows = self.rollout_steps
        validation = settings.schedule.validation
        least = 2 * MIN_PART_STEPS if validation == "split" else MIN_PART_STEPS
        if n_rows < least:
            raise ValueError(
                f"validation={validation!r} needs rollouts of at least {least} steps, got n_steps={model.n_steps} "
                f"times {model.n_envs} environments: raise n_steps"
            )
        if n_rows < FEW_ROWS and settings.schedule.reward_every < FEW_ROWS:
            is_held_out = not settings.decomposition.return_decomposition
            noise = ", and so few steps say little about a held-out return" if is_held_out else ""
            warnings.warn(
                f"a rollout has only {n_rows} steps (n_steps={model.n_steps}, {model.n_envs} environments). Learning the "
                "reward costs nearly as much for it as for 2,048, so that training may take many times as long"
                f"{noise}: raise n_steps, the number of environments, or reward_every",
                stacklevel=3,
            )

    def updated_parameters(self) -> list[nn.Parameter]:
        """The policy's parameters."""
        return list(self.policy.parameters())

    def start_training(self, was_reset: bool) -> None:
        """Find out, where the environments were not reset, whether they are where the last rollout has left them."""
        begun = None if was_reset else self._resting.begun(self.times)
        if begun is not None:
            self._recorder.go_on_elsewhere(begun)

    def end_training(self) -> None:
        """Note where the environments are."""
        self._resting.end()

    def begin(self) -> None:
        """Start a rollout.

        :raises ValueError: if an observation is not finite
        """
        check_finite(self.model._last_obs, "observation", place=at_step(self.model.num_timesteps))
        self._recorder.begin(self._resting.starts(), self._original_observations())
        self._resting.begin()

    def add(self, step: Mapping[str, Any]) -> None:
        """Note a step, before SB3 adds bootstrapped values to its rewards in place."""
        self._resting.move()
        env = self.model.get_vec_normalize_env()
        original = None if env is None else env.get_original_reward()
        observations = self._original_observations()
        self._recorder.add(
            step["rewards"],
            step["dones"],
            step["infos"],
            step["new_obs"],
            original,
            observations,
            self.model.num_timesteps,
        )

    def normalised(self, observations: Tensor) -> Tensor:
        """States ``[n, observation_dim]`` as ``VecNormalize`` makes them today of observations ``[n, ...]`` before it."""
        env = self.model.get_vec_normalize_env()
        return torch.from_numpy(env.normalize_obs(observations.numpy())).float().flatten(1)

    def record(self) -> Record:
        """Notes of the rollout that the buffer does not keep."""
        record = self._recorder.record()
        self._resting.leave()
        return record

    @property
    def times(self) -> np.ndarray:
        """Steps ``[N]`` that each environment is into its episode."""
        return self._recorder.times

    def go_on_from(self, times: np.ndarray) -> None:
        """Expect environments that are ``times`` ``[N]`` steps into their episodes, if there are as many of them."""
        if len(times) == len(self._recorder.times):  # another number of environments means that all are reset
            self._recorder.go_on_from(times)
            self._resting.leave()

    @torch.no_grad()
    def read(self, record: Record) -> Rollout:
        """The rollout.

        :raises RuntimeError: if the buffer was consumed before, or does not hold what was recorded
        """
        return read_rollout(self.model, record, self.states)

    def place(self, rows: Tensor) -> Place:
        """Words for the environment and the step of its rollout, given numbers among ``rows`` ``[n]``."""
        n_steps = self.model.n_steps

        def words(number: int) -> str:
            env, step = divmod(int(rows[number]), n_steps)
            return f"in environment {env} at step {step + 1} of its rollout"

        return words

    def collected(self, part: Part) -> Part:
        """All steps, as each rollout is new."""
        return part

    def sample(self, part: Part, generator: torch.Generator) -> Rollout:
        """All of its steps."""
        return self.fetch(part)

    def fetch(self, part: Part) -> Rollout:
        """The part, which was read with the policy's side."""
        assert isinstance(part, Rollout)
        return part

    @torch.no_grad()
    def baseline(self, part: Part, record: Record, critic: Critic) -> Baseline:
        """Values of ``critic`` along a whole rollout; that of the terminal observation too where a time limit struck."""
        values = critic(part.reward.states)
        last_values = critic(self.states(obs_as_tensor(record.last_observations, self.device)))
        bootstraps = torch.zeros_like(values, dtype=torch.float64)
        n_steps = len(record.dones)
        for (step, env), observation in record.terminal_observations.items():
            terminal_state = self.states(self.policy.obs_to_tensor(observation)[0])
            bootstraps[env * n_steps + step] = self.model.gamma * critic(terminal_state)[0]
        return Baseline(values, next_values(values, last_values, record.dones), bootstraps)

    def undoing(self) -> AbstractContextManager[None]:
        """Put the policy back where its update leaves numbers that are not finite.

        :raises FloatingPointError: then, if nothing else was raised before
        """
        return last_good(self.policy.parameters(), self.policy.optimizer, "policy", LOWER_RATES)

    @contextmanager
    def lending(
        self,
        labelled: Labelled,
        between_passes: Callable[[], None] | None = None,
        before_batch: Callable[[Tensor], None] | None = None,
    ) -> Iterator[Loan]:
        """Narrow the rollout buffer to the part."""
        buffer = self.model.rollout_buffer

        def hand_over(other: Labelled) -> None:
            relabel(buffer, *_arrays(other))

        def batch_begins(places: np.ndarray) -> None:
            assert before_batch is not None
            before_batch(torch.from_numpy(places))

        rows = labelled.part.rows.cpu().numpy()
        narrow(buffer, rows, *_arrays(labelled), between_passes, None if before_batch is None else batch_begins)
        try:
            yield Loan(labelled, hand_over)
        finally:
            widen(buffer)

    def _original_observations(self) -> np.ndarray | None:
        """Observations ``[N, ...]`` of now before ``VecNormalize``, if asked for and it alone stands before the reward."""
        if not self.records_originals:
            return None
        env = self.model.get_vec_normalize_env()
        if env is None or env is not self.model.get_env() or not env.norm_obs or not self.policy_features:
            return None
        is_vector = isinstance(env.observation_space, spaces.Box) and type(self.policy.features_extractor) is FlattenExtractor
        return env.get_original_obs() if is_vector else None


_RECURRENT = (
    "RecurrentPPO has a policy with a memory, and episodes that are split and relabelled would lose its states: show "
    "the policy the past in its observations: VecFrameStack(env, n_stack=4) with PPO or TAREPPO"
)


def _kind_of(model: Any) -> _Kind:
    for algorithm, kind in KINDS.items():
        if isinstance(model, algorithm):
            return kind
    remedy = f" {_RECURRENT}" if isinstance(model, RecurrentPPO) else ""
    supported = ", ".join(algorithm.__name__ for algorithm in KINDS)
    raise TypeError(
        f"a RewardLearner cannot learn a reward for {type(model).__name__}; supported: {supported} and their subclasses, and "
        f"off-policy SAC, TD3, DDPG, DQN, TQC, CrossQ, QRDQN; for AWR there is TAREAWR.{remedy}"
    )


def _arrays(labelled: Labelled) -> tuple[np.ndarray, np.ndarray]:
    return labelled.advantages.cpu().numpy(), labelled.returns.cpu().numpy()

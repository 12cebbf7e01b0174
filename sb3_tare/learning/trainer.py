"""The training of the reward on a rollout: labels for its parts, steps along hypergradients, fits of the second critic."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sb3_tare.advantages.parameterised import Advantages
from sb3_tare.data.labelled import Appraised, Labelled
from sb3_tare.data.rollout import Part, Rollout
from sb3_tare.hosts.host import Host
from sb3_tare.learning.averaging import GradientAverage
from sb3_tare.learning.decomposing import Decomposer
from sb3_tare.learning.fitting import fit_critic
from sb3_tare.learning.hypergradients import Hypergradients
from sb3_tare.learning.metrics import Metrics
from sb3_tare.learning.optimisers import Optimisers
from sb3_tare.learning.pool import Pool
from sb3_tare.policy.gradients import PolicyGradients
from sb3_tare.policy.products import flat_gradient
from sb3_tare.rewards.reward_model import build_reward_model
from sb3_tare.settings import LearnerSettings
from sb3_tare.utils.checks import check_learned

_NOT_UPDATED = (
    "neither policy nor reward were updated with them. Lower learning_rate, critic_learning_rate or max_grad_norm, or bound "
    "the network's output"
)

RewardObjective = Callable[[Tensor, Tensor], Tensor]


def along_hypergradient(weights: Tensor, advantages: Tensor) -> Tensor:
    """Loss, a scalar, whose gradient in phi is minus the hypergradient ``sum_t w_t dA_t/dphi`` (eq. 13 and 14).

    :param weights: ``[n]``, w
    :param advantages: ``[n]``, A_phi, differentiable in phi
    """
    return -(weights * advantages).sum()


class RewardTrainer:
    """Reward model, second critic, their optimisers, and the rollouts they still need; for one host.

    :param settings: of the learner
    :param host: adapter of the algorithm
    :param seed: of the initial weights and of all splits and shuffles
    :param objective: loss of a reward step, a function of the weights w and the advantages A_phi, ``[n]`` each
    :param decomposer_class: of return decomposition, where the settings ask for it
    :raises TypeError: if the curvature needs a KL divergence that there is none of for the policy's actions
    :raises ValueError: if it needs second derivatives of a layer that torch cannot differentiate twice
    """

    def __init__(
        self,
        settings: LearnerSettings,
        host: Host[Any],
        seed: int,
        objective: RewardObjective = along_hypergradient,
        decomposer_class: type[Decomposer] = Decomposer,
    ) -> None:
        self.settings = settings
        self.host = host
        self.objective = objective
        keeps_features = settings.decomposition.return_decomposition and host.rollout_steps is not None
        self.reward_model = build_reward_model(settings, host.policy, seed, host.chunk_rows, keeps_features)
        host.frozen_extractor = self.reward_model.frozen_extractor
        self.generator = torch.Generator().manual_seed(seed)
        self.advantages = Advantages(settings, host)
        self.hypergradients = Hypergradients(settings, host, self.generator, self.label)
        self.average = GradientAverage(settings.averaged_gradients)
        self.optimisers = Optimisers(settings, self.reward_model)
        self.metrics = Metrics()
        self.decomposer: Decomposer | None = None
        if settings.decomposition.return_decomposition:
            every = settings.schedule.reward_every
            self.decomposer = decomposer_class(settings.decomposition, host, self.reward_model, self.generator, every)
        self.pool = Pool(settings.schedule.reward_every)
        self._waiting: Rollout | None = None
        self._waiting_whole: Tensor | None = None
        self._waiting_policy = torch.zeros(2, dtype=torch.float64)

    @property
    def gradients(self) -> PolicyGradients:
        """Gradients of the host's policy."""
        return self.hypergradients.gradients

    def read(self, record: Any) -> Part:
        """Begin an iteration: read the host's steps, with all that the reward needs of them once the policy has moved on.

        :param record: what the host noted
        :raises RuntimeError: if others have edited what the learned reward would undo
        :raises FloatingPointError: if the critic returns a value that is not finite
        """
        self.metrics.clear()
        self.optimisers.follow(self.host.progress)
        part = self.host.read(record)
        self.advantages.check(part)
        self.reward_model.observe(self.host.collected(part).reward.rewards)
        unit = self.reward_model.unit
        part = replace(part, reward=replace(part.reward, unit=unit))
        if isinstance(part, Rollout) and self.settings.takes_hypergradients:
            part = replace(part, policy=replace(part.policy, behaviour=self.gradients.behaviour(part.policy)))
        if self.decomposer is not None:
            beside = self._hypergradient_beside(part) if self.settings.decomposition.hypergradient_share > 0 else None
            self.decomposer.learn_from(part.reward, record, self.metrics, beside)
        if self.settings.critic.critics == 1:
            return part
        critic = self.host.baseline(part, record, lambda states: self.reward_model.values(states, unit.scale))
        check_learned(critic.values, "the reward's critic returned values", _NOT_UPDATED, self.host.place(part.rows))
        return replace(part, reward_critic=critic)

    def learned_rewards(self, part: Part) -> Tensor:
        """Learned rewards ``[n]`` in extrinsic units, differentiable in phi.

        :raises FloatingPointError: if one is not finite
        """
        steps = part.reward
        rewards = self.reward_model(steps) if self.decomposer is None else self.decomposer.paid(steps)
        return self.checked(rewards, part.rows)

    def checked(self, rewards: Tensor, rows: Tensor) -> Tensor:
        """Learned rewards ``[n]`` as the policy is trained on them, centred if the settings ask for it.

        :param rows: ``[n]`` of the part that they are of
        :raises FloatingPointError: if one is not finite, naming the environment and the step
        """
        check_learned(rewards, "the reward network returned rewards", _NOT_UPDATED, self.host.place(rows))
        return rewards - rewards.mean() if self.settings.advantage.center else rewards

    def appraise(self, part: Part, sample: Rollout) -> Appraised:
        """Give a part the host's own advantages.

        :param sample: the steps of the part, or the part itself, that gradients will be taken on
        """
        extrinsic = self.advantages.extrinsic(part)
        return Appraised(part, extrinsic, sample, extrinsic if sample is part else self.advantages.extrinsic(sample))

    def label(self, appraised: Appraised) -> Labelled:
        """Give a part the advantages of the learned reward as it is now (eq. 11 and 12)."""
        part, sample, extrinsic = appraised.part, appraised.sample, appraised.extrinsic
        rewards = self.learned_rewards(sample)
        differentiable = advantages = self.advantages.parameterised(sample, rewards, appraised.sample_extrinsic)
        if part is not sample:  # a whole memory, whose graph would not fit
            with torch.no_grad():
                rewards = self.learned_rewards(part)
                advantages = self.advantages.parameterised(part, rewards, extrinsic)
        returns = self.advantages.host_returns(part, advantages.detach(), extrinsic)
        return Labelled(appraised, rewards.detach(), advantages.detach(), returns, differentiable)

    def reward_step(self, labelled: Labelled, validation: Appraised) -> None:
        """Take ``n_reward_updates`` steps along the hypergradient (Algorithm 1, lines 8 to 10).

        :param labelled: what the policy was just updated on, labelled by the reward as it is now
        :param validation: held-out steps
        :raises FloatingPointError: if a gradient or what a step leaves is not finite; all steps are undone then
        """
        held_out = self.hypergradients.extrinsic_batch(validation)
        training_steps = self.hypergradients.held(labelled.sample)
        with self.optimisers.undoing("reward"):
            for n_taken in range(self.settings.schedule.n_reward_updates):
                if n_taken > 0:
                    labelled = replace(labelled, differentiable=self.label(labelled.appraised.sample_alone).differentiable)
                weights, advantages, solution = self.hypergradients.weighted(labelled, training_steps, held_out, validation)
                self.metrics.note_solution(solution)
                self.step_along(weights, advantages)

    def step_along(self, weights: Tensor, advantages: Tensor) -> None:
        """Take one step on the reward along the hypergradient ``sum_t w_t dA_t/dphi``, or on the mean of several.

        :param weights: ``[n]``
        :param advantages: ``[n]``, differentiable in phi
        :raises FloatingPointError: if the gradient is not finite, before anything is changed
        """
        loss = self.objective(weights, advantages)
        if self.average.n_gradients == 1:
            self.metrics.note(hypergradient_norm=self.optimisers.step("reward", loss))
            return
        self.metrics.note(hypergradient_norm=self.average.add(self.optimisers.gradient("reward", loss)))
        mean = self.average.take()
        if mean is not None:
            self.metrics.note(averaged_hypergradient_norm=self.optimisers.step_down("reward", mean))

    def _hypergradient_beside(self, collected: Part) -> Tensor | None:
        """Direction ``[p]`` of norm 1 in which the decomposed reward is to climb beside its fit; None while there is none.

        Taken before the fit, while the reward is still the one that the policy was trained on.

        :param collected: by the policy that the waiting part has trained
        """
        assert self.decomposer is not None
        waiting = self.take_waiting()
        if waiting is not None:
            paid = replace(self.host.fetch(collected), reward=self.decomposer.in_paid_unit(collected.reward))
            validation = self.appraise(paid, paid)
            held_out = self.hypergradients.extrinsic_batch(validation)
            training_steps = self.hypergradients.held(waiting.sample)
            weights, advantages, solution = self.hypergradients.weighted(waiting, training_steps, held_out, validation)
            self.metrics.note_solution(solution)
            gradient = flat_gradient(self.objective(weights, advantages), self.decomposer.fits.parameters)
            self.metrics.note(hypergradient_norm=self.average.add(gradient))
        mean = self.average.take() if self.decomposer.is_due(len(collected)) else None
        if mean is None or not mean.norm() > 0.0:  # before an episode has ended, or it is trusted, the network pays nothing
            return None
        self.metrics.note(averaged_hypergradient_norm=float(mean.norm()))
        return -mean / mean.norm()

    def wait(self, labelled: Labelled) -> None:
        """Keep what the policy was just updated on until the updated policy has collected its validation."""
        self.keep(labelled.sample)
        self._waiting_whole = None if labelled.part is labelled.sample else labelled.advantages

    def keep(self, rollout: Rollout) -> None:
        """Let steps that the policy was updated on wait for their reward step."""
        self._waiting, self._waiting_whole = rollout, None
        self.sign()

    def sign(self) -> None:
        """Remember the policy as it is now: what is kept goes with it."""
        self._waiting_policy = self._signature()

    def is_signed(self) -> bool:
        """Whether the policy is the one that was last remembered."""
        return torch.allclose(self._signature(), self._waiting_policy)

    def take_waiting(self) -> Labelled | None:
        """Hand out the part that waits, labelled by the reward as it is now; None if the policy is another one by now."""
        waiting, self._waiting = self._waiting, None
        if waiting is None or not self.is_signed():
            return None
        labelled = self.label(self.appraise(waiting, waiting))
        return labelled if self._waiting_whole is None else replace(labelled, advantages=self._waiting_whole)

    def measure_alignment(self, labelled: Labelled, validation: Appraised, moved: bool = False) -> None:
        """Note how far the learned reward points where held-out extrinsic reward grows, and how far the extrinsic one does.

        Both are cosines of the policy gradient on what is labelled, with either reward, and the extrinsic one on held-out
        steps.

        :param moved: whether the policy is another one than the steps were read with
        """
        for name, cosine in self.hypergradients.alignment(labelled, validation, moved).items():
            self.metrics.note(**{f"alignment_{name}": cosine})

    def finish(self, labelled: Sequence[Labelled], to_fit: Sequence[Labelled], share: float) -> None:
        """Train the second critic after the policy's updates.

        :param labelled: what the policy was trained on, as it was last labelled
        :param to_fit: what the critic is fitted to; nothing where the reward phase waits for more steps
        :param share: of the steps to fit that each of the critic's passes takes
        """
        if self.reward_model.unit.scale > 0:
            fit_critic(self, to_fit, share)
        extrinsic = torch.cat([each.part.reward.rewards for each in labelled])
        paid = torch.cat([each.rewards for each in labelled])
        # A guard may pay little of what is learned, whose correlation is noted before that.
        note = self.metrics.note_rewards if self.decomposer is None else self.metrics.note_moments
        note(paid, extrinsic)

    def state_dict(self) -> dict[str, Any]:
        """All that a continued run needs, as nested plain data and tensors."""
        return {
            "reward_model": self.reward_model.state_dict(),
            "optimisers": self.optimisers.state_dict(),
            "generator": self.generator.get_state(),
            "waiting": None if self._waiting is None else self._waiting.state_dict(),
            "waiting_policy": self._waiting_policy,
            "waiting_whole": self._waiting_whole,
            "pool": self.pool.state_dict(),
            "average": self.average.state_dict(),
            "decomposition": None if self.decomposer is None else self.decomposer.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Take a copy of a :meth:`state_dict` over; step sizes stay those of the settings.

        :raises RuntimeError: if it belongs to a reward model of another shape
        """
        self.reward_model.load_state_dict(state["reward_model"], strict=strict)
        self.go_on_from(state)

    def go_on_from(self, state: Mapping[str, Any]) -> None:
        """Take all of a copy of a :meth:`state_dict` over but the reward model, which it need not hold."""
        self.optimisers.load_state_dict(state["optimisers"])
        self.generator.set_state(state["generator"].cpu())
        waiting, self._waiting_policy = state["waiting"], state["waiting_policy"].cpu()
        whole = state["waiting_whole"]
        self._waiting_whole = None if whole is None else whole.to(self.host.device)
        self._waiting = None
        if waiting is not None and self.settings.schedule.validation != "split" and self.hypergradients.is_enough(waiting):
            self._waiting = Rollout.from_state_dict(waiting, self.host.device)
        pooled = state.get("pool", [])  # files written before there were pools have none
        kept = [parts for parts in pooled if all(map(self.hypergradients.is_enough, parts))]
        self.pool.load_state_dict(kept, self.host.device)
        average = state.get("average")  # files from before there were averages have none
        if average is not None:
            self.average.load_state_dict(average, self.host.device)
        if self.decomposer is not None and state["decomposition"] is not None:
            self.decomposer.load_state_dict(state["decomposition"])

    def _signature(self) -> Tensor:
        """Sum and norm ``[2]`` of the updated parameters, by which another policy can be told from this one."""
        vector = torch.cat([parameter.detach().double().reshape(-1) for parameter in self.host.updated_parameters()])
        return torch.stack([vector.sum(), vector.norm()]).cpu()

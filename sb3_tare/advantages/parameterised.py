"""The advantages that train the policy, as differentiable functions of the learned rewards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from sb3_tare.advantages.generalised import generalised_advantages
from sb3_tare.advantages.sums import DiscountedSums
from sb3_tare.data.rollout import Baseline, Part
from sb3_tare.settings import LearnerSettings
from sb3_tare.utils.schedules import value_at

EDIT_TOLERANCE = 1e-4
"""Largest difference between two estimates, relative to the largest advantage, that kernels may make and nobody has to."""


class Discounts(Protocol):
    """The attributes of a host that advantages are computed from, read anew each time."""

    @property
    def gamma(self) -> float:
        """Its discount factor."""

    @property
    def gae_lambda(self) -> float:
        """The lambda of its own advantages."""

    @property
    def sums(self) -> DiscountedSums:
        """Its function for discounted sums."""

    @property
    def progress(self) -> float:
        """The share of its run that is still to come."""


class Advantages:
    """Extrinsic and parameterised advantages of a part, ``[n]`` each, in extrinsic reward units.

    :param settings: which rewards, critics and lambda
    :param host: whose discount factor holds, and whose lambda, for extrinsic advantages and unless the settings name another
    """

    def __init__(self, settings: LearnerSettings, host: Discounts) -> None:
        self.host = host
        self._learned_lambda = settings.advantage.gae_lambda
        self._reward_coef = settings.advantage.reward_coef if settings.advantage.reward_mode == "add" else 1.0
        self._replaces = settings.advantage.reward_mode == "replace"
        self._one_critic = settings.critic.critics == 1
        variants: dict[tuple[str, int], Callable[[Part, Tensor, Tensor], Tensor]] = {
            ("replace", 1): self._replace_with_policy_critic,
            ("replace", 2): self._replace,
            ("add", 1): self._add_with_policy_critic,
            ("add", 2): self._add,
        }
        self.parameterised = variants[settings.advantage.reward_mode, settings.critic.critics]
        """A_phi ``[n]`` that the policy is trained on, of a part, its learned rewards ``[n]`` and its extrinsic advantages
        ``[n]``; differentiable in the second."""

    @property
    def _coefficient(self) -> float:
        return value_at(self._reward_coef, self.host.progress)

    def check(self, part: Part) -> None:
        """Check that what others have made of the host's own estimates will reach the policy.

        :raises RuntimeError: if the learned reward takes the place of what they have edited
        """
        if part.edits is None or not self._replaces:
            return
        lost = {"advantages": part.edits.advantages, **({"returns": part.edits.returns} if self._one_critic else {})}
        size = float(self.extrinsic(part).abs().max())
        edited = [name for name, edits in lost.items() if float(edits.abs().max()) > EDIT_TOLERANCE * size]
        if edited:
            raise RuntimeError(
                f"{' and '.join(edited)} in the rollout buffer differ from the host's own estimate: something edits them or "
                "the values that they are computed from, or changes the discounts after that, which a learned reward in place "
                "of the extrinsic one would undo. Set reward_mode='add', which carries such edits through, or let an "
                "environment wrapper change rewards instead"
            )

    def extrinsic(self, part: Part) -> Tensor:
        """The host's own advantages ``[n]``, with its own critic, and with what others have made of them."""
        return _edited(part, self._generalised(part, part.reward.rewards, part.policy_critic, self.host.gae_lambda))

    def learned(self, part: Part, learned_rewards: Tensor) -> Tensor:
        """Advantages ``[n]`` of the learned rewards ``[n]`` alone, over the learner's critic."""
        assert part.reward_critic is not None
        return self._parameterised(part, self._coefficient * learned_rewards, part.reward_critic)

    def host_returns(self, part: Part, parameterised: Tensor, extrinsic: Tensor) -> Tensor:
        """Returns ``[n]`` that the policy's own critic is trained towards: extrinsic, or with one critic parameterised.

        :param part: the steps
        :param parameterised: ``[n]`` advantages that the policy is trained on
        :param extrinsic: ``[n]`` the host's own advantages
        """
        returns = (parameterised if self._one_critic else extrinsic) + part.policy_critic.values
        return returns if part.edits is None else (returns.double() + part.edits.returns).to(returns)

    def _add(self, part: Part, learned_rewards: Tensor, extrinsic: Tensor) -> Tensor:
        return extrinsic + self.learned(part, learned_rewards)

    def _replace(self, part: Part, learned_rewards: Tensor, extrinsic: Tensor) -> Tensor:
        return self.learned(part, learned_rewards)

    def _replace_with_policy_critic(self, part: Part, learned_rewards: Tensor, extrinsic: Tensor) -> Tensor:
        return self._parameterised(part, learned_rewards, part.policy_critic)

    def _add_with_policy_critic(self, part: Part, learned_rewards: Tensor, extrinsic: Tensor) -> Tensor:
        rewards = part.reward.rewards + self._coefficient * learned_rewards
        return _edited(part, self._parameterised(part, rewards, part.policy_critic))

    def _parameterised(self, part: Part, rewards: Tensor, critic: Baseline) -> Tensor:
        gae_lambda = self.host.gae_lambda if self._learned_lambda is None else self._learned_lambda
        return self._generalised(part, rewards, critic, gae_lambda)

    def _generalised(self, part: Part, rewards: Tensor, critic: Baseline, gae_lambda: float) -> Tensor:
        episodes, host = part.reward.episodes, self.host
        return generalised_advantages(rewards, critic, episodes, host.gamma, gae_lambda, host.sums)


def _edited(part: Part, advantages: Tensor) -> Tensor:
    """Advantages ``[n]`` of extrinsic rewards, with what others have added to the host's own."""
    return advantages if part.edits is None else (advantages.double() + part.edits.advantages).to(advantages)

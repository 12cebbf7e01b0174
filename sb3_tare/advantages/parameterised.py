"""The advantages that train the policy, as differentiable functions of the learned rewards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from torch import Tensor

from sb3_tare.advantages.generalised import generalised_advantages
from sb3_tare.advantages.sums import DiscountedSums
from sb3_tare.data.rollout import Baseline, Part
from sb3_tare.settings import RewardSettings


class Discounts(Protocol):
    """What is read of a host, each time anew."""

    @property
    def gamma(self) -> float:
        """Its discount factor."""

    @property
    def gae_lambda(self) -> float:
        """The lambda of its own advantages."""

    @property
    def sums(self) -> DiscountedSums:
        """How it computes discounted sums."""


class Advantages:
    """Extrinsic and parameterised advantages of a part, ``[n]`` each, in extrinsic reward units.

    :param settings: which rewards, critics and lambda
    :param host: whose discount factor holds, and whose lambda, for extrinsic advantages and unless the settings name another
    """

    def __init__(self, settings: RewardSettings, host: Discounts) -> None:
        self.host = host
        self._learned_lambda = settings.gae_lambda
        self._coefficient = settings.reward_coef if settings.reward_mode == "add" else 1.0
        self._one_critic = settings.critics == 1
        variants: dict[tuple[str, int], Callable[[Part, Tensor], Tensor]] = {
            ("replace", 1): self._replace_with_policy_critic,
            ("replace", 2): self.learned,
            ("add", 1): self._add_with_policy_critic,
            ("add", 2): self._add,
        }
        self.parameterised = variants[settings.reward_mode, settings.critics]
        """A_phi ``[n]`` that the policy is trained on, of a part and its learned rewards ``[n]``; differentiable."""

    def extrinsic(self, part: Part) -> Tensor:
        """The host's own advantages, with its own critic."""
        return self._generalised(part, part.reward.rewards, part.policy_critic, self.host.gae_lambda)

    def learned(self, part: Part, learned_rewards: Tensor) -> Tensor:
        """Advantages of the learned rewards alone, over the learner's critic."""
        assert part.reward_critic is not None
        return self._parameterised(part, self._coefficient * learned_rewards, part.reward_critic)

    def host_returns(self, part: Part, parameterised: Tensor) -> Tensor:
        """What the policy's own critic is trained towards: extrinsic returns, or with one critic parameterised ones."""
        advantages = parameterised if self._one_critic else self.extrinsic(part)
        return advantages + part.policy_critic.values

    def _add(self, part: Part, learned_rewards: Tensor) -> Tensor:
        return self.extrinsic(part) + self.learned(part, learned_rewards)

    def _replace_with_policy_critic(self, part: Part, learned_rewards: Tensor) -> Tensor:
        return self._parameterised(part, learned_rewards, part.policy_critic)

    def _add_with_policy_critic(self, part: Part, learned_rewards: Tensor) -> Tensor:
        rewards = part.reward.rewards + self._coefficient * learned_rewards
        return self._parameterised(part, rewards, part.policy_critic)

    def _parameterised(self, part: Part, rewards: Tensor, critic: Baseline) -> Tensor:
        gae_lambda = self.host.gae_lambda if self._learned_lambda is None else self._learned_lambda
        return self._generalised(part, rewards, critic, gae_lambda)

    def _generalised(self, part: Part, rewards: Tensor, critic: Baseline, gae_lambda: float) -> Tensor:
        episodes, host = part.reward.episodes, self.host
        return generalised_advantages(rewards, critic, episodes, host.gamma, gae_lambda, host.sums)

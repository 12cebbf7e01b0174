"""The advantages that train the policy, as differentiable functions of the learned rewards."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from sb3_tare.advantages.generalised import generalised_advantages
from sb3_tare.advantages.sums import DiscountedSums, discounted_sum
from sb3_tare.data.rollout import Baseline, Rollout
from sb3_tare.settings import RewardSettings


class Advantages:
    """Extrinsic and parameterised advantages of a rollout, ``[n]`` each, in extrinsic reward units.

    :param settings: which rewards, critics and lambda
    :param gamma: the host's discount factor
    :param gae_lambda: the host's lambda, for extrinsic advantages and unless the settings name another
    :param sums: how the host computes discounted sums
    """

    def __init__(
        self, settings: RewardSettings, gamma: float, gae_lambda: float, sums: DiscountedSums = discounted_sum
    ) -> None:
        self.gamma = gamma
        self.sums = sums
        self.extrinsic_lambda = gae_lambda
        self.learned_lambda = gae_lambda if settings.gae_lambda is None else settings.gae_lambda
        self.coefficient = settings.reward_coef if settings.reward_mode == "add" else 1.0
        variants: dict[tuple[str, int], Callable[[Rollout, Tensor], Tensor]] = {
            ("replace", 1): self._replace_with_policy_critic,
            ("replace", 2): self.learned,
            ("add", 1): self._add_with_policy_critic,
            ("add", 2): self._add,
        }
        self.parameterised = variants[settings.reward_mode, settings.critics]
        """A_phi ``[n]`` that the policy is trained on, of a rollout and its learned rewards ``[n]``; differentiable."""
        self._one_critic = settings.critics == 1
        self._latest: tuple[Rollout, Tensor] | None = None

    def extrinsic(self, rollout: Rollout) -> Tensor:
        """The host's own advantages, with its own critic; kept until they are asked of another rollout."""
        if self._latest is None or self._latest[0] is not rollout:
            advantages = generalised_advantages(
                rollout.extrinsic_rewards, rollout.extrinsic, rollout.episodes, self.gamma, self.extrinsic_lambda, self.sums
            )
            self._latest = rollout, advantages
        return self._latest[1]

    def learned(self, rollout: Rollout, learned_rewards: Tensor) -> Tensor:
        """Advantages of the learned rewards alone, over the second critic."""
        assert rollout.learned is not None
        return self._generalised(rollout, self.coefficient * learned_rewards, rollout.learned)

    def host_returns(self, rollout: Rollout, parameterised: Tensor) -> Tensor:
        """What the policy's own critic is trained towards: extrinsic returns, or with one critic parameterised ones."""
        advantages = parameterised if self._one_critic else self.extrinsic(rollout)
        return advantages + rollout.extrinsic.values

    def _add(self, rollout: Rollout, learned_rewards: Tensor) -> Tensor:
        return self.extrinsic(rollout) + self.learned(rollout, learned_rewards)

    def _replace_with_policy_critic(self, rollout: Rollout, learned_rewards: Tensor) -> Tensor:
        return self._generalised(rollout, learned_rewards, rollout.extrinsic)

    def _add_with_policy_critic(self, rollout: Rollout, learned_rewards: Tensor) -> Tensor:
        rewards = rollout.extrinsic_rewards + self.coefficient * learned_rewards
        return self._generalised(rollout, rewards, rollout.extrinsic)

    def _generalised(self, rollout: Rollout, rewards: Tensor, baseline: Baseline) -> Tensor:
        return generalised_advantages(rewards, baseline, rollout.episodes, self.gamma, self.learned_lambda, self.sums)

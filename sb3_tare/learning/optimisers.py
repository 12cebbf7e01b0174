"""Adam for all that is learned beside the policy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager
from typing import Any

from stable_baselines3.common.utils import update_learning_rate
from torch import Tensor
from torch.nn import Parameter
from torch.nn.utils import clip_grad_norm_
from torch.optim import Adam

from sb3_tare.policy.products import flat_gradient
from sb3_tare.rewards.reward_model import RewardModel
from sb3_tare.settings import LearnerSettings
from sb3_tare.utils.last_good import last_good
from sb3_tare.utils.optimisers import load_keeping_step_sizes
from sb3_tare.utils.schedules import value_at

_MOVED = {"reward": "reward network", "critic": "reward's critic"}
_REMEDY = "lower learning_rate or critic_learning_rate, or scale rewards and observations of very large size"


class Optimisers:
    """By name: ``reward``, and ``critic`` where there is a second one.

    :param settings: step sizes and the clip of gradients
    :param reward_model: whose parameters they move
    :raises ValueError: if the reward is to be learned and has no parameters
    """

    def __init__(self, settings: LearnerSettings, reward_model: RewardModel) -> None:
        self._max_grad_norm = settings.step.max_grad_norm
        critic = [] if reward_model.critic is None else list(reward_model.critic.parameters())
        critic_ids = {id(parameter) for parameter in critic}
        learned = (parameter for parameter in reward_model.parameters() if parameter.requires_grad)
        reward = [parameter for parameter in learned if id(parameter) not in critic_ids]
        if not reward and settings.schedule.n_reward_updates > 0:
            raise ValueError(
                f"the reward network {settings.network.network_class.__name__} has no parameters to learn; "
                "give it some, or set n_reward_updates=0"
            )
        self._rates = {"reward": settings.step.learning_rate, "critic": settings.critic.critic_learning_rate}
        moved: dict[str, list[Parameter]] = {"reward": reward, "critic": critic}
        self._by_name = {
            name: Adam(parameters, lr=value_at(self._rates[name], 1.0), eps=settings.adam_eps, fused=True)
            for name, parameters in moved.items()
            if parameters
        }

    def follow(self, progress: float) -> None:
        """Let step sizes that are schedules be those of now, with the share ``progress`` of the run still to come."""
        for name, optimiser in self._by_name.items():
            update_learning_rate(optimiser, value_at(self._rates[name], progress))

    def step(self, name: str, loss: Tensor) -> float:
        """One clipped step of the named one on a ``loss``, a scalar.

        :return: norm of the gradient before it was clipped
        :raises FloatingPointError: if that is not finite, before anything is changed
        """
        optimiser = self._by_name[name]
        optimiser.zero_grad()
        loss.backward()
        return self._clipped_step(name)

    def undoing(self, name: str) -> AbstractContextManager[None]:
        """Put the parameters of the named one back where steps inside leave numbers that are not finite.

        :raises FloatingPointError: then, or passed on from inside
        """
        return last_good(self.parameters(name), self._by_name[name], _MOVED[name], _REMEDY)

    def gradient(self, name: str, loss: Tensor) -> Tensor:
        """Gradient ``[p]`` of ``loss`` in the parameters of the named one, which nothing is done with."""
        return flat_gradient(loss, self.parameters(name))

    def step_down(self, name: str, gradient: Tensor) -> float:
        """One clipped step of the named one on a ``gradient`` ``[p]``.

        :return: its norm before it was clipped
        :raises FloatingPointError: if that is not finite, before anything is changed
        """
        parameters = self.parameters(name)
        for parameter, part in zip(parameters, gradient.split([each.numel() for each in parameters]), strict=True):
            parameter.grad = part.view_as(parameter).clone()
        return self._clipped_step(name)

    def parameters(self, name: str) -> list[Parameter]:
        """Parameters that the named one moves."""
        return [parameter for group in self._by_name[name].param_groups for parameter in group["params"]]

    def _clipped_step(self, name: str) -> float:
        optimiser, parameters = self._by_name[name], self.parameters(name)
        norm = float(clip_grad_norm_(parameters, self._max_grad_norm))
        if not math.isfinite(norm):
            raise FloatingPointError(f"the gradient of the {name} step is not finite ({norm}); nothing was updated with it")
        optimiser.step()
        return norm

    def state_dict(self) -> dict[str, Any]:
        """A state for each."""
        return {name: optimiser.state_dict() for name, optimiser in self._by_name.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take a copy of a :meth:`state_dict` over, of those that are in both; step sizes stay those of the settings."""
        for name in self._by_name.keys() & state.keys():
            load_keeping_step_sizes(self._by_name[name], state[name])

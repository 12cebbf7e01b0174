"""Policies of AWR: SB3's actor and critic with separate optimisers, normalised observations and actions in [-1, 1]."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from gymnasium import spaces
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import Tensor, nn

from sb3_tare.awr.normalizer import NormalizedExtractor, ObservationNormalizer

HIDDEN_SIZES = (128, 64)
"""Hidden layers of actor and critic, as in the authors' implementation; TARE's comparison has 64 and 64."""


class ScaledLinear(nn.Linear):
    """A linear layer whose output counts in units of ``scale``: the critic's layers see values of order one."""

    def __init__(self, in_features: int, scale: float) -> None:
        super().__init__(in_features, 1)
        self.scale = scale

    def forward(self, features: Tensor) -> Tensor:
        """Values ``[n, 1]`` of features ``[n, in_features]``."""
        return super().forward(features) * self.scale


class AWRPolicy(ActorCriticPolicy):
    """Actor and critic with nothing in common but the statistics that normalise their observations.

    Of a ``Box`` of actions the distribution is a Gaussian in units in which the bounds are -1 and 1, with a standard
    deviation that does not depend on the state; what it draws is clipped to the bounds by :meth:`predict` alone.

    :param observation_space: as for SB3's policies
    :param action_space: likewise
    :param lr_schedule: step size of the actor
    :param critic_lr_schedule: step size of the critic; None takes the actor's
    :param value_scale: unit of the critic's output, in reward units
    :param action_std: standard deviation of the actions of a Box, in units in which the bounds are -1 and 1
    :param learn_std: whether it is learned
    :param net_arch: hidden layers, as in SB3
    :param activation_fn: as in SB3
    :param optimizer_class: of actor and critic, any of torch
    :param optimizer_kwargs: its arguments beside the step size; None means momentum 0.9 if it is SGD
    :param features_extractor_class: None means the one that SB3's policy of this kind has
    :param kwargs: as for SB3's policies
    :raises ValueError: for an extractor that actor and critic share
    """

    default_extractor: ClassVar[type[BaseFeaturesExtractor]] = FlattenExtractor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        critic_lr_schedule: Schedule | None = None,
        value_scale: float = 1.0,
        action_std: float = 0.4,
        learn_std: bool = False,
        net_arch: list[int] | dict[str, list[int]] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] | None = None,
        optimizer_class: type[torch.optim.Optimizer] = torch.optim.SGD,
        optimizer_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if kwargs.get("share_features_extractor"):
            raise ValueError("share_features_extractor=True would let two optimisers move one extractor: leave it out")
        self.critic_lr_schedule = lr_schedule if critic_lr_schedule is None else critic_lr_schedule
        self.value_scale, self.action_std, self.learn_std = value_scale, action_std, learn_std
        if features_extractor_class is None:
            features_extractor_class = self.default_extractor
        if net_arch is None:
            net_arch = [] if features_extractor_class is NatureCNN else list(HIDDEN_SIZES)
        if optimizer_kwargs is None:
            optimizer_kwargs = {"momentum": 0.9, "fused": True} if optimizer_class is torch.optim.SGD else {}
        kwargs = {"share_features_extractor": False, "ortho_init": False, "log_std_init": math.log(action_std), **kwargs}
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=net_arch,
            activation_fn=activation_fn,
            features_extractor_class=features_extractor_class,
            optimizer_class=optimizer_class,
            optimizer_kwargs=dict(optimizer_kwargs),
            **kwargs,
        )

    @property
    def squash_output(self) -> bool:
        """True: actions lie in [-1, 1], and :meth:`predict` scales them to the action space."""
        return True

    def make_features_extractor(self) -> BaseFeaturesExtractor:
        """An extractor behind the policy's normaliser of observations."""
        if not hasattr(self, "normalizer"):
            self.normalizer = ObservationNormalizer(self.observation_space)
        return NormalizedExtractor(super().make_features_extractor(), self.normalizer)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.value_net = ScaledLinear(self.mlp_extractor.latent_dim_vf, self.value_scale)
        for module in (self.mlp_extractor, self.value_net):
            module.apply(_initialise)
        assert isinstance(self.action_net, nn.Linear)
        nn.init.uniform_(self.action_net.weight, -0.01, 0.01)
        nn.init.zeros_(self.action_net.bias)
        if isinstance(self.action_space, spaces.Box):
            self.log_std.requires_grad_(self.learn_std)
        self.actor_optimizer = self._optimizer(self.actor_parameters(), lr_schedule)
        self.critic_optimizer = self._optimizer(self.critic_parameters(), self.critic_lr_schedule)
        self.optimizer = None  # type: ignore[assignment]  # SB3's would move both at once

    def _optimizer(self, parameters: list[nn.Parameter], lr_schedule: Schedule) -> torch.optim.Optimizer:
        return self.optimizer_class(parameters, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def actor_parameters(self) -> list[nn.Parameter]:
        """All that the action distribution depends on and that is learned."""
        modules = (self.pi_features_extractor, self.mlp_extractor.policy_net, self.action_net)
        parameters = [parameter for module in modules for parameter in module.parameters()]
        if isinstance(self.action_space, spaces.Box):
            parameters.append(self.log_std)
        return [parameter for parameter in parameters if parameter.requires_grad]

    def critic_parameters(self) -> list[nn.Parameter]:
        """All that the values depend on and that is learned."""
        modules = (self.vf_features_extractor, self.mlp_extractor.value_net, self.value_net)
        return [parameter for module in modules for parameter in module.parameters() if parameter.requires_grad]

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> Tensor:
        actions = self.get_distribution(observation).get_actions(deterministic=deterministic)
        return actions.clamp(-1.0, 1.0) if isinstance(self.action_space, spaces.Box) else actions

    def _get_constructor_parameters(self) -> dict[str, Any]:
        parameters = super()._get_constructor_parameters()
        for name in ("use_sde", "log_std_init", "squash_output", "full_std", "use_expln", "ortho_init"):
            parameters.pop(name)  # gSDE is none of AWR's, and the others follow
        own = {name: getattr(self, name) for name in ("value_scale", "action_std", "learn_std")}
        return {**parameters, **own}


class AWRCnnPolicy(AWRPolicy):
    """An :class:`AWRPolicy` for images."""

    default_extractor = NatureCNN


class AWRMultiInputPolicy(AWRPolicy):
    """An :class:`AWRPolicy` for dictionaries of observations."""

    default_extractor = CombinedExtractor


def _initialise(module: nn.Module) -> None:
    """Glorot's uniform weights and no bias, as in the authors' implementation."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)

"""All that is learned beside the policy: the reward network, the second critic, and the statistics that scale them."""

from __future__ import annotations

import math
from collections.abc import Callable
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from gymnasium import spaces
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, preprocess_obs
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, create_mlp
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from sb3_tare.data.rollout import RewardSteps, Unit
from sb3_tare.networks.inputs import RewardInputs
from sb3_tare.rewards.decomposed import DecomposedReward
from sb3_tare.settings import LearnerSettings
from sb3_tare.settings.groups import NetworkSettings
from sb3_tare.utils.extractors import acting_extractor, goes_on_learning
from sb3_tare.utils.nested import Observations, in_chunks

REWARD_CLIP = 10.0
"""Standardised rewards are clipped here before the network sees them, as ``VecNormalize`` does."""

STATISTICS = ("mean", "var", "count")
"""Of the extrinsic rewards, as ``RunningMeanStd`` names them."""


class RewardModel(nn.Module):
    """Learned rewards and their values, both in units of the extrinsic reward.

    :param settings: of the learner
    :param policy: the host's policy, whose spaces and feature extractor it takes over
    :param chunk_rows: rows of observations that pass through an extractor of its own at a time; None: all of them
    :param keeps_features: whether a memory keeps features of the policy's extractor, which must stay what they are then
    """

    def __init__(
        self, settings: LearnerSettings, policy: Any, chunk_rows: int | None = None, keeps_features: bool = False
    ) -> None:
        super().__init__()
        self.settings = settings
        self.chunk_rows = chunk_rows
        self.statistics = RunningMeanStd(epsilon=0.0)
        self.observation_space = policy.observation_space
        self.normalize_images = policy.normalize_images
        self.extractor: BaseFeaturesExtractor | None = None
        if settings.network.features == "own":
            self.extractor = policy.make_features_extractor()
        self.frozen_extractor: BaseFeaturesExtractor | None = None
        """The policy's extractor as it was in the beginning, where its own goes on learning and a memory keeps features"""
        if keeps_features and self.extractor is None and goes_on_learning(acting_extractor(policy)):
            self.frozen_extractor = deepcopy(acting_extractor(policy)).requires_grad_(False)
            self.register_load_state_dict_pre_hook(_keep_frozen)
        features_dim = int(acting_extractor(policy).features_dim)
        action_dim = int(get_flattened_obs_dim(policy.action_space))
        self.network = build_network(settings.network, features_dim, action_dim, settings.starts_at_zero)
        if settings.decomposition.return_decomposition:
            self.network = DecomposedReward(self.network, features_dim, _space_of_draws(policy))
        self.critic = _build_critic(features_dim) if settings.critic.critics == 2 else None

    @property
    def unit(self) -> Unit:
        """Unit of the rewards seen so far: their standard deviation, or their size where they never vary.

        It is zero as long as every reward was zero: nothing can be learned from those, and nothing is.
        """
        if not self.settings.advantage.normalize_reward or self.statistics.count == 0:
            return Unit(0.0, 1.0)
        mean, deviation = float(self.statistics.mean), math.sqrt(float(self.statistics.var))
        return Unit(mean, deviation if deviation > 1e-6 * abs(mean) else abs(mean))

    def observe(self, extrinsic_rewards: Tensor) -> None:
        """Let ``[n]`` new extrinsic rewards enter the running statistics."""
        self.statistics.update(extrinsic_rewards.double().cpu().numpy())

    def forward(self, steps: RewardSteps) -> Tensor:
        """Learned rewards ``[n]`` of steps, in their unit, differentiable in the network's parameters."""
        learned = one_a_step(self.network, self._inputs(steps)) * steps.unit.scale
        return steps.rewards + learned if self.settings.advantage.residual else learned

    def values(self, states: Observations, scale: float) -> Tensor:
        """Value ``[n]`` of the learned rewards to come from ``states``, in a unit of size ``scale``."""
        assert self.critic is not None
        with torch.no_grad():
            features = self.features(states)
        return self.critic(features).flatten() * scale

    def get_extra_state(self) -> Tensor:
        """Mean, variance and count ``[3]`` of the running statistics, which are part of the state dictionary."""
        values = [float(getattr(self.statistics, name)) for name in STATISTICS]
        device = next(self.parameters(), torch.empty(0)).device
        return torch.tensor(values, dtype=torch.float64, device=device)

    def set_extra_state(self, state: Tensor | dict[str, float]) -> None:
        """Take the running statistics ``[3]`` over, which files up to format 2 have by name."""
        values = [state[name] for name in STATISTICS] if isinstance(state, dict) else state.tolist()
        for name, value in zip(STATISTICS, values, strict=True):
            setattr(self.statistics, name, float(value))

    def _inputs(self, steps: RewardSteps) -> RewardInputs:
        rewards = steps.rewards
        if self.settings.advantage.normalize_reward:
            rewards = standardised(rewards, steps.unit)
        features = self.features(steps.states)
        return RewardInputs(
            observations=features,
            actions=steps.encoded_actions,
            rewards=rewards.to(features),
            extrinsic_rewards=steps.rewards,
            episodes=steps.episodes,
        )

    def features(self, states: Observations) -> Tensor:
        """Features ``[n, features_dim]`` of states, by the reward's own extractor if it has one."""
        if self.extractor is None:
            assert isinstance(states, Tensor)
            return states
        extract: Callable[[Observations], Tensor] = self._extract
        if self.chunk_rows is not None and torch.is_grad_enabled():  # computed anew on the way back, not kept for all rows
            extract = partial(checkpoint, self._extract, use_reentrant=False)
        return in_chunks(extract, states, self.chunk_rows)

    def _extract(self, states: Observations) -> Tensor:
        assert self.extractor is not None
        return self.extractor(preprocess_obs(states, self.observation_space, normalize_images=self.normalize_images))  # type: ignore[arg-type]


def standardised(rewards: Tensor, unit: Unit) -> Tensor:
    """Extrinsic rewards ``[n]`` as the network sees them; as they are while the unit is zero."""
    return ((rewards - unit.mean) / unit.scale).clamp(-REWARD_CLIP, REWARD_CLIP) if unit.scale > 0 else rewards


def one_a_step(network: nn.Module, inputs: RewardInputs) -> Tensor:
    """Learned rewards ``[n]`` that ``network`` returns, one for each step.

    :raises ValueError: if they have another shape
    """
    learned = network(inputs)
    if learned.shape != inputs.rewards.shape:
        raise ValueError(
            f"the reward network must return one reward a step, shape {tuple(inputs.rewards.shape)}, "
            f"got {tuple(learned.shape)}"
        )
    return learned


def build_reward_model(
    settings: LearnerSettings, policy: Any, seed: int, chunk_rows: int | None = None, keeps_features: bool = False
) -> RewardModel:
    """A reward model with initial weights drawn from ``seed``; the global generators stay as they are.

    It is in evaluation mode for good: a reward must not depend on which steps stand beside it, nor on chance.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        model = RewardModel(settings, policy, chunk_rows, keeps_features).to(policy.device).eval()
    for module in model.modules():
        if isinstance(module, nn.RNNBase) and module.dropout == 0.0:
            module.train()  # which then changes nothing but that cuDNN can differentiate
    return model


def build_network(settings: NetworkSettings, features_dim: int, action_dim: int, starts_at_zero: bool = False) -> nn.Module:
    """The network that ``settings`` ask for, on ``[n, features_dim]`` states and ``[n, action_dim]`` encoded actions.

    :param starts_at_zero: whether its last layer does
    :raises TypeError: if its class does not take ``architecture_kwargs``
    :raises ValueError: if its last layer is to start at zero and cannot be found
    """
    network_class = settings.network_class
    try:
        network = network_class(features_dim, action_dim, **settings.architecture_kwargs)
    except TypeError as error:
        raise TypeError(
            f"architecture {network_class.__name__} cannot be built with (observation_dim, action_dim) and "
            f"architecture_kwargs {dict(settings.architecture_kwargs)}: {error}"
        ) from error
    if starts_at_zero:
        head = getattr(network, "head", None)
        if not isinstance(head, nn.Linear):
            raise ValueError(
                f"zero_head needs the network's last nn.Linear layer as its attribute 'head'; {network_class.__name__} has "
                f"{'none' if head is None else type(head).__name__}. Name it so, or set zero_head=False"
            )
        _zero(head)
    return network


def _keep_frozen(model: RewardModel, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Let a state of before there were frozen extractors have the one of now."""
    assert model.frozen_extractor is not None
    name = f"{prefix}frozen_extractor."
    if not any(key.startswith(name) for key in state):
        state.update({f"{name}{key}": value for key, value in model.frozen_extractor.state_dict().items()})


def _space_of_draws(policy: Any) -> spaces.Space:
    """The space of the actions that the policy draws: those of a Box lie between -1 and 1 where it squashes them."""
    space = policy.action_space
    return spaces.Box(-1.0, 1.0, space.shape) if isinstance(space, spaces.Box) and policy.squash_output else space


def _build_critic(features_dim: int) -> nn.Sequential:
    """Two hidden layers of 64 as the policy's own critic has; no value is claimed before one is learned."""
    critic = nn.Sequential(*create_mlp(features_dim, 1, [64, 64], nn.Tanh))
    head = critic[-1]
    assert isinstance(head, nn.Linear)
    _zero(head)
    return critic


def _zero(head: nn.Linear) -> None:
    for parameter in head.parameters():
        nn.init.zeros_(parameter)

"""A learned reward on its own: a function of whole episodes, away from the algorithm and the task it was learned with."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gymnasium import spaces
from numpy.typing import NDArray
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, preprocess_obs
from stable_baselines3.common.save_util import save_to_zip_file
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

from sb3_tare.data.episodes import End, Episodes
from sb3_tare.data.rollout import Unit
from sb3_tare.networks.inputs import RewardInputs
from sb3_tare.rewards.decomposed import DecomposedReward
from sb3_tare.rewards.reward_model import build_network, one_a_step, standardised
from sb3_tare.settings.groups import NetworkSettings
from sb3_tare.utils.damage import damaged
from sb3_tare.utils.entries import Entries, entries_of
from sb3_tare.utils.extractors import acting_extractor
from sb3_tare.utils.formats import KEY, stamp
from sb3_tare.utils.images import channel_first, channel_first_space
from sb3_tare.utils.nested import Observations
from sb3_tare.utils.sums import write_zip
from sb3_tare.utils.words import shortened

ADDED_LATER = ("is_decomposed", "residual", "vec_normalize")
"""Entries that the first files did not have."""


@dataclass(frozen=True)
class LearnedReward:
    """The reward that a learner has learned so far, a copy that stays as it is; on the CPU.

    Made by :meth:`of`, written by :meth:`save`, read by :meth:`load`. It holds all that lies between what an environment
    gives and the learned reward: the statistics of ``VecNormalize``, the policy's feature extractor or the reward's own,
    the unit of rewards, and the network. The mean that ``center`` takes away is left in, as there is none for a single
    episode.

    :param network: r_phi
    :param extractor: makes its features of preprocessed observations
    :param observation_space: as the policy sees it
    :param action_space: of the environment
    :param unit: of its rewards
    :param architecture: of the network, as in the settings
    :param architecture_kwargs: likewise
    :param normalize_reward: likewise
    :param normalize_images: whether images are divided by 255 before the extractor
    :param squashes_actions: whether the policy's actions are in units in which the bounds of a Box are -1 and 1
    :param residual: whether the extrinsic reward is part of it, beside what the network returns
    :param is_decomposed: whether returns of episodes were decomposed; its rewards are in the environment's units then
    :param vec_normalize: statistics of the environment that it was learned in, or None
    """

    network: nn.Module
    extractor: nn.Module
    observation_space: spaces.Space[Any]
    action_space: spaces.Space[Any]
    unit: Unit
    architecture: str | type[nn.Module]
    architecture_kwargs: Mapping[str, Any]
    normalize_reward: bool
    normalize_images: bool
    squashes_actions: bool
    is_decomposed: bool = False
    residual: bool = False
    vec_normalize: VecNormalize | None = None

    def __post_init__(self) -> None:
        if self.vec_normalize is not None:  # a copy lacks what pickling takes off, and cannot be pickled without it
            self.vec_normalize.__dict__.update(class_attributes={}, returns=np.zeros(1))

    def __repr__(self) -> str:
        n_parameters = sum(parameter.numel() for parameter in self.network.parameters())
        parts = [
            f"{type(self.network).__name__} of {n_parameters} parameters",
            f"observation_space={self.observation_space}",
            f"action_space={self.action_space}",
            f"unit={self.unit}",
            f"is_decomposed={self.is_decomposed}",
            "no statistics" if self.vec_normalize is None else "statistics of VecNormalize",
        ]
        return shortened(f"LearnedReward({', '.join(parts)})")

    @classmethod
    def of(cls, learner: Any, vec_normalize: VecNormalize | None = None) -> LearnedReward:
        """The reward of an algorithm that learns one, or of a :class:`~sb3_tare.RewardLearner` that has a model.

        :param vec_normalize: statistics to keep with it; None takes those of the model's environment. A model that was
            loaded without its environment has none, and needs them named where it was trained with some.
        :raises TypeError: if ``learner`` learns no reward
        :raises RuntimeError: if the learner has no model yet
        """
        learner = getattr(learner, "reward_learner", learner)
        if not hasattr(type(learner), "trainer"):
            raise TypeError(
                f"{type(learner).__name__} learns no reward; give an algorithm that does, such as TAREPPO, or a RewardLearner"
            )
        trainer = learner.trainer
        model, settings, reward_model = trainer.host.model, trainer.settings, trainer.reward_model
        policy = model.policy
        extractor = reward_model.extractor or reward_model.frozen_extractor or acting_extractor(policy)
        return cls(
            network=_copy(reward_model.network),
            extractor=_copy(extractor),
            observation_space=model.observation_space,
            action_space=model.action_space,
            unit=reward_model.unit,
            architecture=settings.network.architecture,
            architecture_kwargs=dict(settings.network.architecture_kwargs),
            normalize_reward=settings.advantage.normalize_reward,
            normalize_images=policy.normalize_images,
            squashes_actions=isinstance(model.action_space, spaces.Box) and policy.squash_output,
            residual=settings.advantage.residual,
            is_decomposed=isinstance(reward_model.network, DecomposedReward),
            vec_normalize=deepcopy(model.get_vec_normalize_env() if vec_normalize is None else vec_normalize),
        )

    @property
    def context(self) -> str:
        """Steps that a step's reward depends on: ``"step"``, ``"past"`` or ``"episode"``; see :mod:`sb3_tare.networks`."""
        return getattr(self.network, "context", "episode")

    @torch.no_grad()
    def __call__(self, observations: Observations, actions: Tensor, rewards: Tensor, episodes: Episodes) -> Tensor:
        """Learned rewards ``[n]`` of what an algorithm saw and did, in the unit in which it sees rewards.

        :param observations: ``[n, ...]`` as the policy sees them
        :param actions: ``[n, ...]`` as the policy draws them
        :param rewards: ``[n]`` extrinsic
        :param episodes: which rows belong together
        """
        features = self.extractor(
            preprocess_obs(observations, self.observation_space, normalize_images=self.normalize_images)  # type: ignore[arg-type]
        )
        encoded = preprocess_obs(actions, self.action_space, normalize_images=False)
        assert isinstance(encoded, Tensor)
        seen = standardised(rewards, self.unit) if self.normalize_reward else rewards
        inputs = RewardInputs(features, encoded.flatten(1), seen.to(features), rewards, episodes)
        learned = one_a_step(self.network, inputs) * self.unit.scale
        return rewards + learned if self.residual else learned

    def relabel(
        self,
        observations: NDArray[Any] | dict[str, NDArray[Any]],
        actions: NDArray[Any],
        rewards: NDArray[Any],
        lengths: NDArray[Any] | list[int],
        first_times: NDArray[Any] | list[int] | None = None,
    ) -> NDArray[np.float64]:
        """Learned rewards ``[n]`` of what an environment gave and was given, in its own units.

        :param observations: ``[n, ...]``, not normalised, of whole episodes one behind the other; images channel first or last
        :param actions: ``[n, ...]`` as the environment took them
        :param rewards: ``[n]`` its rewards, not normalised
        :param lengths: ``[E]`` steps of each episode, n in all
        :param first_times: ``[E]`` time step of each episode's first row; None means 0. A network that looks at other steps
            takes what lies before for nothing.
        :raises ValueError: if lengths and numbers of rows differ, or frames are stacked outside ``VecNormalize``
        """
        self._check_frames()
        n_steps = int(np.sum(lengths))
        if not n_steps == len(rewards) == len(actions):
            raise ValueError(f"lengths sum to {n_steps}, but there are {len(actions)} actions and {len(rewards)} rewards")
        observations = channel_first(observations, self.observation_space)
        if self.vec_normalize is not None:
            observations = self.vec_normalize.normalize_obs(observations)
        starts = torch.zeros(len(lengths), dtype=torch.int64) if first_times is None else torch.as_tensor(first_times)
        ends = torch.full((len(lengths),), int(End.TERMINATION))
        episodes = Episodes(torch.as_tensor(lengths), starts, ends)
        seen = obs_as_tensor(observations, torch.device("cpu")), self._drawn(actions), self.as_seen(rewards)
        return self.in_environment_units(self(*seen, episodes))

    def as_seen(self, rewards: NDArray[Any]) -> Tensor:
        """An environment's rewards ``[n]`` as the algorithm saw them, through ``VecNormalize`` if there was one."""
        rewards = np.array(rewards, dtype=np.float64)
        return _tensor(rewards if self.vec_normalize is None else self.vec_normalize.normalize_reward(rewards))

    def in_environment_units(self, rewards: Tensor) -> NDArray[np.float64]:
        """Rewards ``[n]`` in the environment's units, the inverse of :meth:`as_seen` but for the clipping."""
        array = rewards.double().numpy()
        are_seen = self.vec_normalize is not None and not self.is_decomposed
        return self.vec_normalize.unnormalize_reward(array) if are_seen else array  # type: ignore[union-attr]

    def _drawn(self, actions: NDArray[Any]) -> Tensor:
        """Actions of the environment as the policy would have drawn them."""
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            return torch.as_tensor(actions).long()
        if self.squashes_actions:
            assert isinstance(space, spaces.Box)
            actions = 2.0 * (actions - space.low) / (space.high - space.low) - 1.0
        return _tensor(actions)

    def check_spaces(self, observation_space: spaces.Space[Any], action_space: spaces.Space[Any]) -> None:
        """Check that these are the spaces that the reward was learned with, but for images that are channel last.

        :raises ValueError: if they are not
        """
        for name, theirs in (("observation_space", observation_space), ("action_space", action_space)):
            ours = getattr(self, name)
            if ours not in (theirs, channel_first_space(theirs)):
                raise ValueError(f"this reward was learned with {name} {ours}, not {theirs}: they must be equal")

    def _check_frames(self) -> None:
        """Check that the statistics of ``VecNormalize`` are of observations as the reward sees them.

        :raises ValueError: if they are of something else, such as single frames of a stack, which is padded with zeros between
            the statistics and the reward, so that the environment's own units do not tell what the reward saw
        """
        env = self.vec_normalize
        if env is None or not env.norm_obs:
            return
        pairs = [(env.observation_space, self.observation_space)]
        if isinstance(env.observation_space, spaces.Dict):
            assert isinstance(self.observation_space, spaces.Dict)
            pairs = [(env.observation_space[key], self.observation_space[key]) for key in env.norm_obs_keys or ()]
        for normalised, seen in pairs:
            if normalised.shape != seen.shape:
                raise ValueError(
                    f"this reward was learned from observations of shape {seen.shape}, made of such of shape "
                    f"{normalised.shape} in VecNormalize, as VecFrameStack(VecNormalize(...)) does: it cannot be used in an "
                    "environment's own units. Learn it in VecNormalize(VecFrameStack(...)), or with norm_obs=False"
                )

    def save(self, path: str | Path) -> None:
        """Write a zip file, whole or not at all.

        :raises ValueError: if frames are stacked outside ``VecNormalize``
        """
        self._check_frames()
        data = {field.name: getattr(self, field.name) for field in fields(self) if field.name not in ("network", "unit")}
        # The network's weights lie apart, so that they can be read on their own. An extractor is made by a policy, each kind
        # in its own way: the module itself is kept, beside its weights for whoever loads them into one like it.
        data |= {KEY: stamp("LearnedReward"), "unit": [self.unit.mean, self.unit.scale]}
        params = {"network": self.network.state_dict(), "extractor": self.extractor.state_dict()}
        write_zip(path, lambda file: save_to_zip_file(file, data=data, params=params))

    @classmethod
    def load(
        cls, path: str | Path, network: type[nn.Module] | None = None, extractor: type[nn.Module] | nn.Module | None = None
    ) -> LearnedReward:
        """Load what :meth:`save` wrote. Nothing in the file is run.

        :param network: class of a reward network of one's own
        :param extractor: class of a feature extractor of one's own; or one like it, which takes its weights over
        :raises TypeError: if ``path`` is none, such as a model
        :raises ValueError: if the file is damaged, in a newer or unknown format, holds something else, or names classes that
            are neither known nor given
        """
        if not isinstance(path, (str, Path)):
            raise TypeError(
                f"a learned reward is a LearnedReward or the path of one, got {path!r}: LearnedReward.of makes one"
            )
        remedy = "LearnedReward.of(model_or_reward_learner).save(path) writes one"
        entries = entries_of(path, "network.pth", "LearnedReward", remedy)
        data: dict[str, Any] = {}
        for name in (field.name for field in fields(cls) if field.name not in ("network", "unit")):
            if name in entries or name not in ADDED_LATER:
                data[name] = _entry(entries, name, network, extractor)
        with damaged(entries.name), torch.random.fork_rng(devices=[]):
            made = _network(data)
            made.load_state_dict(entries.tensors("network.pth"))
            unit = Unit(*map(float, entries.data["unit"]))
            return cls(**data, network=made.eval(), unit=unit)


def _entry(entries: Entries, name: str, network: type[nn.Module] | None, extractor: type[nn.Module] | nn.Module | None) -> Any:
    """An entry of a saved reward, or what the caller gave in its place."""
    if name == "architecture" and network is not None:
        return network
    if name == "extractor" and isinstance(extractor, nn.Module):
        return _with_weights(extractor, entries)
    remedy = (
        "give the class of a network of your own, LearnedReward.load(path, network=...), and of a feature extractor of your "
        "own, extractor=..."
    )
    return entries.value(name, remedy, [extractor] if isinstance(extractor, type) else [])


def _with_weights(extractor: nn.Module, entries: Entries) -> nn.Module:
    extractor = _copy(extractor)
    with damaged(entries.name):
        extractor.load_state_dict(entries.tensors("extractor.pth"))
    return extractor


def _network(data: Mapping[str, Any]) -> nn.Module:
    """The network of a saved reward, without its weights."""
    settings = NetworkSettings(architecture=data["architecture"], architecture_kwargs=data["architecture_kwargs"])
    features_dim = int(data["extractor"].features_dim)
    network = build_network(settings, features_dim, get_flattened_obs_dim(data["action_space"]))
    return DecomposedReward(network, features_dim, data["action_space"]) if data.get("is_decomposed", False) else network


def _copy(module: nn.Module) -> nn.Module:
    return deepcopy(module).cpu().eval()


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.as_tensor(array, dtype=torch.float32)

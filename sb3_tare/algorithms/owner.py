"""Mixins that make an algorithm of SB3 learn its reward."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import torch
from stable_baselines3.common.callbacks import BaseCallback, ConvertCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.type_aliases import MaybeCallback
from torch import nn

from sb3_tare.learning.learner import RewardLearner
from sb3_tare.learning.optimisation import LEARNER, MODEL, OPTIMISATION, Optimisation, in_parts
from sb3_tare.learning.saved import PART, WHOLE
from sb3_tare.settings.older import settings_in
from sb3_tare.utils.arguments import accepted_arguments
from sb3_tare.utils.continuation import Continuable, is_behind_vec_normalize
from sb3_tare.utils.formats import KEY, is_before
from sb3_tare.utils.ids import check_id
from sb3_tare.utils.numbered import File, named, open_zip, written_in
from sb3_tare.utils.words import described


class OwnsRewardLearner(Continuable):
    """Installs a :class:`~sb3_tare.RewardLearner` in an algorithm and saves it in the algorithm's zip.

    :param reward_kwargs: see :class:`~sb3_tare.settings.RewardSettings`
    :raises TypeError: if ``reward_kwargs`` is no mapping, or names an unknown setting, or for an unknown argument
    :raises ValueError: for a setting out of its range
    """

    learner_class: ClassVar[type[RewardLearner]] = RewardLearner
    own_parameters = (MODEL, OPTIMISATION)
    remedy = (
        "load it with the class that saved it, start from a PPO with TAREPPO.from_ppo, or take a policy's weights over with "
        "set_parameters(path, exact_match=False)"
    )
    reward_learner: RewardLearner

    def __init__(self, *args: Any, reward_kwargs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        for name in sorted(kwargs.keys() - set(accepted_arguments(type(self)))):
            raise self._refusal(name, kwargs[name])
        check_id(kwargs.get("env", args[1] if len(args) > 1 else None))
        if reward_kwargs is not None and not isinstance(reward_kwargs, Mapping):
            raise TypeError(f"reward_kwargs must be a mapping of settings, got {reward_kwargs!r}")
        self.reward_kwargs: dict[str, Any] = dict(reward_kwargs or {})
        self.learner_class.settings_class(**self.reward_kwargs)  # complain before an environment is made
        self.algorithm_class = f"{type(self).__module__}:{type(self).__qualname__}"  # for those who find its file
        super().__init__(*args, **kwargs)

    def __repr__(self) -> str:
        return described(self, f"reward_kwargs={self.reward_kwargs}")

    @classmethod
    def load(
        cls,
        path: File,
        env: Any = None,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Self:
        """Load what :meth:`save` wrote; arguments are those of SB3. Settings of older files keep their meaning.

        :raises ValueError: if the file is in a newer or unknown format, is of an algorithm of another package, of a reward
            that was learned by return consistency, or of one that other ``reward_kwargs`` do not fit
        """
        given = kwargs.get("reward_kwargs")
        if "reward_kwargs" not in {**kwargs, **(custom_objects or {})} and is_before(4, written_in(path).get(KEY)):
            data, _, _ = load_from_zip_file(cls._readable(path), device="cpu", custom_objects=custom_objects)
            assert data is not None
            kwargs["reward_kwargs"] = settings_in(data, bool(cls.learner_class.settings_class.presets))
        try:
            return super().load(path, env, device, custom_objects, *args, **kwargs)
        except RuntimeError as error:
            if not given:
                raise
            raise ValueError(
                f"{named(path)} holds a reward that does not fit reward_kwargs={given}: leave out what makes another network "
                "of it, or start a new model"
            ) from error

    @classmethod
    def _refusal(cls, name: str, value: Any) -> TypeError:
        """The error of an argument that the algorithm does not take."""
        settings = cls.learner_class.settings_class
        if name in settings.names() or (name == "preset" and settings.presets):
            return TypeError(
                f"{name} is a setting of the learned reward and belongs into reward_kwargs: "
                f"{cls.__name__}(..., reward_kwargs={{{name!r}: {value!r}}})"
            )
        return super()._refusal(name, value)

    def _continuation_state(self) -> dict[str, Any]:
        told = {"times": self.reward_learner.times, "vec_normalize": is_behind_vec_normalize(self)}
        return {**super()._continuation_state(), **told}

    def _setup_model(self) -> None:
        continuation = self._continuation
        super()._setup_model()
        # What a loaded model goes on from is in its own file; the one that it once started from may be gone.
        started_from = {} if continuation is None else {"initial_reward": None}
        self.reward_learner = self.learner_class(**{**self.reward_kwargs, **started_from})
        self.reward_learner.attach(self, drives_host=False)
        if continuation is not None:
            self.reward_learner.go_on_from(continuation["times"])

    def _init_callback(self, callback: MaybeCallback, progress_bar: bool = False) -> BaseCallback:
        """The learner comes first: it must see rewards before any other callback can touch them."""
        if callback is None:
            callbacks = []
        elif isinstance(callback, BaseCallback):
            callbacks = [callback]
        elif isinstance(callback, list):
            callbacks = callback
        else:
            callbacks = [ConvertCallback(callback)]
        return super()._init_callback([self.reward_learner, *callbacks], progress_bar)  # type: ignore[misc]

    @property
    def reward_model(self) -> nn.Module:
        """All that is learned beside the policy: the reward network, the second critic, and statistics."""
        model: nn.Module = self.reward_learner.trainer.reward_model
        return model

    @property
    def reward_optimisation(self) -> Optimisation:
        """All that the training of :attr:`reward_model` goes on from."""
        return Optimisation(self.reward_learner.trainer)

    @staticmethod
    def _todays(parameters: dict[str, Any]) -> dict[str, Any]:
        return in_parts(parameters)

    @classmethod
    def _readable(cls, path: File) -> File:
        readable = super()._readable(path)
        with open_zip(path) as (archive, name):
            if not {WHOLE, PART} & set(archive.namelist()):
                raise ValueError(f"{name} holds a policy and no learned reward: {cls.remedy}")
        return readable

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), LEARNER]  # type: ignore[misc]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts, variables = super()._get_torch_save_params()  # type: ignore[misc]
        return [*state_dicts, *self.own_parameters], variables


class LearnsReward(OwnsRewardLearner):
    """Mixed in before a supported on-policy algorithm, it makes it learn its reward.

    :param reward_kwargs: see :class:`~sb3_tare.settings.RewardSettings`
    :raises TypeError: if that algorithm is off-policy
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if not isinstance(self, OnPolicyAlgorithm):
            raise TypeError(
                f"LearnsReward is for on-policy algorithms, and {type(self).__name__} is none: pass a RewardLearner as "
                "callback to SAC and its like"
            )
        super().__init__(*args, **kwargs)

    def train(self) -> None:
        """Update the policy on the learned reward, and the reward on held-out extrinsic returns."""
        self.reward_learner.phase(super().train)  # type: ignore[misc]

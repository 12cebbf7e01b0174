"""Environments to act in as a model had them: an id, arguments and wrappers, of which they can be made again."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import yaml
from gymnasium.envs.registration import EnvSpec, WrapperSpec
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecCheckNan, VecEnv, VecEnvWrapper, VecMonitor, VecNormalize, VecTransposeImage

OF_RENDERING = "gymnasium.wrappers.rendering:"
"""Wrappers that change neither observations nor rewards"""
AROUND_COPIES = (VecNormalize, VecTransposeImage, VecMonitor, VecCheckNan)
"""What may stand around all copies of an environment: it changes nothing, or is put there again"""
REMEDY = "register the environment under an id of its own, as it is wrapped, and name that"


class Wrapper(NamedTuple):
    """A wrapper as rl-zoo3's ``env_wrapper`` names it.

    :param name: ``"module.Class"``
    :param kwargs: its arguments beside the environment
    """

    name: str
    kwargs: Mapping[str, Any]

    def around(self, env: gym.Env) -> gym.Env:
        """The environment in it.

        :raises ValueError: if the class cannot be imported
        """
        module, _, name = self.name.rpartition(".")
        try:
            wrapper = getattr(importlib.import_module(module), name)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"the wrapper {self.name} cannot be imported ({error}): {REMEDY}") from error
        return wrapper(env, **self.kwargs)


MONITOR = Wrapper(f"{Monitor.__module__}.{Monitor.__name__}", {})


@dataclass(frozen=True)
class Environment:
    """An environment that can be made again, by rl-zoo3 too.

    :param env_id: registered with Gymnasium, with the module to import before a colon where that is needed
    :param kwargs: of ``gymnasium.make``, ``max_episode_steps`` among them
    :param wrappers: around what that makes, the innermost first
    """

    env_id: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    wrappers: tuple[Wrapper, ...] = ()

    def make(self, render_mode: str | None = None) -> gym.Env:
        """A new one; not all environments take a ``render_mode``, so that None is not told them."""
        kwargs = {**self.kwargs, "render_mode": render_mode}
        if render_mode is None:
            del kwargs["render_mode"]
        env = gym.make(self.env_id, **kwargs)
        for wrapper in self.wrappers:
            env = wrapper.around(env)
        return env

    def env_wrapper(self) -> list[dict[str, dict[str, Any]]]:
        """The wrappers as rl-zoo3's ``env_wrapper``, which puts a ``Monitor`` there itself."""
        return [{each.name: dict(each.kwargs)} for each in self.wrappers if each != MONITOR]


def made(env: str | Environment, render_mode: str | None = None) -> gym.Env:
    """A new environment, of its id alone or as a model had it."""
    return (Environment(env) if isinstance(env, str) else env).make(render_mode)


def environment_of(model: BaseAlgorithm) -> Environment:
    """The environment that a model has, to be made again.

    :raises ValueError: if it has none that knows its id, or what Gymnasium knows of it does not tell how it was made
    """
    env = model.get_env()
    spec: EnvSpec | None = None if env is None else env.get_attr("spec")[0]
    if env is None or spec is None:
        raise ValueError(f"env_id must be named: this {type(model).__name__} has no environment that knows its id")
    _check_copies(env)
    kwargs = _arguments(spec)
    with gym.make(spec.id, **kwargs) as bare:
        assert bare.spec is not None
        further = spec.additional_wrappers[len(bare.spec.additional_wrappers) :]
    wrappers = tuple(_recorded(each) for each in further if not each.entry_point.startswith(OF_RENDERING))
    return Environment(spec.id, kwargs, wrappers)


def check_plain(environment: Environment) -> None:
    """Check that how an environment is made can be written down.

    :raises ValueError: if it has arguments that are not plain data
    """
    try:
        yaml.safe_dump([dict(environment.kwargs), environment.env_wrapper()])
    except yaml.YAMLError as error:
        told = " ".join(str(error).split())
        raise ValueError(
            f"arguments of {environment.env_id} or of its wrappers are not plain data ({told}): {REMEDY}"
        ) from error


def _check_copies(env: VecEnv) -> None:
    """Check that nothing around all copies of an environment changes what they show or pay."""
    while isinstance(env, VecEnvWrapper):
        if not isinstance(env, AROUND_COPIES):
            raise ValueError(f"the model's environment is in {type(env).__name__}, which is not made again: {REMEDY}")
        env = env.venv


def _arguments(spec: EnvSpec) -> dict[str, Any]:
    """Arguments that ``gymnasium.make`` was given, as far as they differ from what is registered."""
    registered = gym.spec(spec.id)
    usual = {**registered.kwargs, "render_mode": spec.kwargs.get("render_mode")}
    kwargs = {
        name: value for name, value in spec.kwargs.items() if name not in usual or not np.array_equal(usual[name], value)
    }
    if spec.max_episode_steps != registered.max_episode_steps:
        kwargs["max_episode_steps"] = -1 if spec.max_episode_steps is None else spec.max_episode_steps
    return kwargs


def _recorded(wrapper: WrapperSpec) -> Wrapper:
    """A wrapper that Gymnasium knows of."""
    name = wrapper.entry_point.replace(":", ".")
    if name == MONITOR.name:
        return MONITOR
    if wrapper.kwargs is None:
        raise ValueError(
            f"the wrapper {name} cannot be made again, as it is no gymnasium.utils.RecordConstructorArgs, by which its "
            f"arguments would be known: {REMEDY}"
        )
    return Wrapper(name, wrapper.kwargs)

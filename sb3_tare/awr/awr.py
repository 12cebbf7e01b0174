"""Advantage Weighted Regression (Peng et al., 2019) as an off-policy algorithm of SB3."""

from __future__ import annotations

import io
import logging
from pathlib import Path
from typing import Any, ClassVar, Never, TypeVar

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, Schedule
from stable_baselines3.common.utils import FloatSchedule

from sb3_tare.awr.arguments import REPLACED, check_arguments, check_iteration
from sb3_tare.awr.dispatch import host_loop
from sb3_tare.awr.memory import PathMemory, check_fits, memory_class_for
from sb3_tare.awr.phases import SAMPLES_PER_ITERATION, AdvantageWeightedRegression
from sb3_tare.awr.policy import AWRCnnPolicy, AWRMultiInputPolicy, AWRPolicy
from sb3_tare.awr.sampling import Sampler, sampler_of
from sb3_tare.lean.dispatch import HostLoop
from sb3_tare.utils.arguments import unknown_argument
from sb3_tare.utils.continuation import Continuable
from sb3_tare.utils.ids import check_id
from sb3_tare.utils.monitors import begun, places
from sb3_tare.utils.numbered import read_memory, write_memory
from sb3_tare.utils.schedules import from_text

SelfAWR = TypeVar("SelfAWR", bound="AWR")
log = logging.getLogger("sb3_tare")


class AWR(Continuable, AdvantageWeightedRegression):
    """Advantage Weighted Regression (Peng et al., 2019).

    The actor is regressed on the actions of a replay memory, weighted by how much better than the critic expected they
    turned out.

    Sampling and gradient steps of an ``MlpPolicy`` on the CPU (tanh or ReLU; Gaussian or categorical actions; SGD as it is set
    up here) are written out, without modules, autograd or checks of arguments; any other policy goes through its own methods,
    and :attr:`host_loop` tells. Parameters, momentum, memory and random numbers are the same to the last bit where a kernel's
    result does not depend on where in memory its operands lie; elsewhere they are as close as two kernels are to each other.

    Defaults are those of the authors' implementation for HalfCheetah. Theirs for others: ``learning_rate`` 5e-5 (Ant),
    1e-4 (Hopper), 2.5e-5 (Walker2d), 1e-5 (Humanoid), 5e-4 (LunarLander); ``action_std`` 0.2 (Ant).

    :param policy: ``"MlpPolicy"``, ``"CnnPolicy"``, ``"MultiInputPolicy"``, or a subclass of
        :class:`~sb3_tare.awr.policy.AWRPolicy`
    :param env: as for every algorithm of SB3; Box actions need finite bounds
    :param learning_rate: step size of the actor, a number or a schedule: a function of the progress that remains, or text such
        as ``lin_0.0001``
    :param critic_learning_rate: step size of the critic, likewise
    :param buffer_size: steps in the replay memory, of all environments together
    :param batch_size: steps in a gradient step
    :param gamma: discount factor, below 1: the critic counts in units of 1 / (1 - gamma)
    :param td_lambda: lambda of the TD(lambda) returns
    :param temperature: beta of the weights exp(A / beta), where advantages are standardised over the memory
    :param max_weight: where weights are clipped
    :param critic_steps: the critic's gradient steps for every 2,048 collected steps
    :param actor_steps: the actor's, likewise
    :param action_std: standard deviation of the actions of a Box, in units in which the bounds are -1 and 1
    :param learn_std: whether it is learned, from there on
    :param bound_coef: coefficient of the loss that keeps mean actions of a Box within the bounds
    :param ent_coef: coefficient of the entropy bonus
    :param normalizer_steps: collected steps after which the statistics that normalise observations freeze; 0: no
        normalisation
    :param train_freq: steps of each environment in an iteration, or ``(n, "episode")``; None: 2,048 steps of all together
    :param policy_kwargs: of :class:`~sb3_tare.awr.policy.AWRPolicy`: ``net_arch``, ``activation_fn``,
        ``optimizer_class``, ...
    :param stats_window_size: as in SB3, as are the others
    :param lean: False for the policy's own methods and autograd at each step: the same numbers, for more time
    :param unknown: any other argument, which is refused with what takes its place
    :raises TypeError: if ``lean`` is not a bool, or for an unknown argument
    :raises ValueError: for an argument out of its range, or a memory too small for an iteration
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": AWRPolicy,
        "CnnPolicy": AWRCnnPolicy,
        "MultiInputPolicy": AWRMultiInputPolicy,
    }

    replaced_arguments: ClassVar[dict[str, str]] = REPLACED

    _sampler: Sampler | None = None
    """Draws the actions of the iteration under way"""
    _breaks_off = False
    """Whether environments may have been moved on from the newest steps of the memory"""
    _places: list[tuple[int, bool]] | None = None
    """Counts of their monitors when training ended; None where it has not, or nobody counts"""

    def __init__(
        self,
        policy: str | type[AWRPolicy],
        env: GymEnv | str,
        learning_rate: float | str | Schedule = 5e-5,
        critic_learning_rate: float | str | Schedule = 1e-2,
        buffer_size: int = 50_000,
        batch_size: int = 256,
        gamma: float = 0.99,
        td_lambda: float = 0.95,
        temperature: float = 1.0,
        max_weight: float = 20.0,
        critic_steps: int = 200,
        actor_steps: int = 1000,
        action_std: float = 0.4,
        learn_std: bool = False,
        bound_coef: float = 10.0,
        ent_coef: float = 0.0,
        normalizer_steps: int = 300_000,
        train_freq: int | tuple[int, str] | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: torch.device | str = "auto",
        lean: bool = True,
        _init_setup_model: bool = True,
        **unknown: Never,
    ) -> None:
        for name in unknown:
            raise unknown_argument(type(self), name, self.replaced_arguments)
        check_id(env)
        if not isinstance(lean, bool):
            raise TypeError(f"lean must be True or False, got {lean!r}")
        self.lean = lean
        self.critic_learning_rate = from_text("critic_learning_rate", critic_learning_rate)
        self.td_lambda = td_lambda
        self.temperature = temperature
        self.max_weight = max_weight
        self.critic_steps = critic_steps
        self.actor_steps = actor_steps
        self.action_std = action_std
        self.learn_std = learn_std
        self.bound_coef = bound_coef
        self.ent_coef = ent_coef
        self.normalizer_steps = normalizer_steps
        self.seconds = {"returns": 0.0, "critic": 0.0, "actor": 0.0}
        self._n_updates = 0
        self._n_observed = 0
        super().__init__(
            policy,
            env,
            from_text("learning_rate", learning_rate),
            buffer_size=buffer_size,
            learning_starts=0,
            batch_size=batch_size,
            gamma=gamma,
            train_freq=train_freq,  # type: ignore[arg-type]  # None until the number of environments is known
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            seed=seed,
            device=device,
            support_multi_env=True,
            sde_support=False,
            supported_action_spaces=(spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary),
        )
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        check_arguments(self)
        if self.train_freq is None:
            self.train_freq = -(-SAMPLES_PER_ITERATION // self.n_envs)
        self._convert_train_freq()
        check_iteration(self)
        self.critic_lr_schedule = FloatSchedule(self.critic_learning_rate)
        if self.replay_buffer_class is None:
            self.replay_buffer_class = memory_class_for(self.observation_space)
        given = self.policy_kwargs
        self.policy_kwargs = {
            **given,
            "critic_lr_schedule": self.critic_lr_schedule,
            "value_scale": 1.0 / (1.0 - self.gamma),
            "action_std": self.action_std,
            "learn_std": self.learn_std,
        }
        try:
            super()._setup_model()
        finally:
            self.policy_kwargs = given

    def learn(
        self: SelfAWR,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "AWR",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
        collect: bool = True,
    ) -> SelfAWR:
        """Train as every algorithm of SB3 does, or offline.

        :param collect: False: learn from what the memory holds (:meth:`use_memory`, :meth:`load_replay_buffer`) as much as
            from ``total_timesteps`` collected steps, without taking any; callbacks are called as if they were taken
        :raises ValueError: if there is nothing to learn from
        """
        if not collect:
            if self.replay_buffer.size() == 0:
                raise ValueError("collect=False needs a memory that was filled: see use_memory and load_replay_buffer")
            self._learn_offline(
                *self._setup_learn(total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar), log_interval
            )
            self._leave()
            return self
        if self.replay_buffer.n_envs != self.n_envs:
            raise ValueError(
                f"the memory holds steps of {self.replay_buffer.n_envs} environments, and there are {self.n_envs}: "
                "learn with collect=False, or with as many environments"
            )
        super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)
        self._leave()
        return self

    def _learn_offline(self, total_timesteps: int, callback: BaseCallback, log_interval: int | None) -> None:
        if self._n_updates == 0:
            self._observe(self.replay_buffer.paths())
        callback.on_training_start(locals(), globals())
        nothing = np.zeros(self.n_envs)
        step = {"infos": [{} for _ in nothing], "rewards": nothing, "dones": nothing.astype(bool), "new_obs": self._last_obs}
        iterations = 0
        while self.num_timesteps < total_timesteps and self._let_time_pass(callback, step):
            self.replay_buffer.n_new = self.replay_buffer.size() * self.replay_buffer.n_envs  # each time all may be new
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            self.update(SAMPLES_PER_ITERATION)
            iterations += 1
            if log_interval is not None and iterations % log_interval == 0:
                self.dump_logs()
        self.replay_buffer.n_new = 0
        callback.on_training_end()

    def _let_time_pass(self, callback: BaseCallback, step: dict[str, Any]) -> bool:
        """Call ``callback`` as if an iteration's steps were taken; returns whether training is to go on."""
        callback.on_rollout_start()
        for _ in range(-(-SAMPLES_PER_ITERATION // self.n_envs)):
            self.num_timesteps += self.n_envs
            callback.update_locals(step)
            if not callback.on_step():
                return False
        callback.on_rollout_end()
        return True

    def use_memory(self, memory: PathMemory) -> None:
        """Learn from ``memory`` from now on, such as one of :mod:`sb3_tare.awr.offline`; what is collected starts new paths.

        :raises TypeError: if it is no :class:`~sb3_tare.awr.PathMemory`
        :raises ValueError: if it is of another environment
        """
        check_fits(memory, self)
        memory.cut()
        self._take(memory)
        self._breaks_off = True  # environments may be amid episodes

    def _take(self, memory: PathMemory) -> None:
        memory.device = self.device
        self.replay_buffer = memory

    def save_replay_buffer(self, path: str | Path | io.BufferedIOBase) -> None:
        """Write the memory to a file of its own, whole or not at all, with the number of its format.

        :param path: as in SB3
        """
        write_memory(path, self.replay_buffer)

    def load_replay_buffer(self, path: str | Path | io.BufferedIOBase, truncate_last_traj: bool = True) -> None:
        """Load what ``save_replay_buffer`` wrote, and go on from there.

        :param truncate_last_traj: as in SB3, where it does not concern memories like this one
        :raises TypeError: if it is no :class:`~sb3_tare.awr.PathMemory`
        :raises ValueError: if it is of another environment or another number of environments, or in a newer or unknown
            format
        """
        dropped = self.replay_buffer is None  # by who had no use for it
        assert self.replay_buffer_class is not None
        memory = read_memory(path, self.replay_buffer_class if dropped else type(self.replay_buffer))
        check_fits(memory, self)
        size = self.buffer_size // self.n_envs if dropped else self.replay_buffer.buffer_size
        if (memory.buffer_size, memory.n_envs) != (size, self.n_envs):
            raise ValueError(
                f"the memory in {path} holds {memory.buffer_size} steps of each of {memory.n_envs} environments, the model's "
                f"{size} of {self.n_envs}: give the model the same buffer_size and environments, or "
                "take the memory over with use_memory to learn with collect=False"
            )
        self._take(memory)

    def _setup_learn(
        self, total_timesteps: int, callback: MaybeCallback = None, reset_num_timesteps: bool = True, *args: Any, **kwargs: Any
    ) -> tuple[int, BaseCallback]:
        is_reset = reset_num_timesteps or self._last_obs is None
        prepared = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args, **kwargs)
        if is_reset:
            self.replay_buffer.cut()
        else:
            self._cut_where_moved()
        self._breaks_off, self._places = False, None
        log.debug("%s: %s", type(self).__name__, self.host_loop)
        return prepared

    @property
    def host_loop(self) -> HostLoop:
        """Loops in use, and why; asked before each iteration and each phase, since callbacks may change either."""
        return host_loop(self)

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """Collect as ``OffPolicyAlgorithm.collect_rollouts`` does.

        :raises ValueError: if an observation, a reward or what the policy draws is not finite
        """
        self._sampler = None  # what is written out is decided when the first action is drawn
        try:
            collected = super().collect_rollouts(*args, **kwargs)
        finally:
            self._sampler = None
        self._breaks_off = not collected.continue_training
        return collected

    def _leave(self) -> None:
        """Note where the environments are, as training ends."""
        assert self.env is not None
        self._places = places(self.env)

    def _cut_where_moved(self) -> None:
        """Leave paths unfinished where a step was taken that is not stored, or somebody else has moved the environments."""
        assert self.env is not None
        if self._breaks_off or self._places not in (None, places(self.env)):
            self.replay_buffer.cut(begun(self.env))

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[np.ndarray, np.ndarray]:
        """Actions for the environment, clipped to its bounds, and as the policy drew them, for the memory.

        Clipping the latter too would bias their log-probabilities.
        """
        self._breaks_off = True  # until the step is stored, and the rollout with it
        sampler = self._sampler
        if sampler is None or sampler.policy is not self.policy:  # a callback may give the model another one
            sampler = self._sampler = sampler_of(self.policy, n_envs, self.lean)
        actions = sampler.draw(self._last_obs)
        if isinstance(self.action_space, spaces.Box):
            return self.policy.unscale_action(np.clip(actions, -1.0, 1.0)), actions
        return actions, actions

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_sampler", "_places"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.actor_optimizer", "policy.critic_optimizer"], []

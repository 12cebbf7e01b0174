"""The reward learner: an SB3 callback that relabels rollouts with a learned reward and has that reward trained.

One mechanism serves an algorithm that owns a learner (:class:`~sb3_tare.algorithms.owner.LearnsReward`) and a bare callback
on an unmodified host: :class:`~sb3_tare.learning.iteration.Iteration`, a generator that yields whenever the host is to update
its policy.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from typing import Any, ClassVar, Unpack

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback, EventCallback
from stable_baselines3.common.save_util import save_to_zip_file
from stable_baselines3.common.utils import get_device

from sb3_tare.hosts.adapters import adapter_of
from sb3_tare.hosts.host import AnyHost
from sb3_tare.learning.beside import BESIDE, Savers, callbacks_in
from sb3_tare.learning.decomposing import Decomposer
from sb3_tare.learning.iteration import Attached, Iteration, iteration_of, trainer_of
from sb3_tare.learning.optimisation import LEARNER
from sb3_tare.learning.replaying import ReplayIteration, ReplayTrainer
from sb3_tare.learning.saved import Loaded, learner_entries, learner_settings, learner_state
from sb3_tare.learning.spaces import NAMES, check_spaces, check_vec_normalize, spaces_in, spaces_of
from sb3_tare.learning.start import start_from
from sb3_tare.learning.trainer import RewardTrainer
from sb3_tare.policy.derivatives import own_distribution
from sb3_tare.rewards.learned_reward import LearnedReward
from sb3_tare.settings import LearnerSettings, RewardKwargs, RewardSettings
from sb3_tare.utils.checks import check_number
from sb3_tare.utils.continuation import is_behind_vec_normalize
from sb3_tare.utils.extractors import acting_extractor
from sb3_tare.utils.files import reward_path
from sb3_tare.utils.formats import KEY, stamp
from sb3_tare.utils.sums import parameter_sums, write_zip
from sb3_tare.utils.words import shortened

ANNOUNCEMENT = (
    "The policy is paid learned rewards in place of the extrinsic ones: the totals of whole episodes, decomposed into rewards "
    "of steps (preset='decomposition'), on rollouts as far as new payments bear them out (reward/decomposition_trust)."
)


class RewardLearner(BaseCallback):
    """Learns a reward while its host learns a policy from it (TARE, Algorithm 1).

    As a callback of PPO, A2C, TRPO or MaskablePPO it belongs last in the list: it starts the policy's updates at the end of
    each rollout, so that callbacks behind it would see the buffer narrowed to the last part. On
    :class:`~sb3_tare.TAREPPO`, which owns a learner, nothing needs to be passed.

    As a callback of SAC, TD3, DDPG, DQN, TQC, CrossQ or QR-DQN, anywhere in the list, it decomposes the returns of episodes in
    the replay buffer, without an implicit gradient. Batches are paid by the learned reward as they are sampled; the buffer
    keeps the rewards of the environment.

    Beside each model that a ``CheckpointCallback`` or an ``EvalCallback`` saves, and rl-zoo3 at the end, it saves what it has
    learned: ``rl_model_1000_steps.reward.zip`` beside ``rl_model_1000_steps.zip``. :meth:`load` takes either path.

    :param verbose: as for every SB3 callback
    :param reward_kwargs: see :class:`~sb3_tare.settings.RewardSettings`
    :raises TypeError: for an unknown setting, or a host that is not supported
    :raises ValueError: for a setting out of its range, or one that does not fit the host
    """

    model: Any  # SB3's own annotation is its most general class
    settings_class: ClassVar[type[LearnerSettings]] = RewardSettings
    decomposer_class: ClassVar[type[Decomposer]] = Decomposer

    def __init__(self, verbose: int = 0, **reward_kwargs: Unpack[RewardKwargs]) -> None:
        if "reward_kwargs" in reward_kwargs:
            raise TypeError(f"settings of a {type(self).__name__} are keyword arguments of its own: write **reward_kwargs")
        if not isinstance(verbose, int):
            raise TypeError(
                f"verbose must be 0, 1 or 2, got {verbose!r}; settings are keyword arguments, and a model is given by "
                "model.learn(..., callback=learner)"
            )
        super().__init__(verbose)
        self.settings = self.settings_class(**reward_kwargs)
        self._attachment: Attached | None = None
        self._loaded: Loaded | None = None
        self._suspended: Generator[None, None, None] | None = None
        self._n_updates_due = 0
        self._savers: Savers | None = None
        self._in_rollout = False
        self._has_told = False

    def __getstate__(self) -> dict[str, Any]:
        """All but what SB3 shows a callback while a run is under way, which belongs to the run."""
        run: dict[str, Any] = {"parent": None, "locals": {}, "globals": {}, "_savers": None, "_suspended": None}
        return {**self.__dict__, **run}

    def __repr__(self) -> str:
        model = "no model yet" if self._attachment is None else f"of a {type(self._attached.model).__name__}"
        return shortened(f"{type(self).__name__}({model}, {self.settings!r})")

    @property
    def _attached(self) -> Attached:
        if self._attachment is None:
            raise RuntimeError("this RewardLearner has no model yet: pass it to learn(callback=...) first")
        return self._attachment

    @property
    def trainer(self) -> Any:
        """Reward network and all that trains it: a ``RewardTrainer``, or a ``ReplayTrainer`` on an off-policy algorithm.

        It is never behind its host: where a callback asks for it as a rollout starts or training ends, before the learner has
        been told, the reward step is taken that follows the host's last update.

        :raises RuntimeError: before the learner has a model
        """
        if self._suspended is not None and self._attached.host.is_past(self._n_updates_due):
            self._resume()
        return self._attached.trainer

    def attach(self, model: Any, drives_host: bool = True) -> None:
        """Build all networks for ``model``, once; :meth:`init_callback` does it where nothing else did.

        :param drives_host: whether this callback runs the host's updates itself, at the end of each rollout
        :raises TypeError: if no reward can be learned for ``model``
        :raises ValueError: if it has a learner, this learner a model, or the settings do not fit it
        """
        if self._attachment is not None and self._attachment.model is model:
            return
        if self._attachment is not None:
            raise ValueError(
                "this RewardLearner already belongs to another model; make one for each, "
                "and carry what was learned over with RewardLearner.save and RewardLearner.load"
            )
        if getattr(model, "reward_learner", self) is not self:
            raise ValueError(
                f"{type(model).__name__} learns a reward of its own: set it up with reward_kwargs, not with a callback"
            )
        host = self._host(model)
        check_number("gamma", model.gamma, at_least=0.0, at_most=1.0)
        if self._loaded is not None:
            check_spaces(self._loaded.spaces, model)
        host.check(self.settings)
        seed = next(s for s in (self.settings.seed, model.seed, secrets.randbits(32)) if s is not None)
        trainer = trainer_of(self.settings, host, seed, self.decomposer_class)
        if self._loaded is not None:
            _check_kind(self._loaded.state, trainer)
            if isinstance(trainer, ReplayTrainer):  # on-policy the memory of episodes tells, when the first rollout is there
                check_vec_normalize(self._loaded.vec_normalize, model)
            trainer.load_state_dict(self._loaded.state)
            host.go_on_from(np.array(self._loaded.times, dtype=np.int64))
        elif self.settings.network.initial_reward is not None:
            own = self.settings.network.architecture
            network, extractor = None if isinstance(own, str) else own, type(acting_extractor(model.policy))
            start_from(LearnedReward.load(self.settings.network.initial_reward, network, extractor), trainer)
        self._attachment = Attached(host, self._iteration(trainer), drives_host)

    def _host(self, model: Any) -> AnyHost[Any]:
        """The adapter of ``model``."""
        return adapter_of(model, self.settings.network.features == "policy", self.settings.gradient.chunk_rows)

    def _iteration(self, trainer: Any) -> Iteration | ReplayIteration:
        """Algorithm 1 in the variant that the settings ask for."""
        return iteration_of(self.settings, trainer)

    def phase(self, train: Callable[[], None]) -> None:
        """Run an iteration's policy updates with ``train``, and the reward steps around them."""
        updates = self._updates()
        try:
            with own_distribution(self._attached.model.policy):
                for _ in updates:
                    with self._attached.undoing():
                        train()
        finally:
            updates.close()

    def init_callback(self, model: Any) -> None:
        """Attach to ``model``; SB3 calls this when training is set up."""
        self.attach(model)
        super().init_callback(model)

    def _init_callback(self) -> None:
        self._check_parent()

    def _on_training_start(self) -> None:
        self._check_parent()
        if any(isinstance(each, RewardLearner) and each is not self for each in callbacks_in(self.locals["callback"])):
            raise ValueError(
                "there is another RewardLearner in the list of callbacks, and a policy is paid one reward: pass one"
            )
        self._in_rollout = False
        self._close()  # an interrupted run may have left it behind
        self._attached.host.start_training(self.locals.get("reset_num_timesteps", False))
        # An algorithm that owns its learner has what is learned in its own file.
        self._savers = None if hasattr(self.model, "reward_learner") else Savers(self.locals["callback"])
        self._tell()

    def _tell(self) -> None:
        """Say once what the policy is paid, where that is not what its user sees the environment pay."""
        if max(self.verbose, self.model.verbose) >= 1 and self.settings.decomposition.return_decomposition:
            if not self._has_told:
                print(ANNOUNCEMENT)
            self._has_told = True

    def _on_rollout_start(self) -> None:
        if self._in_rollout:
            raise ValueError("this RewardLearner stands twice in the list of callbacks; once is right")
        self._resume()
        self._attached.host.begin()
        self._in_rollout = True

    def _on_step(self) -> bool:
        if not self._in_rollout:  # nobody has told of the rollout: a list inside an EventCallback, or in its lists
            raise _no_rollouts(self.parent)
        self._save_beside(self.num_timesteps - 1)  # what callbacks behind this one saved after its last step
        self._attached.host.add(self.locals)
        self._save_beside(self.num_timesteps)
        return True

    def _on_rollout_end(self) -> None:
        self._save_beside(self.num_timesteps)
        self._in_rollout = False
        if not self._attached.drives_host:
            return
        # The host does this only after the callbacks, and its schedules would lag behind by an iteration.
        self.model._update_current_progress_remaining(self.model.num_timesteps, self.model._total_timesteps)
        self._suspended = self._updates()
        try:
            next(self._suspended)
            for _ in range(self._attached.iteration.n_updates - 1):
                with self._attached.undoing():
                    self.model.train()
                next(self._suspended)
        except BaseException:
            self._close()
            raise
        self._n_updates_due = self._attached.host.updates_after()
        # The last update is the one that the host's own loop makes now; _resume() takes the reward step that follows.

    def _save_beside(self, until: int) -> None:
        """Save what is learned beside the models that were saved since, by callbacks at most ``until`` steps into the run."""
        for model in () if self._savers is None else self._savers.saved(until):
            self._save_for(model)

    def _save_for(self, model: Path) -> None:
        path = reward_path(model)
        self.save(path, model)
        if max(self.verbose, self.model.verbose) >= 1:
            print(f"Saved the learned reward of {model} to {path}")

    def _on_training_end(self) -> None:
        if self._attachment is None:  # rl-zoo3 ends what could not start, too, and would hide the error that says why
            return
        self._save_beside(self.num_timesteps)
        self._resume()
        for model in () if self._savers is None else self._savers.to_come(self.model.get_env()):
            self._save_for(model)
        self._savers = None
        self._attached.host.end_training()
        self.locals, self.globals = {}, {}  # an algorithm that owns its learner would keep all of them

    def _resume(self) -> None:
        if self._suspended is not None:
            suspended, self._suspended = self._suspended, None
            next(suspended, None)

    def _close(self) -> None:
        """Give the host back what is its own, with no reward step taken."""
        if self._suspended is not None:
            suspended, self._suspended = self._suspended, None
            suspended.close()

    def _updates(self) -> Generator[None, None, None]:
        yield from self._attached.iteration.updates(self._attached.host.record())
        self._log()

    def _log(self) -> None:
        iteration = self._attached.iteration
        measured = self.trainer.metrics.means()
        if measured:  # off-policy, most rollouts end no episode and teach nothing
            for name, value in {**measured, "seconds": iteration.clock.seconds}.items():
                self.logger.record(f"reward/{name}", value)

    def _check_parent(self) -> None:
        if isinstance(self.parent, EventCallback):
            raise _no_rollouts(self.parent)

    def state_dict(self) -> dict[str, Any]:
        """All that a continued run needs; on an algorithm that owns a learner, part of its parameters."""
        return self.trainer.state_dict()

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Take a :meth:`state_dict` over.

        :raises RuntimeError: if it belongs to a reward model of another shape
        """
        self.trainer.load_state_dict(state, strict)

    @property
    def times(self) -> list[int]:
        """Steps that each environment is into its episode. Not part of the state, as the environments are not."""
        return self._attached.host.times.tolist()

    def go_on_from(self, times: list[int]) -> None:
        """Expect environments that are ``times`` steps into their episodes, if there are as many of them."""
        self._attached.host.go_on_from(np.array(times, dtype=np.int64))

    def save(self, path: str | Path, model: str | Path | None = None) -> None:
        """Write settings and state to a zip file, whole or not at all.

        :param model: the host's file that it is to lie beside; :meth:`load` refuses it beside another
        :raises RuntimeError: before the learner has a model
        """
        state = {LEARNER: self.state_dict()}
        data: dict[str, Any] = {
            KEY: stamp("RewardLearner"),
            "reward_kwargs": self.settings.flat(),
            "times": self.times,
            "spaces": spaces_of(self._attached.model),
            "vec_normalize": is_behind_vec_normalize(self._attached.model),
            BESIDE: {} if model is None else parameter_sums(model),
        }
        write_zip(path, lambda file: save_to_zip_file(file, data=data, params=state))

    @classmethod
    def load(
        cls,
        path: str | Path,
        device: torch.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        **changes: Any,
    ) -> RewardLearner:
        """A learner that goes on from :meth:`save` once it is passed to ``learn(callback=...)`` of a model.

        The file of an algorithm that owned its learner, such as :class:`~sb3_tare.TAREPPO`, will do as well, and that of a
        model beside which the reward was saved. A model with other spaces than those it was saved with refuses it. Nothing in
        it is run: a network of one's own is named again, with ``architecture=``.

        :param device: where to load it first; it follows its model
        :param custom_objects: replaces entries that cannot be read, as in SB3
        :param changes: settings that differ from the saved ones, or that are not taken from a file
        :raises ValueError: if the file is damaged, names classes that are not known, is in a newer or unknown format, holds no
            reward learner, or one of return consistency; or if the model that it lies beside is another by now
        """
        entries = learner_entries(path)
        learner = cls(**learner_settings(entries, cls.settings_class.presets, changes, custom_objects))
        spaces = {name: entries.value(name, "save the learner on its own") for name in NAMES if name in entries}
        learner._loaded = Loaded(
            learner_state(entries, get_device(device)),
            entries.data.get("times", []),
            spaces_in({**entries.data, **spaces}),
            entries.data.get("vec_normalize"),
        )
        return learner


def _check_kind(state: Mapping[str, Any], trainer: RewardTrainer | ReplayTrainer) -> None:
    """Check that a loaded learner was one of an algorithm of the same kind.

    :raises ValueError: if one was on-policy and the other is not
    """
    decomposition = state.get("decomposition")
    has_no_memory = decomposition is not None and not decomposition["memory"]  # AWR's own holds the episodes
    if ("totals" in state) != isinstance(trainer, ReplayTrainer) or has_no_memory:
        raise ValueError(
            f"this RewardLearner was saved beside another kind of algorithm than {type(trainer.host.model).__name__}: carry "
            "its reward over with LearnedReward.of(...).save(path) and initial_reward=path"
        )


def _no_rollouts(parent: BaseCallback | None) -> ValueError:
    name = "an EventCallback" if parent is None else type(parent).__name__
    return ValueError(
        f"RewardLearner must see every step and rollout, which {name} does not pass on: "
        "put it beside that callback, in learn(callback=[..., RewardLearner()])"
    )

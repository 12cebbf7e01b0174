"""Runs that training can go on from: what a checkpoint holds, and what ``-i`` takes up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize

from sb3_tare import RewardLearner
from sb3_tare.utils.files import reward_path
from sb3_tare.zoo.algorithms import ALGORITHMS


class Experiment(ExperimentManager):
    """rl-zoo3's experiment; one with an algorithm of this package, or its callback, can be gone on from (``-i``) as it was.

    Its checkpoints (``--save-freq``) hold ``VecNormalize`` and, where asked for, replay memory, and a callback goes on with
    the reward that lies beside the model. It takes ``reward_kwargs`` as text too, as rl-zoo3 takes ``policy_kwargs``.

    rl-zoo3 itself saves these at the end of training only, and continues a checkpoint with those of its folder, which are of
    another step. Without files of a checkpoint's own, this does as rl-zoo3 does.
    """

    @property
    def _is_ours(self) -> bool:
        return self.algo in ALGORITHMS or any(isinstance(each, RewardLearner) for each in self.callbacks)

    def setup_experiment(self) -> tuple[BaseAlgorithm, dict[str, Any]] | None:
        """Set all up as rl-zoo3 does, learners of rewards too: what does not fit is told before training starts.

        :raises ValueError: if training is to go on from a learned reward in place of a model
        """
        if self.trained_agent.endswith(".reward.zip"):
            raise ValueError(
                f"{self.trained_agent} is a learned reward: give the model beside it, and training goes on with both"
            )
        prepared = super().setup_experiment()
        if prepared is not None:
            model, _ = prepared
            for callback in self.callbacks:
                if isinstance(callback, RewardLearner):
                    callback.attach(model)
        return prepared

    def _preprocess_hyperparams(self, hyperparams: dict[str, Any]) -> Any:
        if isinstance(hyperparams.get("reward_kwargs"), str):
            hyperparams["reward_kwargs"] = eval(hyperparams["reward_kwargs"])  # as rl-zoo3 evaluates its own
        return super()._preprocess_hyperparams(hyperparams)

    def create_callbacks(self) -> None:
        """Create rl-zoo3's callbacks, with more in a checkpoint.

        Replay memory, which is large, is in it with ``--save-replay-buffer``.
        """
        super().create_callbacks()
        for callback in self.callbacks if self._is_ours else ():
            if isinstance(callback, CheckpointCallback):
                callback.save_vecnormalize = True
                callback.save_replay_buffer = self.save_replay_buffer

    def _maybe_normalize(self, env: VecEnv, eval_env: bool) -> VecEnv:
        statistics = self._beside_checkpoint("vecnormalize")
        if not statistics.exists():
            self._check_statistics(statistics)
            return super()._maybe_normalize(env, eval_env)
        print(f"Loading saved VecNormalize stats {statistics}")
        normalized = VecNormalize.load(str(statistics), env)
        if eval_env:
            normalized.training = normalized.norm_reward = False
        return normalized

    def _check_statistics(self, of_checkpoint: Path) -> None:
        """Check that a model which is to go on behind ``VecNormalize`` finds statistics; rl-zoo3 would begin new ones.

        :raises ValueError: if there are none
        """
        of_folder = of_checkpoint.with_name(str(self.env_name)) / "vecnormalize.pkl"
        if self._is_ours and self.continue_training and self.normalize and not of_folder.exists():
            raise ValueError(
                f"{self.trained_agent} is to go on behind VecNormalize, and there are no statistics for it: copy those that "
                f"it was trained with to {of_folder}, or add -params normalize:False if it was trained without"
            )

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        model = super()._load_pretrained_agent(hyperparams, env)
        memory = self._beside_checkpoint("replay_buffer")
        if memory.exists():
            print(f"Loading replay buffer {memory}")
            model.load_replay_buffer(memory, truncate_last_traj=self.truncate_last_trajectory)  # type: ignore[attr-defined]
        self.callbacks = [self._going_on(each, model) for each in self.callbacks]
        return model

    def _going_on(self, callback: BaseCallback, model: BaseAlgorithm) -> BaseCallback:
        """A callback with the settings of the yaml; one that learns a reward goes on with that beside the model.

        :raises ValueError: if that reward does not fit the settings
        """
        reward = reward_path(self.trained_agent)
        if not isinstance(callback, RewardLearner) or not reward.exists():
            return callback
        print(f"Loading learned reward {reward}")
        settings = {"verbose": callback.verbose, **callback.settings.flat()}
        learner = type(callback).load(self.trained_agent, self.device, **settings)
        try:
            learner.attach(model)
        except RuntimeError as error:
            raise ValueError(
                f"{reward} holds a reward that does not fit the callback's settings: leave out what makes another network of "
                "it, or move that file away to start a new one"
            ) from error
        return learner

    def _beside_checkpoint(self, name: str) -> Path:
        """A file of the checkpoint that training goes on from, as SB3's callback names it."""
        checkpoint = Path(self.trained_agent)  # "." where training starts anew
        stem = checkpoint.stem.replace("rl_model_", f"rl_model_{name}_")
        return checkpoint.parent / f"{stem}.pkl"

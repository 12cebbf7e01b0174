"""Checkpoints that training can go on from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import CheckpointCallback
from stable_baselines3.common.vec_env import VecEnv, VecNormalize


class Experiment(ExperimentManager):
    """rl-zoo3's experiment, whose checkpoints (``--save-freq``) hold ``VecNormalize`` and, where asked for, replay memory.

    It takes ``reward_kwargs`` as text too, as rl-zoo3 takes ``policy_kwargs``.

    rl-zoo3 itself saves these at the end of training only, and continues a checkpoint (``-i``) with those of its folder,
    which are of another step. Without files of a checkpoint's own, this does as rl-zoo3 does.
    """

    def _preprocess_hyperparams(self, hyperparams: dict[str, Any]) -> Any:
        if isinstance(hyperparams.get("reward_kwargs"), str):
            hyperparams["reward_kwargs"] = eval(hyperparams["reward_kwargs"])  # as rl-zoo3 evaluates its own
        return super()._preprocess_hyperparams(hyperparams)

    def create_callbacks(self) -> None:
        """Create rl-zoo3's callbacks, with more in a checkpoint.

        Replay memory, which is large, is in it with ``--save-replay-buffer``.
        """
        super().create_callbacks()
        for callback in self.callbacks:
            if isinstance(callback, CheckpointCallback):
                callback.save_vecnormalize = True
                callback.save_replay_buffer = self.save_replay_buffer

    def _maybe_normalize(self, env: VecEnv, eval_env: bool) -> VecEnv:
        statistics = self._beside_checkpoint("vecnormalize")
        if not statistics.exists():
            return super()._maybe_normalize(env, eval_env)
        normalized = VecNormalize.load(str(statistics), env)
        if eval_env:
            normalized.training = normalized.norm_reward = False
        return normalized

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        model = super()._load_pretrained_agent(hyperparams, env)
        memory = self._beside_checkpoint("replay_buffer")
        if memory.exists():
            model.load_replay_buffer(memory, truncate_last_traj=self.truncate_last_trajectory)  # type: ignore[attr-defined]
        return model

    def _beside_checkpoint(self, name: str) -> Path:
        """A file of the checkpoint that training goes on from, as SB3's callback names it."""
        checkpoint = Path(self.trained_agent)  # "." where training starts anew
        stem = checkpoint.stem.replace("rl_model_", f"rl_model_{name}_")
        return checkpoint.parent / f"{stem}.pkl"

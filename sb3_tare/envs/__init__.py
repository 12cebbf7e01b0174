"""Tasks whose reward is late, noisy or misleading. Importing this registers them with Gymnasium.

``sb3_tare/Chain-v0`` is the paper's chain; ``sb3_tare/DelayedHopper-v5``, ``sb3_tare/EpisodicHopper-v5`` and
``sb3_tare/NoisyHopper-v5`` are three of eighteen variants of MuJoCo tasks; ``sb3_tare/MiniGrid-DoorKey-5x5-v0`` and
``sb3_tare/MiniGrid-Empty-8x8-v0`` are MiniGrid's (extra ``minigrid``), seen through
:class:`~sb3_tare.envs.minigrid.PartialView`. Where nothing imports this first, as in a process that is started afresh, the
package's name goes before the id: ``sb3_tare:sb3_tare/DelayedHopper-v5``.

``sb3_tare/Corridor-v0`` is one of nine :mod:`~sb3_tare.envs.trials`, small tasks on which a learned reward may turn against
its task; ``sb3_tare/EpisodicCorridor-v0`` is the same, paid at the episode's end.
"""

import gymnasium as gym

from sb3_tare.envs.chain import Chain
from sb3_tare.envs.delayed import DelayedReward
from sb3_tare.envs.noisy import NoisyReward
from sb3_tare.envs.trials import TRIALS

MUJOCO_TASKS = ("Humanoid-v5", "Walker2d-v5", "Ant-v5", "Hopper-v5", "HalfCheetah-v5", "Swimmer-v5")
"""Tasks of the paper (figure 6), in their current version."""

_GRIDS: dict[str, tuple[str, dict[str, int]]] = {
    "MiniGrid-DoorKey-5x5-v0": ("minigrid.envs:DoorKeyEnv", {"size": 5}),
    "MiniGrid-Empty-8x8-v0": ("minigrid.envs:EmptyEnv", {"size": 8}),
}
"""MiniGrid's tasks as MiniGrid registers them, told again so that it is imported only when one is made."""

__all__ = ["MUJOCO_TASKS", "TRIALS", "Chain", "DelayedReward", "NoisyReward"]


def _register(name: str, task: str, wrapper: gym.envs.registration.WrapperSpec) -> None:
    """Register ``task`` with ``wrapper`` around it.

    Gymnasium puts a spec's additional wrappers outside its time limit, so that they see where a limit cuts an episode.
    """
    spec = gym.spec(task)
    gym.register(
        f"sb3_tare/{name}",
        entry_point=spec.entry_point,
        max_episode_steps=spec.max_episode_steps,
        reward_threshold=spec.reward_threshold,
        additional_wrappers=(*spec.additional_wrappers, wrapper),
        kwargs=spec.kwargs,
    )


gym.register("sb3_tare/Chain-v0", entry_point="sb3_tare.envs.chain:Chain")
for _name, _trial in TRIALS.items():
    _at = f"{_trial.__module__}:{_name}"
    gym.register(f"sb3_tare/{_name}-v0", entry_point=_at)
    gym.register(
        f"sb3_tare/Episodic{_name}-v0", entry_point=_at, additional_wrappers=(DelayedReward.wrapper_spec(delay=None),)
    )
for _task in MUJOCO_TASKS:
    _register(f"Delayed{_task}", _task, DelayedReward.wrapper_spec(delay=20))
    _register(f"Episodic{_task}", _task, DelayedReward.wrapper_spec(delay=None))
    _register(f"Noisy{_task}", _task, NoisyReward.wrapper_spec(std=3.0))
for _task, (_entry_point, _arguments) in _GRIDS.items():
    gym.register(
        f"sb3_tare/{_task}",
        entry_point=_entry_point,
        additional_wrappers=(gym.envs.registration.WrapperSpec("PartialView", "sb3_tare.envs.minigrid:PartialView", {}),),
        kwargs=_arguments,
    )

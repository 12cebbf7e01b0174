"""Rendering on machines without a screen."""

from __future__ import annotations

import os
import subprocess
import sys

from gymnasium.envs.mujoco import MujocoEnv

from sb3_tare.analysis.environments import Environment, made

BACKENDS = ("egl", "osmesa")
"""Of MuJoCo, those that need no screen, the faster one first."""


def choose_backend(env_id: str | Environment) -> str | None:
    """Have MuJoCo render without a screen, where there is none and nobody has chosen with ``MUJOCO_GL``.

    It has to be chosen before the first attempt: a failed one leaves MuJoCo unable to render, or ends the process.

    :param env_id: registered with Gymnasium; or with arguments and wrappers
    :return: the backend that was chosen, if any
    """
    if not sys.platform.startswith("linux") or any(name in os.environ for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL")):
        return None
    with made(env_id) as env:
        if not isinstance(env.unwrapped, MujocoEnv):
            return None
    backend = next((name for name in BACKENDS if _works(name)), None)
    if backend is not None:
        os.environ["MUJOCO_GL"] = backend
    return backend


def _works(backend: str) -> bool:
    """Whether it renders, tried in a process of its own."""
    program = f"from mujoco.{backend} import GLContext; context = GLContext(8, 8); context.make_current(); context.free()"
    return subprocess.run([sys.executable, "-c", program], capture_output=True, check=False).returncode == 0

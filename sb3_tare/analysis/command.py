"""Show what a reward has learned: pictures, a video and a table of a saved model's episodes."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
from pandas import DataFrame
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

import sb3_tare.envs  # noqa: F401, registers environments
from sb3_tare.analysis.arguments import add_model, environment_named, model_of
from sb3_tare.analysis.correlating import FEWEST_EPISODES, correlations, scales
from sb3_tare.analysis.drawing import write_figure
from sb3_tare.analysis.figures import agreement, histogram, importance_bars, timeline
from sb3_tare.analysis.headless import choose_backend
from sb3_tare.analysis.importance import InexplicableError, importances
from sb3_tare.analysis.loading import make_env, why_not_filmed
from sb3_tare.analysis.naming import observation_names
from sb3_tare.analysis.recording import Episode, Recording, watch
from sb3_tare.analysis.video import write_video
from sb3_tare.utils.extras import what_to_install
from sb3_tare.utils.files import check_folder, write_text
from sb3_tare.utils.ids import check_id

DPI = 150
DEFAULT_FPS = 30.0
"""Frames a second of the video where the environment names none."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Analyse the model that ``arguments`` name.

    :return: the process's exit code
    """
    parser = argparse.ArgumentParser(prog="python -m sb3_tare.analysis", description=__doc__)
    add_model(parser, "to act in")
    parser.add_argument("--out", type=Path, default=Path("analysis"), metavar="FOLDER", help="(default: analysis)")
    parser.add_argument("--episodes", type=int, default=10, metavar="N", help="(default: 10); the first one is shown")
    parser.add_argument("--video", choices=("mp4", "gif", "none"), default="gif", help="(default: gif)")
    parser.add_argument("--deterministic", action="store_true", help="without the policy's exploration")
    parser.add_argument("--seed", type=int, default=0, help="of environment and policy (default: 0)")
    parsed = parser.parse_args(arguments)
    if parsed.episodes < 1:
        parser.error(f"--episodes must be at least 1, got {parsed.episodes}")
    try:
        _analyse(parsed, Console(width=None if Console().is_terminal else 120))
    except ModuleNotFoundError as error:
        parser.error(what_to_install(error) or str(error))
    except (ValueError, TypeError, OSError, gym.error.Error) as error:
        parser.error(str(error))
    return 0


def _analyse(arguments: argparse.Namespace, console: Console) -> None:
    def say(text: object) -> None:
        console.print(text, highlight=False, markup=False, soft_wrap=True)

    check_id(arguments.env)
    set_random_seed(arguments.seed)
    model, learner, statistics = loaded = model_of(arguments)
    if not loaded.learns_reward:
        raise ValueError(
            f"{arguments.model} holds no learned reward, and none lies beside it: name the file that RewardLearner.save wrote "
            "with --reward"
        )
    if statistics is not None:
        say(f"VecNormalize as in {statistics}")
    environment = environment_named(arguments)
    check_folder("--out", arguments.out)
    backend = choose_backend(environment)
    if backend is not None:
        say(f"there is no screen: rendering with MUJOCO_GL={backend}")
    problem = why_not_filmed(environment)
    if problem is not None:
        say(
            f"{arguments.env} cannot be rendered, so that there are no frames ({problem}); without a screen, try MUJOCO_GL=egl"
        )
    env = make_env(environment, model, statistics, film=problem is None)
    env.seed(arguments.seed)
    recording = watch(model, env, arguments.episodes, learner, arguments.deterministic, film=problem is None)
    env.close()
    episodes = recording.episodes()
    table = correlations(episodes)
    _write(episodes, table, env, arguments, say)
    _explain(recording, env, arguments, say)
    _show(episodes, table, arguments.env, console, say)


def _write(
    episodes: Sequence[Episode], table: DataFrame, env: VecEnv, arguments: argparse.Namespace, say: Callable[[object], None]
) -> None:
    folder: Path = arguments.out
    write_figure(folder / "timeline.png", timeline(episodes[0], arguments.env), dpi=DPI)
    write_figure(folder / "histogram.png", histogram(episodes, env.action_space, arguments.env), dpi=DPI)
    write_figure(folder / "agreement.png", agreement(episodes, arguments.env), dpi=DPI)
    write_text(folder / "correlations.csv", table.to_csv(index=False))
    written = ["timeline.png", "histogram.png", "agreement.png", "correlations.csv"]
    if arguments.video != "none":
        name = f"episode.{arguments.video}"
        metadata: dict[str, Any] = env.metadata
        try:
            write_video(episodes[0], folder / name, metadata.get("render_fps") or DEFAULT_FPS)
        except Exception as error:  # codecs can fail in many ways, and all else is written
            say(f"there is no video ({error})")
        else:
            written.append(name)
    for name in written:
        say(folder / name)


def _explain(recording: Recording, env: VecEnv, arguments: argparse.Namespace, say: Callable[[object], None]) -> None:
    """Write what the reward looks at."""
    names = observation_names(env.get_attr("unwrapped")[0], env.observation_space)
    try:
        measured = importances(recording.reward, recording.steps, names, seed=arguments.seed)
    except InexplicableError as error:
        say(f"there is no picture of importances ({error})")
        return
    write_figure(arguments.out / "importance.png", importance_bars(measured, arguments.env), dpi=DPI)
    say(arguments.out / "importance.png")


def _show(episodes: Sequence[Episode], table: DataFrame, env_id: str, console: Console, say: Callable[[object], None]) -> None:
    shown = Table(*table.columns, title=f"correlations over {len(episodes)} episodes of {env_id}")
    for row in table.itertuples(index=False):
        shown.add_row(*(f"{value:.3f}" if isinstance(value, float) else str(value) for value in row))
    console.print(shown)
    if len(episodes) < FEWEST_EPISODES:
        say(f"returns of fewer than {FEWEST_EPISODES} episodes are too few for a correlation: raise --episodes")
    say(
        "standard deviation of a step's reward: "
        + ", ".join(f"{name} {scale:.3g}" for name, scale in scales(episodes).items())
    )

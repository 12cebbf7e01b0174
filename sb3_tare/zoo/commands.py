"""Runs rl-zoo3's commands with this package's algorithms."""

from __future__ import annotations

import argparse
import importlib.util
import runpy
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import rl_zoo3.exp_manager
import rl_zoo3.utils
from huggingface_sb3 import EnvironmentName
from rl_zoo3.utils import StoreDict

import sb3_tare
from sb3_tare.zoo.algorithms import ALGORITHMS, hyperparams_file, register
from sb3_tare.zoo.checkpoints import Experiment
from sb3_tare.zoo.hub import todays_hub
from sb3_tare.zoo.screens import check_screen, figures_kept

COMMANDS = (
    "train",
    "enjoy",
    "record_video",
    "record_training",
    "benchmark",
    "plots.all_plots",
    "plots.plot_from_file",
    "plots.plot_train",
    "push_to_hub",
    "load_from_hub",
    "hyperparams",
)
"""Modules of rl-zoo3 that are commands, and one of our own."""
OF_THE_HUB = ("push_to_hub", "load_from_hub")


def main(command: str | None = None, arguments: Sequence[str] | None = None) -> None:
    """Run a command of rl-zoo3's as ``python -m rl_zoo3.<command> <arguments>`` would, with this package's algorithms.

    ``train`` takes this package's hyperparameters for its algorithms where no ``--conf-file`` is named. The algorithms of
    rl-zoo3 keep its own; ``hyperparams --algo ppo`` prints the file of those that a comparison needs.

    :param command: one of ``COMMANDS``; None takes the first argument
    :param arguments: the command's own, in place of the command line's
    :raises ValueError: if there is no such ``command``
    """
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if command is None:
        command, arguments = _parse_command(arguments[:1]), arguments[1:]
    elif command not in COMMANDS:
        raise ValueError(f"there is no command {command!r}; there are {', '.join(COMMANDS)}")
    register()
    if command == "hyperparams":
        _print_hyperparams_file(arguments)
    elif command == "train":
        _train(arguments)
    else:
        _run(command, arguments)


def _parse_command(arguments: list[str]) -> str:
    parser = argparse.ArgumentParser("python -m sb3_tare.zoo", description="Commands of rl-zoo3, with their own arguments.")
    parser.add_argument("command", choices=COMMANDS, help="<command> --help explains each")
    return parser.parse_args(arguments).command


def _train(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(add_help=False)  # for what must be known here, as rl-zoo3 names it
    parser.add_argument("--algo")
    parser.add_argument("-conf", "--conf-file")
    known, _ = parser.parse_known_args(arguments)
    if known.algo in ALGORITHMS and known.conf_file is None:
        arguments = [*arguments, "--conf-file", str(hyperparams_file(known.algo))]
    with mock.patch.object(rl_zoo3.exp_manager, "ExperimentManager", Experiment):
        _run("train", arguments)


def _print_hyperparams_file(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser("python -m sb3_tare.zoo hyperparams", description="Print the path of a yaml file.")
    parser.add_argument("--algo", required=True, help="algorithm whose hyperparameters it holds")
    algorithm = parser.parse_args(arguments).algo
    try:
        print(hyperparams_file(algorithm))
    except ValueError as error:
        parser.error(str(error))


def _run(command: str, arguments: list[str]) -> None:
    """Some commands are functions, others scripts; all are run as scripts."""
    module = importlib.util.find_spec(f"rl_zoo3.{command}")
    assert module is not None
    assert module.origin is not None
    check_screen(command, arguments)
    hub = todays_hub if command in OF_THE_HUB else nullcontext
    argv = mock.patch.object(sys, "argv", [module.origin, *arguments])
    with argv, _own_processes(), _ids_as_folders(), figures_kept(command), hub(), _complaints_as_sentences(command):
        runpy.run_path(module.origin, run_name="__main__")


@contextmanager
def _complaints_as_sentences(command: str) -> Iterator[None]:
    """End the command with one sentence where its arguments are complained of; other errors keep their traceback."""
    try:
        with mock.patch.object(StoreDict, "__call__", _or_explained(StoreDict.__call__)):
            yield
    except (ValueError, TypeError, AssertionError, FileNotFoundError, ImportError) as error:
        if not _is_of_arguments(error):
            raise
        raise SystemExit(f"{command}: error: {error}") from error


def _is_of_arguments(error: Exception) -> bool:
    """Whether rl-zoo3 has raised an error in words of its own, or this package before training started."""
    frames = traceback.extract_tb(error.__traceback__)
    raised_in = Path(frames[-1].filename).parents
    if Path(rl_zoo3.utils.__file__).parent in raised_in:
        return bool(str(error)) and not isinstance(error, (TypeError, ModuleNotFoundError))  # which are Python's own words
    return Path(sb3_tare.__file__).parent in raised_in and any(frame.name == "setup_experiment" for frame in frames)


def _or_explained(store: Callable[..., None]) -> Callable[..., None]:
    """A function that stores values such as those of ``-params``, and says how to write them where one is not Python."""

    def stored(action: argparse.Action, parser: Any, namespace: Any, values: list[str], option: str | None = None) -> None:
        try:
            store(action, parser, namespace, values, option)
        except (SyntaxError, NameError) as error:
            raise argparse.ArgumentError(
                action,
                f"{' '.join(values)}: {getattr(error, 'msg', error)}; write a name, a colon and a value as Python writes it, "
                "such as n_steps:64 or policy:\"'MlpPolicy'\"",
            ) from error

    return stored


@contextmanager
def _own_processes() -> Iterator[None]:
    """Some commands start others as processes, in which this package's algorithms would be unknown: they come through here."""
    call = subprocess.call

    def through_here(command: Any, *args: Any, **kwargs: Any) -> int:
        if command[0] == "python":  # ["python", "enjoy.py", ...] or ["python", "-m", "rl_zoo3.record_video", ...]
            script, *arguments = command[2:] if command[1] == "-m" else command[1:]
            arguments = [each.gym_id if isinstance(each, EnvironmentName) else each for each in arguments]
            name = script.removeprefix("rl_zoo3.").removesuffix(".py")
            command = [sys.executable, "-m", "sb3_tare.zoo", name, *arguments]
        return call(command, *args, **kwargs)

    with mock.patch.object(subprocess, "call", through_here):
        yield


@contextmanager
def _ids_as_folders() -> Iterator[None]:
    """Let ``benchmark`` look for folders as rl-zoo3 names them, by the ids of environments without a slash."""
    trained_models = rl_zoo3.utils.get_trained_models

    def with_names(log_folder: str) -> dict[str, tuple[str, str]]:
        return {name: (algorithm, EnvironmentName(env)) for name, (algorithm, env) in trained_models(log_folder).items()}

    with mock.patch.object(rl_zoo3.utils, "get_trained_models", with_names):
        yield

"""``sb3-tare push`` and ``sb3-tare load``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined] # of the library that it asks the hub with

import sb3_tare.envs  # noqa: F401, registers environments
from sb3_tare.analysis.arguments import add_model, model_of
from sb3_tare.hub.loading import load_from_hub
from sb3_tare.hub.packing import package
from sb3_tare.hub.pushing import MESSAGE, push_to_hub


def push(arguments: Sequence[str] | None = None) -> int:
    """Pack the model that ``arguments`` name, and send it to the hub.

    :return: the process's exit code
    """
    parser = argparse.ArgumentParser(
        prog="sb3-tare push", description="Send a model, its learned reward and a card to the Hugging Face hub."
    )
    add_model(parser, "to evaluate it in")
    parser.add_argument("--repo", required=True, metavar="ORG/NAME", help="repository, made if there is none")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="write all into this new folder, and send nothing")
    parser.add_argument("--episodes", type=int, default=10, metavar="N", help="to evaluate (default: 10)")
    parser.add_argument("--stochastic", action="store_true", help="evaluate with the policy's exploration")
    parser.add_argument("--seed", type=int, default=0, help="of the environment (default: 0)")
    parser.add_argument("--message", default=MESSAGE, help="of the commit")
    parser.add_argument("--private", action="store_true", help="make a private repository")
    return _answered(parser, arguments, _push)


def load(arguments: Sequence[str] | None = None) -> int:
    """Download the model that ``arguments`` name into a folder of rl-zoo3's logs.

    :return: the process's exit code
    """
    parser = argparse.ArgumentParser(
        prog="sb3-tare load", description="Download a model and its learned reward from the Hugging Face hub."
    )
    parser.add_argument("--repo", required=True, metavar="ORG/NAME")
    parser.add_argument(
        "--out", type=Path, required=True, metavar="FOLDER", help="of rl-zoo3's logs, in which a new run is made of it"
    )
    parser.add_argument("--filename", metavar="NAME.zip", help="of the model, where the repository has several")
    return _answered(parser, arguments, _load)


def _answered(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, command: Callable[[argparse.Namespace], None]
) -> int:
    parsed = parser.parse_args(arguments)
    try:
        command(parsed)
    except (ValueError, TypeError, OSError, HTTPError, gym.error.Error) as error:
        parser.error(str(error))
    return 0


def _push(parsed: argparse.Namespace) -> None:
    model, learner, statistics = model_of(parsed)
    details: dict[str, Any] = {
        "env_kwargs": dict(parsed.env_kwargs),
        "vec_normalize": statistics,
        "n_eval_episodes": parsed.episodes,
        "deterministic": not parsed.stochastic,
        "seed": parsed.seed,
        "run": parsed.model.parent,
    }
    if parsed.folder is not None:
        print(package(model, parsed.folder, parsed.repo, parsed.env, learner, **details))
    else:
        told = {"commit_message": parsed.message, "private": parsed.private}
        print(push_to_hub(model, parsed.repo, parsed.env, learner, **told, **details))


def _load(parsed: argparse.Namespace) -> None:
    print(load_from_hub(parsed.repo, parsed.out, parsed.filename))

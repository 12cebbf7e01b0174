"""Arguments that commands share: which model, in which environment, with what belongs to it."""

from __future__ import annotations

import argparse
import ast
from pathlib import Path
from typing import Any

from sb3_tare.analysis.environments import Environment
from sb3_tare.analysis.loading import Loaded, load_all
from sb3_tare.analysis.zoo_runs import named


def add_model(parser: argparse.ArgumentParser, purpose: str) -> None:
    """Add the arguments of a saved model and its environment.

    :param purpose: of the environment, such as ``"to act in"``
    """
    parser.add_argument("model", type=Path, metavar="MODEL.zip")
    parser.add_argument("--env", required=True, metavar="ID", help=f"environment {purpose}")
    parser.add_argument(
        "--env-kwargs",
        type=_key_and_value,
        nargs="+",
        default=[],
        metavar="KEY:VALUE",
        help="arguments of the environment, such as is_slippery:False (default: those of the run of rl-zoo3 with the model)",
    )
    parser.add_argument(
        "--vecnormalize",
        type=Path,
        metavar="FILE",
        help="of VecNormalize's statistics (default: those found beside the model)",
    )
    parser.add_argument("--algorithm", metavar="NAME", help="of the model, where its file does not tell: PPO, module:Class")
    parser.add_argument(
        "--reward", type=Path, metavar="FILE", help="saved RewardLearner of a model that has none (default: MODEL.reward.zip)"
    )


def model_of(parsed: argparse.Namespace) -> Loaded:
    """The model that arguments name, the learner of its reward, and the file of its statistics."""
    return load_all(
        parsed.model, parsed.algorithm, parsed.reward, statistics=parsed.vecnormalize, remedy="with --vecnormalize"
    )


def environment_named(parsed: argparse.Namespace) -> Environment:
    """The environment that arguments name, as a run of rl-zoo3's that the model lies in had it."""
    return named(parsed.env, dict(parsed.env_kwargs), parsed.model.parent)


def _key_and_value(text: str) -> tuple[str, Any]:
    """A key and a value as rl-zoo3 writes them; values are Python's literals, as nothing is run here."""
    key, _, value = text.partition(":")
    try:
        return key, ast.literal_eval(value)
    except (ValueError, SyntaxError) as error:
        raise argparse.ArgumentTypeError(
            f"{text!r} must be a key, a colon and a value as Python writes it, such as is_slippery:False or map_name:\"'8x8'\""
        ) from error

"""The command ``python -m sb3_tare.experiments``: run a study, report on its results, list what there is, or measure speed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
from rich.console import Console
from rich.table import Table

from sb3_tare.experiments.benchmarks import bounds, speed
from sb3_tare.experiments.run_command import add_run
from sb3_tare.experiments.studies import STUDIES
from sb3_tare.experiments.variants import TASKS, VARIANTS
from sb3_tare.utils.extras import what_to_install


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that ``arguments`` name.

    :return: the process's exit code: 0, or 1 if some run failed
    """
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:2] == ["speed", "bounds"]:
        bounds.main(given[2:])
        return 0
    if given[:1] == ["speed"]:
        speed.main(given[1:])
        return 0
    parser = make_parser()
    parsed = parser.parse_args(given)
    try:
        return parsed.command(parsed, Console(width=None if Console().is_terminal else 120))
    except ModuleNotFoundError as error:
        sentence = what_to_install(error)
        if sentence is None:
            raise
        parser.error(sentence)
    except (ValueError, gym.error.Error) as error:
        parser.error(str(error))
    except KeyboardInterrupt:
        parser.exit(130, "stopped; finished runs are kept, and the same command goes on from them\n")


def make_parser() -> argparse.ArgumentParser:
    """The parser of all commands, but for the options of ``speed``."""
    parser = argparse.ArgumentParser(prog="python -m sb3_tare.experiments", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="run | report | list | speed")
    commands.add_parser("speed", help="what learning the reward costs beside PPO; its own options by speed --help")
    for add in (add_run, _add_report, _add_list):
        add(commands)
    return parser


def _add_report(commands: Any) -> None:
    parser = commands.add_parser("report", help="turn a folder of results into figures, a table and a page")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reference", metavar="NAME", help="variant that scores are relative to (default: ppo, or the first)")
    parser.add_argument("--no-gallery", action="store_true", help="do not show what the rewards of kept models have learned")
    parser.set_defaults(command=_report)


def _add_list(commands: Any) -> None:
    commands.add_parser("list", help="studies and variants").set_defaults(command=_list)


def _report(arguments: argparse.Namespace, console: Console) -> int:
    from sb3_tare.experiments.reporting.report import write_report  # needs an extra

    for path in write_report(arguments.folder, arguments.reference, console, not arguments.no_gallery):
        console.print(path, highlight=False, soft_wrap=True)
    return 0


def _list(arguments: argparse.Namespace, console: Console) -> int:
    studies = Table("study", "compares", "variants", "environments", "steps")
    for name, study in STUDIES.items():
        studies.add_row(name, study.about, ", ".join(study.variants), ", ".join(study.envs), f"{study.steps:,}")
    variants = Table("variant", "algorithm", "arguments")
    for name, variant in VARIANTS.items():
        own = json.dumps(variant.kwargs) if variant.kwargs else "its defaults"
        variants.add_row(name, variant.algorithm, f"{own}, and its task's" if variant.algorithm in TASKS else own)
    console.print(studies, variants)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

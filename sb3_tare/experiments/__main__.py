"""The command ``python -m sb3_tare.experiments``: run a study, report on its results, list what there is, or measure speed."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium as gym
from rich.console import Console
from rich.table import Table

from sb3_tare.experiments.benchmarks import bounds, speed
from sb3_tare.experiments.running.engines import Engine, local
from sb3_tare.experiments.running.runner import run
from sb3_tare.experiments.studies import STUDIES, jobs_of
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
    parser = argparse.ArgumentParser(prog="python -m sb3_tare.experiments", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="run | report | list | speed")
    commands.add_parser("speed", help="what learning the reward costs beside PPO; its own options by speed --help")
    for add in (_add_run, _add_report, _add_list):
        add(commands)
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


def _add_run(commands: Any) -> None:
    parser = commands.add_parser("run", help="run what is missing of a study")
    parser.add_argument("study", choices=STUDIES, metavar="STUDY", help=", ".join(STUDIES))
    parser.add_argument("--envs", nargs="+", default=[], metavar="ID", help="instead of the study's")
    parser.add_argument("--variants", nargs="+", default=[], choices=VARIANTS, metavar="NAME", help="instead of the study's")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: 5)")
    parser.add_argument("--first-seed", type=int, default=0, metavar="SEED", help="the seeds count up from it (default: 0)")
    parser.add_argument("--steps", type=int, help="environment steps of a run, instead of the study's")
    parser.add_argument("--evaluations", type=int, default=20, help="over a run (default: 20)")
    parser.add_argument("--evaluation-episodes", type=int, default=10, help="in each evaluation (default: 10)")
    parser.add_argument("--set", nargs="+", default=[], metavar="NAME=JSON", help="arguments of every algorithm, n_steps=512")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time on this machine (default: 2)")
    parser.add_argument("--address", help="of a Ray cluster that runs as many at a time as it has cores")
    parser.add_argument("--cores", type=float, default=1, help="of the cluster for each run (default: 1)")
    parser.add_argument("--out", type=Path, help="folder of result files (default: results/STUDY)")
    parser.set_defaults(command=_run)


def _add_report(commands: Any) -> None:
    parser = commands.add_parser("report", help="turn a folder of results into figures, a table and a page")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--reference", metavar="NAME", help="variant that scores are relative to (default: ppo, or the first)")
    parser.set_defaults(command=_report)


def _add_list(commands: Any) -> None:
    commands.add_parser("list", help="studies and variants").set_defaults(command=_list)


def _run(arguments: argparse.Namespace, console: Console) -> int:
    if arguments.seeds < 1 or arguments.jobs < 1:
        raise ValueError(f"--seeds and --jobs must be at least 1, got {arguments.seeds} and {arguments.jobs}")
    if arguments.first_seed < 0:
        raise ValueError(f"--first-seed must be at least 0, got {arguments.first_seed}")
    jobs = jobs_of(
        arguments.study,
        arguments.seeds,
        arguments.variants,
        arguments.envs,
        arguments.steps,
        dict(map(_assignment, arguments.set)),
        first_seed=arguments.first_seed,
        evaluations=arguments.evaluations,
        evaluation_episodes=arguments.evaluation_episodes,
    )
    for env in {job.env for job in jobs}:
        gym.make(env).close()  # an unknown id, or an extra that is missing, is an error before anything runs
    folder = arguments.out or Path("results") / arguments.study
    failures = run(jobs, folder, _engine(arguments), console)
    for failed in failures:
        console.print(
            f"\n{failed.job.title} failed:\n{failed.why}", style="red", highlight=False, markup=False, soft_wrap=True
        )
    if failures:
        console.print(f"{len(failures)} runs failed; the same command runs them again", highlight=False)
    return 1 if failures else 0


def _engine(arguments: argparse.Namespace) -> Engine:
    if arguments.address is None:
        return partial(local, processes=arguments.jobs)
    from sb3_tare.experiments.running.cluster import cluster  # needs an extra

    return partial(cluster, address=arguments.address, cores=arguments.cores)


def _assignment(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError as error:
        raise ValueError(f"--set takes NAME=JSON, such as n_steps=512, got {text!r}") from error


def _report(arguments: argparse.Namespace, console: Console) -> int:
    from sb3_tare.experiments.reporting.report import write_report  # needs an extra

    for path in write_report(arguments.folder, arguments.reference, console):
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

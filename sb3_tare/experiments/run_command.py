"""The command ``run``: what is missing of a study."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from sb3_tare.experiments.own import Own, read_own
from sb3_tare.experiments.running.checkpoints import Checkpointing
from sb3_tare.experiments.running.checks import check
from sb3_tare.experiments.running.engines import Engine, local
from sb3_tare.experiments.running.jobs import Job
from sb3_tare.experiments.running.keeping import without_model
from sb3_tare.experiments.running.runner import run
from sb3_tare.experiments.studies import STUDIES, jobs_of
from sb3_tare.experiments.variants import VARIANTS


def add_run(commands: Any) -> None:
    """Add the command's options."""
    parser = commands.add_parser("run", help="run what is missing of a study")
    parser.add_argument("study", choices=STUDIES, metavar="STUDY", help=", ".join(STUDIES))
    several: dict[str, Any] = {"nargs": "+", "default": [], "action": "extend"}
    parser.add_argument("--envs", **several, metavar="ID", help="instead of the study's")
    parser.add_argument("--variants", **several, metavar="NAME", help="instead of the study's")
    parser.add_argument("--variants-from", type=Path, metavar="YAML", help="a file of your own variants and environments")
    parser.add_argument("--seeds", type=int, default=5, help="number of seeds (default: 5)")
    parser.add_argument("--first-seed", type=int, default=0, metavar="SEED", help="the seeds count up from it (default: 0)")
    parser.add_argument("--steps", type=int, help="environment steps of a run, instead of the study's")
    parser.add_argument("--evaluations", type=int, default=20, help="over a run (default: 20)")
    parser.add_argument("--evaluation-episodes", type=int, default=10, help="in each evaluation (default: 10)")
    parser.add_argument("--set", **several, metavar="NAME=JSON", help="arguments of every algorithm, n_steps=512")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time on this machine (default: 2)")
    parser.add_argument("--address", help="of a Ray cluster that runs as many at a time as it has cores")
    parser.add_argument("--cores", type=float, default=1, help="of the cluster for each run (default: 1)")
    parser.add_argument("--keep-models", action="store_true", help="write each run's model and reward beside its result")
    parser.add_argument(
        "--checkpoint-every", type=int, metavar="STEPS", help="a killed run goes on from where it was, bit by bit"
    )
    parser.add_argument("--out", type=Path, help="folder of result files (default: results/STUDY)")
    parser.set_defaults(command=run_command)


def run_command(arguments: argparse.Namespace, console: Console) -> int:
    """Run what is missing of a study.

    :return: 1 if some run failed, else 0
    :raises ValueError: for arguments that cannot work, before the first step
    """
    jobs, folder = jobs_from(arguments), arguments.out or Path("results") / arguments.study
    check(jobs, folder, checkpoints=arguments.checkpoint_every is not None)
    failures = run(jobs, folder, _engine(arguments, folder), console)
    for failed in failures:
        console.print(
            f"\n{failed.job.title} failed:\n{failed.why}", style="red", highlight=False, markup=False, soft_wrap=True
        )
    if failures:
        console.print(f"{len(failures)} runs failed; the same command runs them again", highlight=False)
    elif arguments.keep_models and (bare := without_model(folder, jobs)):
        console.print(f"{len(bare)} runs were finished before --keep-models and have no model", highlight=False)
    return 1 if failures else 0


def jobs_from(arguments: argparse.Namespace) -> list[Job]:
    """The jobs that parsed arguments ask for.

    :raises ValueError: for arguments that cannot work
    """
    if arguments.seeds < 1 or arguments.jobs < 1:
        raise ValueError(f"--seeds and --jobs must be at least 1, got {arguments.seeds} and {arguments.jobs}")
    if arguments.first_seed < 0:
        raise ValueError(f"--first-seed must be at least 0, got {arguments.first_seed}")
    if arguments.checkpoint_every is not None and (arguments.checkpoint_every < 1 or arguments.address is not None):
        raise ValueError("--checkpoint-every must be at least 1, and is for runs of this machine, without --address")
    own = Own({}, ()) if arguments.variants_from is None else read_own(arguments.variants_from)
    if arguments.study == "own" and not (own.variants or arguments.variants):
        raise ValueError("own needs --variants-from with a file of your variants, or --variants")
    for name in arguments.variants:
        if name not in VARIANTS and name not in own.variants:
            raise ValueError(f"--variants must be among {', '.join([*own.variants, *VARIANTS])}, got {name!r}")
    reference = STUDIES[arguments.study].variants[:1]
    return jobs_of(
        arguments.study,
        arguments.seeds,
        arguments.variants or ([*reference, *own.variants] if own.variants else []),
        arguments.envs or own.envs,
        arguments.steps,
        _assignments(arguments.set),
        first_seed=arguments.first_seed,
        own=own.variants,
        evaluations=arguments.evaluations,
        evaluation_episodes=arguments.evaluation_episodes,
    )


def _engine(arguments: argparse.Namespace, folder: Path) -> Engine:
    if arguments.address is None:
        every = arguments.checkpoint_every
        checkpointing = None if every is None else Checkpointing(folder, every)
        return partial(local, processes=arguments.jobs, keep_models=arguments.keep_models, checkpointing=checkpointing)
    from sb3_tare.experiments.running.cluster import cluster  # needs an extra

    return partial(cluster, address=arguments.address, cores=arguments.cores, keep_models=arguments.keep_models)


def _assignments(texts: Sequence[str]) -> dict[str, Any]:
    changes = dict(map(_assignment, texts))
    if len(changes) < len(texts):
        raise ValueError(f"--set takes each NAME once, got {' '.join(texts)}")
    return changes


def _assignment(text: str) -> tuple[str, Any]:
    name, _, written = text.partition("=")
    try:
        value = json.loads(written)
        json.dumps(value, allow_nan=False)  # Python reads NaN and Infinity, which no result can hold
    except ValueError as error:
        raise ValueError(f"--set takes NAME=JSON, such as n_steps=512, got {text!r}") from error
    return name, value

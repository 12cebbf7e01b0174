"""``sb3-tare`` or ``python -m sb3_tare``: all of the package's commands by one name."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from sb3_tare.utils.extras import exit_without

ZOO = {
    "train": ("train", []),
    "enjoy": ("enjoy", []),
    "optimize": ("train", ["-optimize"]),
    "plot": ("plots.plot_train", []),
}
"""Command and first arguments of :mod:`sb3_tare.zoo` by what they are called here."""

COMMANDS = {
    "train": "train a model with rl-zoo3: train --algo tare_ppo --env Hopper-v5",
    "enjoy": "watch it: enjoy --algo tare_ppo --env Hopper-v5 -f logs",
    "optimize": "search hyperparameters: optimize --algo tare_ppo --env Hopper-v5",
    "plot": "draw training curves of rl-zoo3's runs: plot -a tare_ppo -e Hopper -f logs",
    "push": "send a model to the Hugging Face hub: push model.zip --env Hopper-v5 --repo me/tare_ppo-Hopper-v5",
    "load": "download one: load --repo me/tare_ppo-Hopper-v5 --out logs",
    "analysis": "show what a reward has learned: analysis model.zip --env Hopper-v5",
    "experiments": "run studies: experiments list",
    "report": "turn a study's results into a page: report examples/results/episodic",
}
"""What each command does, and how it begins."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names with the others.

    :param arguments: in place of the command line's
    :return: the process's exit code
    :raises SystemExit: with a sentence, if there is no such command or a package of an extra is missing
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    listed = "\n".join(f"  {name:<12} {about}" for name, about in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog="sb3-tare",
        description=f"Learned rewards for Stable-Baselines3.\n\ncommands, each with a --help of its own:\n{listed}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("command", choices=COMMANDS, metavar="command", help="one of the above")
    command, others = parser.parse_args(given[:1]).command, given[1:]
    try:
        return _run(command, others)
    except ModuleNotFoundError as error:
        exit_without(error, f"sb3-tare {command}")


def _run(command: str, arguments: list[str]) -> int:
    """Import what the command needs, and nothing that another one's extra brings."""
    if command == "analysis":
        from sb3_tare.analysis.command import main as analysis

        return analysis(arguments)
    if command in ("push", "load"):
        from sb3_tare.hub import command as hub

        return hub.push(arguments) if command == "push" else hub.load(arguments)
    if command in ("experiments", "report"):
        from sb3_tare.experiments.__main__ import main as experiments

        return experiments(arguments if command == "experiments" else ["report", *arguments])
    from sb3_tare.zoo.commands import main as zoo

    name, first = ZOO[command]
    zoo(name, [*first, *arguments])
    return 0


if __name__ == "__main__":
    raise SystemExit(main())

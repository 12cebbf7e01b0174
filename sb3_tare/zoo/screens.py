"""Commands of rl-zoo3 that show something, on machines without a screen."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unittest import mock

from matplotlib import pyplot as plt

SCREENS = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
"""Variables one of which tells of a screen on Linux, or of what takes its place"""


def check_screen(command: str, arguments: Sequence[str]) -> None:
    """Check that ``enjoy`` can show an environment, or is not to; without a screen drivers may end the process.

    :param command: of rl-zoo3
    :param arguments: its own
    :raises SystemExit: with what works, if it cannot
    """
    parser = argparse.ArgumentParser(add_help=False)  # for what must be known here, as rl-zoo3 names it
    for names in (("-h", "--help"), ("--no-render",)):
        parser.add_argument(*names, action="store_true")
    known, _ = parser.parse_known_args(arguments)
    if command != "enjoy" or known.help or known.no_render or not sys.platform.startswith("linux"):
        return
    if not any(name in os.environ for name in SCREENS):
        raise SystemExit(
            "enjoy: error: there is no screen to show the environment on: add --no-render for its returns, or film it by "
            "`python -m sb3_tare.zoo record_video` with the same --algo, --env and -f"
        )


@contextmanager
def figures_kept(command: str) -> Iterator[None]:
    """Write the figures of a plotting command to files where matplotlib has no screen to show them on.

    :param command: of rl-zoo3; files are named after it, in the current folder
    :raises SystemExit: if there is nothing in them
    """
    show, name = plt.show, command.rpartition(".")[2]
    paths = (Path(f"{name}{end}.png") for end in itertools.chain([""], map("_{}".format, itertools.count(2))))

    def show_or_write() -> None:
        figures = [plt.figure(number) for number in plt.get_fignums()]
        if figures and not any(axes.has_data() for figure in figures for axes in figure.axes):
            raise SystemExit(
                f"{command}: error: there is nothing to draw: no run in that folder is of that algorithm and task and has as "
                "many episodes as the window of plot_train's means, which -w sets (100)"
            )
        if plt.get_backend().lower() != "agg":
            show()
            return
        for figure, path in zip(figures, paths, strict=False):
            figure.savefig(path)
            plt.close(figure)  # as one that was looked at
            print(f"there is no screen: {path}")

    with mock.patch.object(plt, "show", show_or_write), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No artists with labels")  # said above, with what it comes from
        yield

"""Commands of rl-zoo3 that show something, on machines without a screen."""

from __future__ import annotations

import argparse
import os
import sys
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
    show = plt.show

    def show_or_write() -> None:
        figures = [plt.figure(number) for number in plt.get_fignums()]
        if not any(axes.has_data() for figure in figures for axes in figure.axes):
            raise SystemExit(
                f"{command}: error: there is nothing to draw: no run in that folder is of that algorithm and task and has as many "
                "episodes as the window of plot_train's means, which -w sets (100)"
            )
        if plt.get_backend().lower() != "agg":
            show()
            return
        for number, figure in enumerate(figures, start=1):
            path = Path(f"{command.rpartition('.')[2]}{'' if number == 1 else f'_{number}'}.png")
            figure.savefig(path)
            print(f"there is no screen: {path}")

    with mock.patch.object(plt, "show", show_or_write):
        yield

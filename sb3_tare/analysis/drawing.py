"""Colours, line styles and panels that pictures of learned rewards and of studies share.

Colours are Okabe and Ito's, which colour-blind readers tell apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sb3_tare.utils.files import write_atomically

COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")


DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))
"""Fewer than, and with no common factor with, the colours: 35 styles before one comes again."""


Styles = Mapping[str, Mapping[str, Any]]
"""Keyword arguments of ``Axes.plot`` by name."""


def styles_of(names: Sequence[str]) -> Styles:
    """The style in which each name is drawn, in every figure alike."""
    return {
        name: {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index % len(DASHES)]}
        for index, name in enumerate(names)
    }


def histograms(samples: Mapping[str, Mapping[str, NDArray[Any]]], xlabel: str, styles: Styles) -> Figure:
    """A panel for each title, in it the distribution of each of its samples, on common bins."""
    figure, axes = grid(list(samples))
    for ax, by_name in zip(axes, samples.values(), strict=True):
        bins = np.histogram_bin_edges(np.concatenate(list(by_name.values())), bins=40)
        for name, sample in by_name.items():
            if len(sample):
                ax.hist(sample, list(bins), density=True, histtype="step", linewidth=1.6, label=name, **styles[name])
        ax.set_xlabel(xlabel)
        ax.set_ylabel("density")
    legend(figure, axes)
    return figure


def grid(titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """A figure with a panel for each title, up to three in a row."""
    columns = min(3, len(titles))
    rows = -(-len(titles) // columns)
    figure = Figure(figsize=(max(4.2 * columns, 6.5), 3.1 * rows + 0.6), layout="constrained")
    figure.get_layout_engine().set(h_pad=0.08)  # type: ignore[union-attr, call-arg]
    axes = list(figure.subplots(rows, columns, squeeze=False).flatten())
    for ax, title in zip(axes, titles, strict=False):
        ax.set_title(title)
        ax.grid(alpha=0.25)
    for ax in axes[len(titles) :]:
        ax.set_visible(False)
    return figure, axes[: len(titles)]


def legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend below all panels, where it covers no curve; none for a single curve, which the axis names."""
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    if len(handles) < 2:
        return
    columns = min(len(handles), max(2, int(figure.get_figwidth() // 2.1)))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns, handlelength=3.2, frameon=False)


def write_figure(path: Path, figure: Figure, dpi: float | str = "figure") -> None:
    """Write a picture in the format that the suffix of ``path`` names, whole or not at all."""
    write_atomically(path, lambda file: figure.savefig(file, format=path.suffix[1:], dpi=dpi))

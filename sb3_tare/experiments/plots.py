"""Figures of a study. Colours are Okabe and Ito's, which colour-blind readers tell apart; line styles differ as well."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from sb3_tare.experiments.statistics import Estimate

COLOURS = ("#000000", "#E69F00", "#0072B2", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
DASHES = ("-", (0, (5, 1.5)), (0, (1.5, 1)), (0, (5, 1, 1, 1)), (0, (3, 1, 1, 1, 1, 1)))
"""Fewer than, and with no common factor with, the colours: 35 styles before one comes again."""

Styles = Mapping[str, Mapping[str, Any]]
"""Keyword arguments of ``Axes.plot`` by name."""

Curve = tuple[NDArray[Any], Estimate]
"""``[k]`` abscissae and an estimate at each."""


def styles_of(names: Sequence[str]) -> Styles:
    """How each name is drawn, in every figure alike."""
    return {
        name: {"color": COLOURS[index % len(COLOURS)], "linestyle": DASHES[index % len(DASHES)]}
        for index, name in enumerate(names)
    }


def panels(curves: Mapping[str, Mapping[str, Curve]], ylabel: str, styles: Styles) -> Figure:
    """A panel for each environment, in it a curve for each variant, over environment steps."""
    figure, axes = _grid(list(curves))
    for ax, by_name in zip(axes, curves.values(), strict=True):
        for name, curve in by_name.items():
            _draw(ax, name, curve, styles[name])
        ax.set_xlabel("environment steps")
        ax.set_ylabel(ylabel)
        ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    _legend(figure, axes)
    return figure


def histograms(samples: Mapping[str, Mapping[str, NDArray[Any]]], xlabel: str, styles: Styles) -> Figure:
    """A panel for each title, in it the distribution of each of its samples, on common bins."""
    figure, axes = _grid(list(samples))
    for ax, by_name in zip(axes, samples.values(), strict=True):
        bins = np.histogram_bin_edges(np.concatenate(list(by_name.values())), bins=40)
        for name, sample in by_name.items():
            if len(sample):
                ax.hist(sample, list(bins), density=True, histtype="step", linewidth=1.6, label=name, **styles[name])
        ax.set_xlabel(xlabel)
        ax.set_ylabel("density")
    _legend(figure, axes)
    return figure


def profiles(curves: Mapping[str, Curve], styles: Styles) -> Figure:
    """Share of runs above each score."""
    figure = Figure(figsize=(6.5, 4.0), layout="constrained")
    ax = figure.subplots()
    for name, curve in curves.items():
        _draw(ax, name, curve, styles[name])
    ax.set_xlabel("score τ (0: untrained, 1: reference)")
    ax.set_ylabel("share of runs with a score above τ")
    ax.set_ylim(-0.02, 1.02)
    ax.grid(alpha=0.25)
    _legend(figure, [ax])
    return figure


def intervals(estimates: Mapping[str, Estimate], xlabel: str, styles: Styles, mark: float) -> Figure:
    """A row for each variant: its value, its interval if it has one, and a vertical line at ``mark``."""
    figure = Figure(figsize=(6.5, 0.9 + 0.38 * len(estimates)), layout="constrained")
    ax = figure.subplots()
    for row, (name, (value, bounds)) in enumerate(estimates.items()):
        colour = styles[name]["color"]
        if bounds is not None:
            ax.barh(row, bounds[1, 0] - bounds[0, 0], left=bounds[0, 0], height=0.5, color=colour, alpha=0.35, linewidth=0)
        ax.plot(value[0], row, marker="D", markersize=5, color=colour)
    ax.axvline(mark, color="0.4", linewidth=0.8, linestyle=":")
    ax.set_yticks(range(len(estimates)), list(estimates))
    ax.set_ylim(len(estimates) - 0.5, -0.5)
    ax.margins(x=0.06)
    ax.set_xlabel(xlabel)
    ax.grid(axis="x", alpha=0.25)
    return figure


def svg(figure: Figure) -> bytes:
    """The figure as SVG without a date in it: equal figures give equal bytes."""
    file = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "sb3-tare"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _grid(titles: Sequence[str]) -> tuple[Figure, list[Axes]]:
    """Up to three panels in a row."""
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


def _draw(ax: Axes, name: str, curve: Curve, style: Mapping[str, Any]) -> None:
    steps, (value, bounds) = curve
    ax.plot(steps, value, label=name, linewidth=1.6, **style)
    if bounds is not None:
        ax.fill_between(steps, bounds[0], bounds[1], color=style["color"], alpha=0.15, linewidth=0)


def _legend(figure: Figure, axes: Sequence[Axes]) -> None:
    """One legend below all panels, where it covers no curve; none for a single curve, which the axis names."""
    handles = {label: handle for ax in axes for handle, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    if len(handles) < 2:
        return
    columns = min(len(handles), max(2, int(figure.get_figwidth() // 2.1)))
    figure.legend(handles.values(), handles, loc="outside lower center", ncols=columns, handlelength=3.2, frameon=False)

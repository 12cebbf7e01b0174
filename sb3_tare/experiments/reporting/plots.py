"""Figures of a study, in the colours and dashes of :mod:`sb3_tare.analysis.drawing`."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from sb3_tare.analysis.drawing import Styles, grid, legend
from sb3_tare.experiments.reporting.statistics import Estimate

Curve = tuple[NDArray[Any], Estimate]
"""``[k]`` abscissae and an estimate at each."""


def panels(curves: Mapping[str, Mapping[str, Curve]], ylabel: str, styles: Styles) -> Figure:
    """A panel for each environment, in it a curve for each variant, over environment steps."""
    figure, axes = grid(list(curves))
    for ax, (title, by_name) in zip(axes, curves.items(), strict=True):
        _curves(ax, title, by_name, ylabel, styles)
    legend(figure, axes)
    return figure


def panel(title: str, curves: Mapping[str, Curve], ylabel: str, styles: Styles) -> Figure:
    """One panel of :func:`panels` as a figure of its own, without a legend."""
    figure = Figure(figsize=(4.2, 3.1), layout="constrained")
    _curves(figure.subplots(), title, curves, ylabel, styles)
    return figure


def profiles(curves: Mapping[str, Curve], styles: Styles) -> Figure:
    """Share of runs above each score."""
    figure = Figure(figsize=(5.2, 3.7), layout="constrained")
    ax = figure.subplots()
    for name, curve in curves.items():
        _draw(ax, name, curve, styles[name])
    ax.set_xlabel("score τ (0: untrained, 1: reference)")
    ax.set_ylabel("share of runs with a score above τ")
    ax.set_ylim(-0.02, 1.02)
    ax.grid(alpha=0.25)
    legend(figure, [ax])
    return figure


def intervals(estimates: Mapping[str, Estimate], xlabel: str, styles: Styles, mark: float) -> Figure:
    """A row for each variant: its value, its interval if it has one, and a vertical line at ``mark``."""
    figure = Figure(figsize=(5.2, 0.9 + 0.38 * len(estimates)), layout="constrained")
    ax = figure.subplots()
    for row, (name, estimate) in enumerate(estimates.items()):
        _interval(ax, row, estimate, styles[name])
    _rows(ax, list(estimates), xlabel, mark)
    ax.margins(x=0.06)
    return figure


def forest(rows: Mapping[str, Mapping[str, Estimate]], xlabel: str, styles: Styles) -> Figure:
    """Probabilities: under the name of each row, a line for each variant with its value and its interval if it has one."""
    lines = sum(1 + len(by_name) for by_name in rows.values())
    figure = Figure(figsize=(4.2, 0.7 + 0.24 * lines), layout="constrained")
    ax = figure.subplots()
    labels: list[str] = []
    for row, by_name in rows.items():
        ax.text(0.02, len(labels), row, weight="bold", va="center", fontsize=9)
        labels.append("")
        for name, estimate in by_name.items():
            _interval(ax, len(labels), estimate, styles[name])
            labels.append(name)
    _rows(ax, labels, xlabel, mark=0.5)
    ax.set_xlim(0.0, 1.0)
    return figure


def svg(figure: Figure) -> bytes:
    """The figure as SVG without a date in it: equal figures give equal bytes."""
    file = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "sb3-tare"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def _curves(ax: Axes, title: str, curves: Mapping[str, Curve], ylabel: str, styles: Styles) -> None:
    for name, curve in curves.items():
        _draw(ax, name, curve, styles[name])
    ax.set_title(title)
    ax.set_xlabel("environment steps")
    ax.set_ylabel(ylabel)
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.grid(alpha=0.25)


def _draw(ax: Axes, name: str, curve: Curve, style: Mapping[str, Any]) -> None:
    steps, (value, bounds) = curve
    ax.plot(steps, value, label=name, linewidth=1.6, **style)
    if bounds is not None:
        ax.fill_between(steps, bounds[0], bounds[1], color=style["color"], alpha=0.15, linewidth=0)


def _interval(ax: Axes, row: int, estimate: Estimate, style: Mapping[str, Any]) -> None:
    """A value, and its interval if it has one."""
    value, bounds = estimate
    colour = style["color"]
    if bounds is not None:
        ax.plot(bounds[:, 0], [row, row], color=colour, alpha=0.4, linewidth=7, solid_capstyle="butt")
    ax.plot(value[0], row, marker="D", markersize=5, color=colour, clip_on=False)


def _rows(ax: Axes, labels: list[str], xlabel: str, mark: float) -> None:
    """Names of rows, from the top down; those without one have no tick."""
    ax.axvline(mark, color="0.4", linewidth=0.8, linestyle=":")
    ax.set_yticks([row for row, label in enumerate(labels) if label], [label for label in labels if label])
    ax.set_ylim(len(labels) - 0.5, -0.5)
    ax.set_xlabel(xlabel)
    ax.grid(axis="x", alpha=0.25)

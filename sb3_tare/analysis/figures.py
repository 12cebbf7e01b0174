"""Pictures of episodes and of learned rewards. Colours are Okabe and Ito's, which colour-blind readers tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sb3_tare.analysis.correlating import pearson, scales, true_rewards
from sb3_tare.analysis.drawing import histograms, styles_of
from sb3_tare.analysis.recording import Episode

STYLES: Mapping[str, Mapping[str, Any]] = {
    "extrinsic": {"color": "#0072B2", "linewidth": 1.2},
    "undistorted": {"color": "#E69F00", "linewidth": 1.2, "linestyle": (0, (4, 1.5))},
    "learned": {"color": "#D55E00", "linewidth": 1.2},
}
LABELS = {"extrinsic": "extrinsic", "undistorted": "before delay or noise", "learned": "learned"}
PANELS_HEIGHT = 5.6
"""Height of a timeline without frames, in inches."""
N_FRAMES = 8
"""Number of frames of an episode that a picture shows."""
N_BARS = 12
"""Number of entries of an observation that a picture shows, the most important ones."""
CELLS = 60
"""Cells of a histogram of two rewards, along each of them."""
FEW_TO_MANY = LinearSegmentedColormap.from_list("few to many", ["#0072B2", "#CC79A7", "#D55E00"])
"""Colours that stand out from a white page and from a dark one."""
FEW_ACTIONS = 10
"""More discrete actions than these are not told apart."""


def timeline(episode: Episode, title: str = "", width: float = 9.0) -> Figure:
    """Rewards and returns along an episode, below a strip of its frames where it has some.

    :param width: in inches
    """
    shown = [sorted(episode.frames)[index] for index in shown_of(len(episode.frames))]
    strip = 0.0
    if episode.frames:
        height_of_one, width_of_one, _ = episode.frames[shown[0]].shape
        strip = width / len(shown) * height_of_one / width_of_one + (0.7 if title else 0.4)
    figure = Figure(figsize=(width, PANELS_HEIGHT + strip), layout="constrained")
    if not episode.frames:
        figure.suptitle(title)
        draw_timeline(figure, episode)
        return figure
    parts: Any = figure.subfigures(2, 1, height_ratios=[strip, PANELS_HEIGHT])
    above, below = parts
    above.suptitle(title)
    for ax, step in zip(above.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        ax.imshow(episode.frames[step])
        ax.set_title(f"step {step}", fontsize="small")
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_color("0.8")
    draw_timeline(below, episode)
    return figure


def shown_of(n: int) -> list[int]:
    """The few of n steps, counted from 0, whose frames :func:`timeline` shows of a whole episode."""
    return sorted({round(step) for step in np.linspace(0, n - 1, N_FRAMES)}) if n else []


def draw_timeline(figure: FigureBase, episode: Episode) -> list[Axes]:
    """Rewards and returns along an episode in four panels, as scales of extrinsic and learned ones may differ."""
    axes = list(figure.subplots(4, 1, sharex=True))
    steps = np.arange(len(episode.learned))
    for name, rewards in episode.rewards().items():
        of_rewards, of_returns = axes[2:] if name == "learned" else axes[:2]
        (line,) = of_rewards.plot(steps, rewards, **STYLES[name])
        of_returns.plot(steps, rewards.cumsum(), **STYLES[name])
        line.set_label(LABELS[name])
    for ax, label in zip(axes, ("reward", "return\nso far", "learned\nreward", "learned return\nso far"), strict=True):
        ax.set_ylabel(label)
        ax.margins(x=0.01)
        ax.grid(alpha=0.25)
    said = ", ".join(f"{LABELS[name]} {scale:.3g}" for name, scale in scales([episode]).items())
    axes[2].set_title(f"standard deviation of a step's reward: {said}", fontsize="small", loc="left")
    axes[-1].set_xlabel("time step of the episode")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels(axes)
    figure.supylabel("in the environment's reward units", fontsize="small")
    figure.legend(loc="outside lower center", ncols=len(LABELS), frameon=False)
    return axes


def histogram(episodes: Sequence[Episode], action_space: spaces.Space[Any], title: str = "learned rewards") -> Figure:
    """Distribution of the learned rewards of all steps, by action where there are few discrete ones."""
    learned = np.concatenate([episode.learned for episode in episodes])
    samples: dict[str, NDArray[Any]] = {"all steps": learned}
    if isinstance(action_space, spaces.Discrete) and action_space.n <= FEW_ACTIONS:
        actions = np.concatenate([episode.actions for episode in episodes]).flatten()
        samples = {f"action {action}": learned[actions == action] for action in range(int(action_space.n))}
    return histograms({title: samples}, "learned reward of a step (environment's units)", styles_of(list(samples)))


def agreement(episodes: Sequence[Episode], title: str = "") -> Figure:
    """Numbers of steps by their learned reward and the true one, as far as the task tells it, and the correlation of both."""
    name, true = true_rewards(episodes)
    learned = np.concatenate([episode.learned for episode in episodes])
    counts, *edges = np.histogram2d(true, learned, bins=CELLS)
    figure = Figure(figsize=(5.2, 3.9), layout="constrained")
    ax = figure.subplots()
    cells = ax.pcolormesh(
        *edges,
        np.ma.masked_equal(counts, 0.0).T,
        norm=LogNorm(vmin=1.0, vmax=max(10.0, counts.max())),
        cmap=FEW_TO_MANY,
        rasterized=True,  # thousands of cells are a small picture and a large drawing
    )
    scale = figure.colorbar(cells, label="steps")
    scale.solids.set_rasterized(True)  # type: ignore[union-attr]
    ax.set_title(f"{title}\ncorrelation {pearson(learned, true):.3f}".strip(), fontsize="medium")
    ax.set_xlabel(f"reward of a step, {LABELS[name]}")
    ax.set_ylabel("learned reward of a step")
    ax.grid(alpha=0.25)
    return figure


def importance_bars(importances: Mapping[str, float], title: str = "") -> Figure:
    """The most important of the entries that :func:`~sb3_tare.analysis.importance.importances` measured, above the others."""
    ordered = sorted(importances.items(), key=lambda item: -item[1])
    shown, rest = ordered[:N_BARS], ordered[N_BARS:]
    figure = Figure(figsize=(5.2, 1.2 + 0.25 * len(shown)), layout="constrained")
    ax = figure.subplots()
    bars = ax.barh([name for name, _ in shown], [value for _, value in shown], color="#0072B2")
    ax.bar_label(bars, fmt="{:.2g}", padding=3, fontsize="small")
    ax.invert_yaxis()
    ax.margins(x=0.12)
    ax.set_title(title, fontsize="medium")
    more = f"\n{len(rest)} further entries, at most {rest[0][1]:.2g} each" if rest else ""
    ax.set_xlabel(f"importance (share of the learned reward's variance){more}")
    ax.grid(axis="x", alpha=0.25)
    return figure

"""Pictures of episodes and of learned rewards. Colours are Okabe and Ito's, which colour-blind readers tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sb3_tare.analysis.recording import Episode
from sb3_tare.experiments.plots import histograms, styles_of

EXTRINSIC: Mapping[str, Any] = {"color": "#0072B2", "linewidth": 1.2}
UNDISTORTED: Mapping[str, Any] = {"color": "#E69F00", "linewidth": 1.2, "linestyle": (0, (4, 1.5))}
LEARNED: Mapping[str, Any] = {"color": "#D55E00", "linewidth": 1.2}
N_FRAMES = 8
"""Of an episode that a picture shows."""
FEW_ACTIONS = 10
"""More discrete actions than these are not told apart."""


def timeline(episode: Episode, title: str = "", width: float = 9.0) -> Figure:
    """Rewards and returns along an episode, below a strip of its frames where it has some.

    :param width: in inches
    """
    strip = width / N_FRAMES * 1.15 if episode.frames else 0.0
    figure = Figure(figsize=(width, 5.4 + strip), layout="constrained")
    if episode.frames:
        above, below = figure.subfigures(2, 1, height_ratios=[strip, 5.4])
        _strip(above.subplots(1, N_FRAMES), episode)
        above.suptitle(title)
    else:
        below = figure
        figure.suptitle(title)
    draw_timeline(below.subplots(4, 1, sharex=True), episode)
    below.legend(*below.axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def draw_timeline(axes: Sequence[Axes], episode: Episode) -> None:
    """Rewards and returns along an episode in four panels, of which the extrinsic come first: their scales may differ.

    :param axes: four, with a common abscissa
    """
    styles = {"extrinsic": EXTRINSIC, "undistorted": UNDISTORTED, "learned": LEARNED}
    labels = {"extrinsic": "extrinsic", "undistorted": "undistorted (before delay or noise)", "learned": "learned"}
    steps = np.arange(len(episode.learned))
    for name, rewards in episode.rewards().items():
        of_rewards, of_returns = (axes[2], axes[3]) if name == "learned" else (axes[0], axes[1])
        of_rewards.plot(steps, rewards, **styles[name])
        of_returns.plot(steps, rewards.cumsum(), **styles[name])
        axes[0].plot([], [], label=labels[name], **styles[name])
    for ax, label in zip(axes, ("reward", "return so far", "learned\nreward", "learned return\nso far"), strict=True):
        ax.set_ylabel(label)
        ax.margins(x=0.01)
        ax.grid(alpha=0.25)
    axes[-1].set_xlabel("time step of the episode")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))


def histogram(episodes: Sequence[Episode], action_space: spaces.Space[Any], title: str = "learned rewards") -> Figure:
    """Distribution of the learned rewards of all steps, by action where there are few discrete ones."""
    learned = np.concatenate([episode.learned for episode in episodes])
    samples: dict[str, NDArray[Any]] = {"all steps": learned}
    if isinstance(action_space, spaces.Discrete) and action_space.n <= FEW_ACTIONS:
        actions = np.concatenate([episode.actions for episode in episodes]).flatten()
        samples = {f"action {action}": learned[actions == action] for action in range(int(action_space.n))}
    return histograms({title: samples}, "learned reward of a step (environment's units)", styles_of(list(samples)))


def _strip(axes: Sequence[Axes], episode: Episode) -> None:
    """Frames at equal distances."""
    for ax, step in zip(axes, np.linspace(0, len(episode.frames) - 1, N_FRAMES).astype(int), strict=True):
        ax.imshow(episode.frames[step])
        ax.set_title(f"step {step}", fontsize=8)
        ax.set_axis_off()

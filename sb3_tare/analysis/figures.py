"""Pictures of episodes and of learned rewards. Colours are Okabe and Ito's, which colour-blind readers tell apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from sb3_tare.analysis.correlating import scales
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
FEW_ACTIONS = 10
"""More discrete actions than these are not told apart."""


def timeline(episode: Episode, title: str = "", width: float = 9.0) -> Figure:
    """Rewards and returns along an episode, below a strip of its frames where it has some.

    :param width: in inches
    """
    shown = np.unique(np.linspace(0, len(episode.learned) - 1, N_FRAMES).astype(int))
    strip = 0.0
    if episode.frames:
        height_of_one, width_of_one, _ = episode.frames[0].shape
        strip = width / len(shown) * height_of_one / width_of_one + 0.7
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
    axes[2].set_title(f"standard deviation of a step's reward: {said}", fontsize="small", color="0.35", loc="left")
    axes[-1].set_xlabel("time step of the episode")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.align_ylabels(axes)
    figure.supylabel("in the environment's reward units", fontsize="small", color="0.35")
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

"""An episode as a video: the rendered environment above, its timeline below, with a mark that moves along."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from sb3_tare.analysis.figures import LABELS, draw_timeline
from sb3_tare.analysis.recording import Episode
from sb3_tare.utils.files import write_atomically

WIDTH, TIMELINE_HEIGHT, TEXT_HEIGHT = 720, 520, 32
"""Size in pixels; even, as video codecs want it."""
MAX_FPS = 50.0
"""Viewers show GIFs of more frames a second slowly, and nobody sees more."""


def write_video(episode: Episode, path: str | Path, fps: float = 30.0) -> None:
    """Write as many frames as the episode has steps; without rendered frames, the timeline alone.

    :param path: its suffix says what is written: ``.gif`` needs nothing but Pillow, ``.mp4`` imageio-ffmpeg, which comes with
        the extra ``zoo``
    :param fps: frames a second, at most 50
    :raises ValueError: for another suffix, or an episode with frames of some steps alone
    """
    path = Path(path)
    if 0 < len(episode.frames) < len(episode.learned):
        raise ValueError(f"a video needs a frame of all {len(episode.learned)} steps or of none, got {len(episode.frames)}")
    if path.suffix not in (".gif", ".mp4"):
        raise ValueError(f"a video's file must end in .gif or .mp4, got {path.name!r}")
    write = _write_gif if path.suffix == ".gif" else _write_mp4
    write(_images(episode), path, min(fps, MAX_FPS))


def _write_gif(images: Iterator[Image.Image], path: Path, fps: float) -> None:
    first = next(images)
    arguments = {"save_all": True, "append_images": images, "duration": round(1000 / fps), "loop": 0}
    write_atomically(path, lambda file: first.save(file, format="GIF", **arguments))


def _write_mp4(images: Iterator[Image.Image], path: Path, fps: float) -> None:
    try:
        import imageio_ffmpeg  # needs an extra
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("an mp4 needs the package imageio-ffmpeg: install it, or write a gif") from error
    first = next(images)
    arguments = {"fps": fps, "macro_block_size": 2, "ffmpeg_log_level": "error", "output_params": ["-f", "mp4"]}

    def write(file: Any) -> None:
        writer = imageio_ffmpeg.write_frames(str(file.name), first.size, **arguments)
        writer.send(None)  # as its documentation says: a generator that takes frames
        try:
            writer.send(first.tobytes())
            for image in images:
                writer.send(image.tobytes())
        finally:
            writer.close()

    write_atomically(path, write)


def _images(episode: Episode) -> Iterator[Image.Image]:
    """One a step. The timeline is drawn once; drawing it anew for each step would take minutes."""
    timeline, columns, (first_row, last_row) = _drawn_timeline(episode)
    height = max((frame.shape[0] for frame in episode.frames.values()), default=0)
    for step, column in enumerate(columns):
        image = Image.new("RGB", (WIDTH, height + height % 2 + TEXT_HEIGHT + TIMELINE_HEIGHT), "white")
        if episode.frames:
            frame = episode.frames[step]
            image.paste(Image.fromarray(frame), ((WIDTH - frame.shape[1]) // 2, 0))
        draw = ImageDraw.Draw(image)
        top = image.height - TIMELINE_HEIGHT
        image.paste(timeline, (0, top))
        draw.line([(column, top + first_row), (column, top + last_row)], fill="black", width=1)
        # The numbers differ from step to step, so that no format takes two frames for one.
        draw.text((WIDTH // 2, top - TEXT_HEIGHT // 2), _caption(episode, step), fill="black", anchor="mm", font_size=15)
        yield image


def _caption(episode: Episode, step: int) -> str:
    numbers = ", ".join(f"{LABELS[name]} {rewards[step]:.3g}" for name, rewards in episode.rewards().items())
    return f"step {step}: {numbers}"


def _drawn_timeline(episode: Episode) -> tuple[Image.Image, NDArray[np.int64], tuple[int, int]]:
    """The timeline, the column of each step in it, ``[T]``, and the rows between which its panels lie."""
    figure = Figure(figsize=(WIDTH / 100, TIMELINE_HEIGHT / 100), dpi=100, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = draw_timeline(figure, episode)
    canvas.draw()
    steps = np.arange(len(episode.learned))
    columns = axes[0].transData.transform(np.column_stack([steps, np.zeros_like(steps)]))[:, 0]
    rows = round(TIMELINE_HEIGHT - axes[0].bbox.ymax), round(TIMELINE_HEIGHT - axes[-1].bbox.ymin)
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"), columns.round().astype(np.int64), rows

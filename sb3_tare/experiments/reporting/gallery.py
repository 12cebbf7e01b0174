"""The gallery of a report: what the rewards of kept models pay, along an episode, for what, and against the truth.

It shows one seed of each variant and task, and equal models give equal pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.utils import set_random_seed

from sb3_tare.analysis.correlating import pearson, true_rewards
from sb3_tare.analysis.figures import agreement, importance_bars, shown_of, timeline
from sb3_tare.analysis.headless import choose_backend
from sb3_tare.analysis.importance import InexplicableError, importances
from sb3_tare.analysis.loading import load_all, make_env, why_not_filmed
from sb3_tare.analysis.naming import observation_names
from sb3_tare.analysis.recording import Episode, Recording, watch
from sb3_tare.experiments.reporting import page, pictures, plots
from sb3_tare.experiments.reporting.pictures import Picture
from sb3_tare.utils.generators import undisturbed_generators

EPISODES = 5
"""Episodes with exploration, of whose steps importances and correlations are."""
SHUFFLES = 3
"""Of each entry: importances take most of the gallery's time where there are many entries."""
SEED = 0
"""Seed of environment, policy and shuffles."""
WIDTH = 7.0
"""Width of a timeline in inches: its frames have 80 pixels then, and a page of ten of them some megabytes."""
HOSTS = {"Learned-SAC": "SAC"}
"""Algorithms whose files hold no more than their host, by their variants' names for them."""

INTRODUCTION = (
    "What the reward of one seed has learned, of each variant and task whose model is kept here: along one deterministic "
    f"episode, then over {EPISODES} episodes with the policy's exploration. The importance of an entry is the share of the "
    "learned reward's variance that is lost when the entry is shuffled among all steps: half the mean square of what that "
    "changes, over the variance (Breiman 2001; Fisher, Rudin and Dominici 2019; Jansen 1999). It is 0 for what is not used; "
    "shares sum to 1 where entries have nothing to do with each other and rewards are sums over them, and to more or less "
    "elsewhere."
)


class Kept(NamedTuple):
    """A kept model with a learned reward.

    :param model: its file
    :param settings: of its run, as the result holds them
    """

    model: Path
    settings: Mapping[str, Any]


def gallery(kept: list[Kept], say: Callable[[str], None]) -> tuple[list[str], list[Picture]]:
    """Blocks of the page, and the pictures in them.

    :param kept: one model of each variant and task
    :param say: is told what cannot be shown; the page says it too
    """
    filmed = cache(_can_be_filmed)
    blocks, drawn = [page.paragraph(INTRODUCTION)], []
    for index, each in enumerate(kept):
        blocks.append(page.subheading(_title(each)))
        try:
            with undisturbed_generators():
                exhibit, notes = _exhibit(f"gallery{index}", each, filmed(each.settings["env"]))
        except Exception as error:  # drivers and code of one's own can fail in many ways, and all else is shown
            exhibit, notes = [], [f"There is no picture of {each.model.name}: {type(error).__name__}: {error}"]
            say(notes[0])
        blocks += [*map(pictures.figure, exhibit), *map(page.paragraph, notes)]
        drawn += exhibit
    return blocks, drawn


def _title(kept: Kept) -> str:
    return "{env}, {name}, seed {seed}".format_map(kept.settings)


def _can_be_filmed(env_id: str) -> bool:
    choose_backend(env_id)
    return why_not_filmed(env_id) is None


def _exhibit(name: str, kept: Kept, film: bool) -> tuple[list[Picture], list[str]]:
    """Pictures of one learned reward, and notes on those that there cannot be."""
    episode, recording, names = _recorded(kept, film)
    shown = [_timeline(f"{name}_timeline", kept, episode), _agreement(f"{name}_agreement", kept, recording.episodes())]
    try:
        measured = importances(recording.reward, recording.steps, names, SHUFFLES, SEED)
    except InexplicableError as error:
        return shown, [f"There is no picture of importances: {error}."]
    return [*shown, _importance(f"{name}_importance", kept, measured)], []


def _recorded(kept: Kept, film: bool) -> tuple[Episode, Recording, list[str]]:
    """A deterministic episode, several with exploration, and names of an observation's entries, as far as they are told."""
    env_id, path = kept.settings["env"], kept.model
    algorithm = HOSTS.get(kept.settings["variant"]["algorithm"])
    model, learner, statistics = load_all(path, algorithm, remedy="as the study left it")
    env = make_env(env_id, model, statistics, film)

    def again(n_episodes: int, deterministic: bool, frames: Sequence[int] = ()) -> Recording:
        set_random_seed(SEED)
        env.seed(SEED)
        return watch(model, env, n_episodes, learner, deterministic, frames)

    try:
        (episode,) = again(1, deterministic=True).episodes()
        if film:  # the same once more: frames take far longer than steps, and which ones are shown depends on its length
            (episode,) = again(1, deterministic=True, frames=shown_of(len(episode.learned))).episodes()
        recording = again(EPISODES, deterministic=False)
        names = observation_names(env.get_attr("unwrapped")[0], env.observation_space)
    finally:
        env.close()
    return episode, recording, names


def _timeline(name: str, kept: Kept, episode: Episode) -> Picture:
    n, paid, learned = len(episode.learned), episode.extrinsic.sum(), episode.learned.sum()
    told = f"{n} steps, {page.number(float(paid))} paid in all, {page.number(float(learned))} learned"
    return Picture(
        plots.svg(timeline(episode, width=WIDTH)),
        name,
        f"Rewards and returns along a deterministic episode of {_title(kept)}: {told}",
        f"A deterministic episode{', frames above' if episode.frames else ''}: {told}.",
    )


def _agreement(name: str, kept: Kept, episodes: list[Episode]) -> Picture:
    kind, true = true_rewards(episodes)
    correlation = page.number(round(pearson(np.concatenate([episode.learned for episode in episodes]), true), 2))
    against = "what it earned before delay or noise" if kind == "undistorted" else "the extrinsic reward that it was paid"
    return Picture(
        plots.svg(agreement(episodes)),
        name,
        f"Steps of {_title(kept)} by learned reward and by {against}; correlation {correlation}",
        f"Each step's learned reward against {against}: correlation {correlation} over {len(true):,} steps.",
    )


def _importance(name: str, kept: Kept, measured: Mapping[str, float]) -> Picture:
    told = ", ".join(f"{entry} {measured[entry]:.2g}" for entry in sorted(measured, key=lambda entry: -measured[entry])[:3])
    return Picture(
        plots.svg(importance_bars(measured)),
        name,
        f"Importance of what the learned reward of {_title(kept)} looks at, most of all {told}",
        f"What the learned reward looks at: most of all {told}.",
    )

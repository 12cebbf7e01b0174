"""Figures, a table and a page, made from a folder of results. The modules behind it need the extra ``plots``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from rich.console import Console

from sb3_tare.analysis import drawing
from sb3_tare.experiments.reporting import answer, curves, page, pictures, repeating
from sb3_tare.experiments.reporting.across import across_environments
from sb3_tare.experiments.reporting.finals import EXPLANATION, as_csv, final_returns, readable
from sb3_tare.experiments.reporting.logged import logged
from sb3_tare.experiments.reporting.measured import PICTURES
from sb3_tare.experiments.reporting.pictures import Picture
from sb3_tare.experiments.reporting.scores import Runs, evaluation_area, results_of, sort_runs, variants_of
from sb3_tare.experiments.running.keeping import with_reward
from sb3_tare.experiments.running.results import DamagedResult, Result, read_all
from sb3_tare.experiments.studies import STUDIES
from sb3_tare.utils.files import write_bytes

NOT_ALWAYS = (
    "probability_of_improvement.svg",
    "interquartile_mean.svg",
    "performance_profile.svg",
    "logged_*.svg",
    "gallery*.svg",
)
"""Patterns of figures that not every study has: those of an earlier report are removed with it."""


def write_report(folder: Path, reference: str | None, console: Console, with_gallery: bool = True) -> list[Path]:
    """Write ``report.html``, ``table.csv`` and the figures as SVG into ``folder``.

    :param reference: variant whose final return is a score of 1; None takes ``ppo``, or the first if there is none
    :param with_gallery: whether rewards of kept models are shown, which lets their policies act
    :return: the written files
    :raises ValueError: if the folder holds no results, or results of several studies, or a variant with different
        arguments on one task, or the reference is not among them
    """
    results, damaged = read_all(folder)
    for error in damaged:
        console.print(f"{error}; it is left out", style="yellow", highlight=False, markup=False, soft_wrap=True)
    runs = sort_runs(_of_one_study(folder, list(results.values())))
    reference = _reference(runs, reference, folder)
    shown = _gallery(folder, runs, console) if with_gallery else ([], [])
    files = _files(runs, reference, damaged, shown)
    for name, content in files.items():
        write_bytes(folder / name, content)
    for path in chain.from_iterable(map(folder.glob, NOT_ALWAYS)):
        if path.name not in files:
            path.unlink(missing_ok=True)
    return [folder / name for name in files]


Shown = tuple[list[str], list[Picture]]
"""Blocks of the page, and the pictures in them."""


def _gallery(folder: Path, runs: Runs, console: Console) -> Shown:
    """Pictures of the first seed of each task and variant, of those that have left a model with its reward."""
    kept = [
        next(((model, result["settings"]) for result in results if (model := with_reward(folder, result["settings"]))), None)
        for by_name in runs.values()
        for results in by_name.values()
    ]
    if not any(kept):
        return [], []
    from sb3_tare.experiments.reporting import gallery  # models and rendering, which other reports need not wait for

    def say(text: str) -> None:
        console.print(text, style="yellow", highlight=False, markup=False, soft_wrap=True)

    return gallery.gallery([gallery.Kept(*each) for each in kept if each is not None], say)


def _files(runs: Runs, reference: str, damaged: Sequence[DamagedResult], gallery: Shown) -> dict[str, bytes]:
    """Contents of all files, the page last."""
    styles, rows = drawing.styles_of(variants_of(runs)), final_returns(runs)
    compared, by_area = answer.compare(runs, reference), answer.compare(runs, reference, evaluation_area)
    forest = [answer.forest(compared, reference, styles)] if compared else []
    evaluation, by_env = curves.evaluations(runs, styles)
    training = curves.training(runs, styles)
    measured = [*PICTURES[_settings(runs)["measure"]](runs), *logged(runs, styles)]
    across = across_environments(runs, reference, styles)
    caption = " ".join([*(picture.caption for picture in forest), evaluation.caption])
    beginning = [
        page.paragraph(answer.sentence(compared, reference), "answer"),
        *_warnings(runs, damaged),
        pictures.panels([*forest, *by_env], styles, caption),
    ]
    sections = {
        "Final returns": [
            _protocol(runs),
            page.paragraph(EXPLANATION),
            page.table(list(map(readable, rows)), "Final returns"),
            *([page.paragraph(answer.sentence_of_areas(by_area, reference))] if by_area else []),
        ],
        "Training": [pictures.figure(training)],
        "Measured along training": list(map(pictures.figure, measured)),
        "Gallery": gallery[0],
        "Across environments": [pictures.figure(b) if isinstance(b, Picture) else b for b in across],
        "Settings": repeating.settings(runs),
        "How to repeat it": repeating.how_to_repeat(runs, reference),
    }
    about = STUDIES[_study(runs)].about if _study(runs) in STUDIES else _study(runs)
    drawn = [training, evaluation, *forest, *measured, *gallery[1], *(block for block in across if isinstance(block, Picture))]
    text = page.page(_study(runs), about, beginning, {title: blocks for title, blocks in sections.items() if blocks})
    return {
        **{f"{picture.name}.svg": picture.svg for picture in drawn},
        "table.csv": as_csv(rows),
        "report.html": text.encode(),
    }


def _reference(runs: Runs, given: str | None, folder: Path) -> str:
    names = variants_of(runs)
    reference = given or ("ppo" if "ppo" in names else names[0])
    if reference not in names:
        raise ValueError(f"no result in {folder} is of the reference {reference!r}; there are: {', '.join(names)}")
    return reference


def _of_one_study(folder: Path, results: list[Result]) -> list[Result]:
    if not results:
        raise ValueError(f"{folder} holds no whole result; `python -m sb3_tare.experiments run` writes them")
    protocols = sorted({_protocol_of(result["settings"]) for result in results})
    if len(protocols) > 1:
        raise ValueError(f"{folder} holds results of several studies: {'; '.join(protocols)}")
    arguments: dict[tuple[str, str], str] = {}
    for settings in (result["settings"] for result in results):
        its_own = json.dumps(settings["variant"], sort_keys=True)
        if (others := arguments.setdefault((settings["name"], settings["env"]), its_own)) != its_own:
            told = f"{others} and {its_own}; use a folder for each"
            raise ValueError(
                f"{folder} holds runs of {settings['name']} on {settings['env']} with different arguments: {told}"
            )
    return results


def _protocol_of(settings: Mapping[str, Any]) -> str:
    measured = f" and {settings['measure']}" if settings["measure"] is not None else ""
    return (
        f"{settings['study']}, {settings['steps']} steps, {settings['evaluations']} evaluations of "
        f"{settings['evaluation_episodes']} episodes{measured}"
    )


def _study(runs: Runs) -> str:
    return _settings(runs)["study"]


def _settings(runs: Runs) -> dict[str, Any]:
    return results_of(runs)[0]["settings"]


def _seeds(runs: Runs) -> dict[tuple[str, str], int]:
    return {(env, name): len(results) for env, by_name in runs.items() for name, results in by_name.items()}


def _protocol(runs: Runs) -> str:
    settings, most = _settings(runs), max(_seeds(runs).values())
    return page.paragraph(
        f"{settings['steps']:,} environment steps a run, {most} seed{'s' * (most > 1)}, {settings['evaluations']} evaluations "
        f"of {settings['evaluation_episodes']} deterministic episodes. All returns are in the environment's own reward."
    )


def _warnings(runs: Runs, damaged: Sequence[DamagedResult]) -> list[str]:
    """Blocks on what keeps a reader from trusting the answer."""
    seeds = _seeds(runs)
    most = max(seeds.values())
    notes = [f"{name} on {env}: {count} of {most} seeds" for (env, name), count in seeds.items() if count < most]
    notes += [f"{name} on {env}: none" for env in runs for name in variants_of(runs) if name not in runs[env]]
    notes += [str(error) for error in damaged]
    blocks = []
    if most == 1:
        blocks.append(
            page.paragraph("There is one seed, so that nothing here can have an interval, and differences mean little.")
        )
    return blocks + ([page.paragraph("This study is not complete:"), page.bullets(notes)] if notes else [])

"""Figures, a table and a page, made from a folder of results. The modules behind it need the extra ``plots``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from sb3_tare.analysis import drawing
from sb3_tare.experiments.reporting import page, plots, statistics
from sb3_tare.experiments.reporting.across import across_environments
from sb3_tare.experiments.reporting.finals import EXPLANATION, as_csv, final_returns, readable
from sb3_tare.experiments.reporting.measured import PICTURES
from sb3_tare.experiments.reporting.page import Picture
from sb3_tare.experiments.reporting.scores import Runs, evaluation_curve, sort_runs, training_curve, variants_of
from sb3_tare.experiments.running.results import DamagedResult, Result, read_all
from sb3_tare.experiments.studies import STUDIES
from sb3_tare.utils.files import write_atomically

TRAINING_CAPTION = (
    "Training episodes, exploration included: at each point the mean extrinsic return of the episodes that ended since the "
    "point before, then the mean over seeds; shaded: its 95 % bootstrap interval, where there are two seeds or more. A curve "
    "has a gap where, for some seed, no episode ended."
)
EVALUATION_CAPTION = (
    "Deterministic episodes, {} in each evaluation, the first before any training: mean extrinsic return, then the mean over "
    "seeds; shaded: its 95 % bootstrap interval, where there are two seeds or more."
)


def write_report(folder: Path, reference: str | None, console: Console) -> list[Path]:
    """Write ``report.html``, ``table.csv`` and the figures as SVG into ``folder``.

    :param reference: variant whose final return is a score of 1; None takes ``ppo``, or the first if there is none
    :return: the written files
    :raises ValueError: if the folder holds no results, or results of several studies, or the reference is not among them
    """
    results, damaged = read_all(folder)
    for error in damaged:
        console.print(f"{error}; it is left out", style="yellow", highlight=False, markup=False, soft_wrap=True)
    runs = sort_runs(_of_one_study(folder, list(results.values())))
    names = variants_of(runs)
    reference = reference or ("ppo" if "ppo" in names else names[0])
    if reference not in names:
        raise ValueError(f"no result in {folder} is of the reference {reference!r}; there are: {', '.join(names)}")
    rows = final_returns(runs)
    curves = _curves(runs, names)
    measured = PICTURES[_any(runs)["settings"]["measure"]](runs)
    across = across_environments(runs, reference, drawing.styles_of(names))
    blocks = [*_introduction(runs, damaged), page.heading("Learning curves"), *map(page.figure, curves)]
    if measured:
        blocks += [page.heading("Measured along training"), *map(page.figure, measured)]
    blocks += [page.heading("Final returns"), page.paragraph(EXPLANATION), page.table(list(map(readable, rows)))]
    blocks += [page.heading("Across environments"), *(page.figure(b) if isinstance(b, Picture) else b for b in across)]
    blocks += _settings(runs)
    files = {f"{picture.name}.svg": picture.svg for picture in (*curves, *measured, *across) if isinstance(picture, Picture)}
    files["table.csv"] = as_csv(rows)
    files["report.html"] = page.page(f"Study {_study(runs)}", blocks).encode()
    for name, content in files.items():
        write_atomically(folder / name, partial(_fill, content))
    return [folder / name for name in files]


def _fill(content: bytes, file: Any) -> None:
    file.write(content)


def _of_one_study(folder: Path, results: list[Result]) -> list[Result]:
    if not results:
        raise ValueError(f"{folder} holds no whole result; `python -m sb3_tare.experiments run` writes them")
    protocols = {(r["settings"]["study"], r["settings"]["steps"], r["settings"]["evaluations"]) for r in results}
    if len(protocols) > 1:
        found = "; ".join(f"{study}, {steps} steps, {n} evaluations" for study, steps, n in sorted(protocols))
        raise ValueError(f"{folder} holds results of several studies: {found}")
    return results


def _study(runs: Runs) -> str:
    return _any(runs)["settings"]["study"]


def _any(runs: Runs) -> Result:
    return next(iter(next(iter(runs.values())).values()))[0]


def _introduction(runs: Runs, damaged: Sequence[DamagedResult]) -> list[str]:
    settings = _any(runs)["settings"]
    seeds = {(env, name): len(results) for env, by_name in runs.items() for name, results in by_name.items()}
    most = max(seeds.values())
    about = STUDIES[settings["study"]].about if settings["study"] in STUDIES else settings["study"]
    notes = [f"{name} on {env}: {count} of {most} seeds" for (env, name), count in seeds.items() if count < most]
    notes += [f"{name} on {env}: none" for env in runs for name in variants_of(runs) if name not in runs[env]]
    notes += [str(error) for error in damaged]
    blocks = [
        page.paragraph(
            f"{about}. {settings['steps']:,} environment steps a run, {most} seed{'s' * (most > 1)}, "
            f"{settings['evaluations']} evaluations of {settings['evaluation_episodes']} deterministic episodes. All returns "
            "are in the environment's own reward."
        )
    ]
    if most == 1:
        blocks.append(
            page.paragraph("There is one seed, so that nothing here can have an interval, and differences mean little.")
        )
    if notes:
        blocks += [page.paragraph("This study is not complete:"), page.bullets(notes)]
    return blocks


def _curves(runs: Runs, names: Sequence[str]) -> list[Picture]:
    settings = _any(runs)["settings"]
    steps = np.array(_any(runs)["evaluations"]["timesteps"])
    of_all = ", ".join(names)

    def panels(curve: Callable[[Result], Any], abscissae: Any) -> Figure:
        estimates = {
            env: {name: (abscissae, statistics.mean(np.stack(list(map(curve, rs))))) for name, rs in by_name.items()}
            for env, by_name in runs.items()
        }
        return plots.panels(estimates, "return (reward units)", drawing.styles_of(names))

    training, evaluation = panels(training_curve, steps[1:]), panels(evaluation_curve, steps)
    caption = EVALUATION_CAPTION.format(settings["evaluation_episodes"])
    return [
        Picture(plots.svg(training), "training", f"Training returns over environment steps of {of_all}", TRAINING_CAPTION),
        Picture(plots.svg(evaluation), "evaluation", f"Evaluation returns over environment steps of {of_all}", caption),
    ]


def _settings(runs: Runs) -> list[str]:
    results = [results[0] for by_name in runs.values() for results in by_name.values()]
    variants = {result["settings"]["name"]: json.dumps(result["settings"]["variant"]) for result in results}
    return [
        page.heading("Settings"),
        page.preformatted("\n".join(f"{name}: {variant}" for name, variant in variants.items())),
        page.preformatted("\n".join(f"{name} {number}" for name, number in _any(runs)["versions"].items())),
    ]

"""All that it takes to make a study again: settings, versions, commits, time, and the command."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from itertools import chain
from typing import Any

from sb3_tare.experiments.reporting import page
from sb3_tare.experiments.reporting.scores import Runs, results_of, variants_of
from sb3_tare.experiments.running.results import Result
from sb3_tare.experiments.studies import STUDIES
from sb3_tare.experiments.variants import VARIANTS, variant_on


def settings(runs: Runs) -> list[str]:
    """Blocks with the arguments of each variant, task by task where they differ."""
    told: dict[str, dict[str, list[str]]] = {}
    for result in results_of(runs):
        variant = json.dumps(result["settings"]["variant"])
        envs = told.setdefault(result["settings"]["name"], {}).setdefault(variant, [])
        if result["settings"]["env"] not in envs:
            envs.append(result["settings"]["env"])
    lines = [
        f"{name}{' on ' + ','.join(envs) if len(by_variant) > 1 else ''}: {variant}"
        for name, by_variant in told.items()
        for variant, envs in by_variant.items()
    ]
    return [page.preformatted("\n".join(lines), "Arguments of each variant")]


def how_to_repeat(runs: Runs, reference: str) -> list[str]:
    """Blocks with the command that makes these runs again, and what they were made with."""
    command, notes = _command(runs)
    report = f"python -m sb3_tare.experiments report again --reference {shlex.quote(reference)}"
    versions = (result["versions"].items() for result in results_of(runs))
    made = dict.fromkeys("\n".join(f"{name} {number}" for name, number in each) for each in versions)
    return [
        page.preformatted(f"{command}\n{report}", "Commands"),
        *map(page.paragraph, [*notes, *_made(results_of(runs))]),
        *(page.preformatted(text, "Versions of packages") for text in made),
    ]


def _command(runs: Runs) -> tuple[str, list[str]]:
    """The command, and what it cannot say."""
    results = results_of(runs)
    told, names = results[0]["settings"], variants_of(runs)
    seeds = sorted({result["settings"]["seed"] for result in results})
    changes, others = _changes(results)
    words = ["python -m sb3_tare.experiments run", told["study"], "--envs", *runs, "--variants", *names]
    words += ["--seeds", seeds[-1] - seeds[0] + 1, *(["--first-seed", seeds[0]] if seeds[0] else []), "--steps", told["steps"]]
    words += ["--evaluations", told["evaluations"], "--evaluation-episodes", told["evaluation_episodes"]]
    words += ["--set", *(f"{key}={json.dumps(value)}" for key, value in changes.items())] if changes else []
    command = " ".join([words[0], *(shlex.quote(str(word)) for word in words[1:]), "--out again"])
    notes = [f"This package's variants of today have other arguments than those above: {', '.join(others)}."] if others else []
    if own := [name for name in names if name not in VARIANTS]:
        notes.append(f"Not in this package, and to be given in a file by --variants-from: {', '.join(own)}.")
    if (n_runs := (seeds[-1] - seeds[0] + 1) * len(runs) * len(names)) > len(results):
        notes.append(f"That makes {n_runs} runs; {len(results)} of them are here.")
    if told["study"] not in STUDIES:
        notes.append(f"No study of this package has the name {told['study']}.")
    return command, notes


def _changes(results: Sequence[Result]) -> tuple[dict[str, Any], list[str]]:
    """Arguments that all runs had beside those of their variants, and the variants that this does not explain."""
    differences: dict[str, list[dict[str, Any] | None]] = {}
    for result in results:
        told = result["settings"]
        if told["name"] in VARIANTS:
            today, then = variant_on(told["name"], told["env"]).kwargs, told["variant"]["kwargs"]
            is_more = today.keys() <= then.keys()
            more = {key: value for key, value in then.items() if key not in today or today[key] != value}
            differences.setdefault(told["name"], []).append(more if is_more else None)
    every = list(chain.from_iterable(differences.values()))
    common = every[0] if every and every[0] is not None and all(each == every[0] for each in every) else {}
    return common, [name for name, found in differences.items() if any(each != common for each in found)]


def _made(results: Sequence[Result]) -> list[str]:
    """Sentences on commits and times, of the results that tell them."""
    made = [result["made"] for result in results if "made" in result]
    if not made:
        return []
    commits = dict.fromkeys(
        f"{each['commit'][:7]}{' with changes' if each['changed'] else ''}" for each in made if each["commit"] is not None
    )
    hours = {kind: sum(each[f"{kind}_seconds"] for each in made) / 3600 for kind in ("cpu", "wall")}
    of_which = "" if len(made) == len(results) else f" (the {len(made)} of {len(results)} that tell it)"
    texts = [f"The runs{of_which} took {hours['cpu']:.2f} hours of processor time and {hours['wall']:.2f} hours on the clock."]
    return texts + ([f"Made at commit {', '.join(commits)}."] if commits else [])

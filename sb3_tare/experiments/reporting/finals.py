"""The table of returns, at the end and over the whole run: as rows of a CSV, and for the page."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sb3_tare.experiments.reporting import page, statistics
from sb3_tare.experiments.reporting.scores import (
    Runs,
    evaluation_area,
    final_evaluation_return,
    final_training_return,
    training_area,
)
from sb3_tare.experiments.running.results import Result

EXPLANATION = (
    "Means over seeds, each over the last fifth of a run's steps, with 95 % bootstrap intervals: of the deterministic "
    "evaluations, and of the training episodes (a dash where, for some seed, none ended there). Over all: the same over the "
    "whole run, which is the area under its curve divided by its steps."
)

KINDS: Mapping[str, Callable[[Result], float]] = {
    "evaluation": final_evaluation_return,
    "training": final_training_return,
    "evaluation_area": evaluation_area,
    "training_area": training_area,
}
"""The number that each kind of column has of a run."""


def final_returns(runs: Runs) -> list[dict[str, Any]]:
    """A row for each environment and variant: mean, bounds and each seed's own, of each kind."""
    rows = []
    for env, by_name in runs.items():
        for name, results in by_name.items():
            row: dict[str, Any] = {"environment": env, "variant": name, "seeds": len(results)}
            for kind, number in KINDS.items():
                numbers = [number(result) for result in results]
                value, bounds = statistics.mean(np.array(numbers)[:, None])
                low, high = (None, None) if bounds is None else map(float, bounds[:, 0])
                row |= {kind: float(value[0]), f"{kind}_low": low, f"{kind}_high": high, f"{kind}_by_seed": numbers}
            rows.append(row)
    return rows


def readable(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table for the page."""

    def interval(kind: str) -> str | None:
        low, high = row[f"{kind}_low"], row[f"{kind}_high"]
        return None if low is None or low != low else f"{page.number(low)} to {page.number(high)}"

    return {
        "environment": row["environment"],
        "variant": row["variant"],
        "seeds": row["seeds"],
        "evaluation": row["evaluation"],
        "interval": interval("evaluation"),
        "by seed": ", ".join(map(page.number, row["evaluation_by_seed"])),
        "training": row["training"],
        "interval ": interval("training"),
        "evaluation over all": row["evaluation_area"],
        "training over all": row["training_area"],
    }


def as_csv(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """The rows as a file; seeds stand in one cell, separated by spaces."""
    text = io.StringIO()
    writer = csv.DictWriter(text, rows[0], lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({key: " ".join(map(str, value)) if isinstance(value, list) else value for key, value in row.items()})
    return text.getvalue().encode()

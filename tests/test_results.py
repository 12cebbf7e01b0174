"""Committed results: a folder's table is made from its runs, and its README says what the table says."""

import csv
import re
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from sb3_tare.experiments.reporting.finals import as_csv, final_returns
from sb3_tare.experiments.reporting.scores import sort_runs
from sb3_tare.experiments.running.results import read_all

RESULTS = Path(__file__).parents[1] / "examples/results"
STUDIES = sorted(path.parent for path in RESULTS.glob("*/table.csv"))
OTHERWISE = ("safety", "figure4")
"""Folders whose README tells returns in another form."""


def number(value: str) -> str:
    return f"{float(value):,.0f}"


def cell(row: dict[str, str], kind: str) -> set[str]:
    """How a README may tell a mean: with its interval, or seed by seed."""
    mean, low, high = (row[f"{kind}{bound}"] for bound in ("", "_low", "_high"))
    by_seed = ", ".join(map(number, row[f"{kind}_by_seed"].split()))
    return {by_seed} | ({f"{number(mean)} ({number(low)} to {number(high)})"} if low else set())


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "table.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("folder", STUDIES, ids=lambda folder: folder.name)
def test_a_table_is_that_of_the_runs_beside_it(folder):
    results, damaged = read_all(folder)
    assert not damaged
    assert as_csv(final_returns(sort_runs(list(results.values())))) == (folder / "table.csv").read_bytes()


@pytest.mark.parametrize("folder", [each for each in STUDIES if each.name not in OTHERWISE], ids=lambda folder: folder.name)
def test_a_readme_has_every_row_of_its_table(folder):
    told = re.findall(r"^\| (\S+) \| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", (folder / "README.md").read_text(), re.MULTILINE)
    found: dict[tuple[str, str], list[str]] = {}
    for env, variant, *cells in told:
        found.setdefault((env, variant), cells)  # the first: costs may stand in a table below
    for row in rows_of(folder):
        cells = found[row["environment"].removeprefix("sb3_tare/"), row["variant"]]
        for kind, said in zip(("training", "evaluation"), cells, strict=True):
            assert said in cell(row, kind), (row["environment"], row["variant"], kind)


def test_the_readme_of_safety_has_the_training_returns_of_its_table():
    columns = ("ppo", "tare_trial", "tare_trial_unguarded")
    rows = {(re.sub(r"^sb3_tare/|-v\d$", "", row["environment"]), row["variant"]): row for row in rows_of(RESULTS / "safety")}
    told = re.findall(
        r"^\| (\w+) \| [^|]+((?: \| -?\d[^|]*){3}) \|$", (RESULTS / "safety/README.md").read_text(), re.MULTILINE
    )
    assert {env for env, _ in told} == {env for env, _ in rows}
    for env, cells in told:
        for variant, said in zip(columns, cells.split(" | ")[1:], strict=True):
            row = rows[env, variant]
            for number, kind in zip(re.findall(r"-?\d+\.?\d*", said), ("", "_low", "_high"), strict=True):
                digits = len(number.partition(".")[2])
                assert float(number) == pytest.approx(float(row[f"training{kind}"]), abs=0.501 * 10**-digits), (env, variant)

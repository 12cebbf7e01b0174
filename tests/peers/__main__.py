"""Runs the tests of Stable-Baselines3 and sb3-contrib over this package's classes, and prints what became of them.

::

    python tests/peers                      # all runs, with source distributions that pip downloads
    python tests/peers --source FOLDER      # with those, or checkouts, that are in a folder
    python tests/peers TAREPPO LeanPPO      # some runs
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from runs import RUNS
from sources import tests_of

HERE = Path(__file__).parent
COLUMNS = ("passed", "deviates", "left out", "skipped", "failed", "not imported")
VERSIONS = ("stable_baselines3", "sb3_contrib", "torch", "gymnasium")

Results = dict[str, list[tuple[str, str]]]


def main() -> None:
    """Run what is asked for; exit with 1 where a test fails that is not expected to, or passes where one is."""
    parser = argparse.ArgumentParser(prog="python tests/peers", description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"one of: {', '.join(RUNS)}; all by default")
    parser.add_argument("--source", type=Path, help="folder with unpacked source distributions or checkouts of both packages")
    parser.add_argument("--log", action="store_true", help="print pytest's own output too")
    arguments = parser.parse_args()
    unknown = [name for name in arguments.runs if name not in RUNS]
    if unknown:
        parser.error(f"there is no run {unknown[0]!r}: choose from {', '.join(RUNS)}")
    with tempfile.TemporaryDirectory() as folder:
        names = arguments.runs or list(RUNS)
        tests = {package: tests_of(package, arguments.source, Path(folder)) for package in {RUNS[n].package for n in names}}
        results = {}
        for name in names:
            print(f"{name} ...", file=sys.stderr, flush=True)
            results[name] = run(name, tests[RUNS[name].package], Path(folder) / "results.json", arguments.log)
    print_table(results)
    sys.exit(any(found.get("failed") or found.get("not imported") for found in results.values()))


def run(name: str, tests: Path, to: Path, log: bool) -> Results:
    """What becomes of the tests in a folder, by run."""
    to.unlink(missing_ok=True)
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    options = ["-c", os.devnull, f"--rootdir={tests}", "-p", "no:cacheprovider", "-p", "replacing", "-q"]
    options += ["--continue-on-collection-errors", "-m", "not expensive", "."]
    environment = {**os.environ, "PYTHONPATH": path, "PEER_RUN": name, "PEER_RESULTS": str(to)}
    output = None if log else subprocess.DEVNULL
    subprocess.run([sys.executable, "-m", "pytest", *options], cwd=tests, env=environment, stdout=output, check=False)
    if not to.exists():
        raise SystemExit(f"the run {name} broke off: see its output with --log")
    return json.loads(to.read_text())


def print_table(results: dict[str, Results]) -> None:
    """Counts of each run, then each reason with the tests that it is about, as Markdown."""
    versions = ", ".join(f"{package} {version(package)}" for package in VERSIONS)
    print(f"Python {platform.python_version()}, {versions}\n")
    print(f"| run | in place of | {' | '.join(COLUMNS)} |")
    print(f"| --- | --- | {' | '.join('---:' for _ in COLUMNS)} |")
    for name, found in results.items():
        print(f"| {name} | `{RUNS[name].peer}` | {' | '.join(str(len(found.get(column, []))) for column in COLUMNS)} |")
    for column in ("deviates", "left out", "failed", "not imported"):
        lines: dict[tuple[str, str], list[str]] = {}
        for name, found in results.items():
            for test, reason in found.get(column, []):
                runs = lines.setdefault((test.partition("[")[0], reason), [])
                if name not in runs:
                    runs.append(name)
        if lines:
            print(f"\n{column.capitalize()}:\n")
        for (test, reason), runs in lines.items():
            print(f"- `{test}` ({'; '.join(runs)}): {reason}")


if __name__ == "__main__":
    main()

"""A pytest plugin that puts a class in a peer's place before its tests are collected, and keeps the tests that meet it.

The environment variables ``PEER_RUN`` and ``PEER_RESULTS`` name the run and the file for what became of each test.
"""

from __future__ import annotations

import importlib
import json
import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from runs import RUNS
from stable_baselines3.common.base_class import BaseAlgorithm

RUN = RUNS[os.environ["PEER_RUN"]]
setattr(importlib.import_module(RUN.package), RUN.peer, RUN.stand_in)

results: dict[str, list[tuple[str, str]]] = defaultdict(list)
"""Names of tests, and reasons, by what became of them"""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Function]) -> None:
    """Keep what meets the stand-in and is about it, and expect the deviations that are known."""
    kept = []
    for item in filter(_meets, items):
        reason = _reason(RUN.left_out, item)
        if reason is not None:
            results["left out"].append((_name(item), reason))
            continue
        kept.append(item)
        reason = _reason(RUN.deviations, item)
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True))
    config.hook.pytest_deselected(items=[item for item in items if item not in kept])
    items[:] = kept


def pytest_collectreport(report: pytest.CollectReport) -> None:
    """Note files that cannot be imported."""
    if report.failed:
        results["not imported"].append((report.nodeid, _message(report)))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Note what became of a test."""
    name = report.nodeid.replace(".py::", "::")
    if hasattr(report, "wasxfail") and report.skipped:
        results["deviates"].append((name, report.wasxfail))
    elif report.failed:
        results["failed"].append((name, _message(report)))
    elif report.skipped:
        results["skipped"].append((name, ""))
    elif report.when == "call":
        results["passed"].append((name, ""))


def pytest_sessionfinish() -> None:
    """Write what became of all tests."""
    Path(os.environ["PEER_RESULTS"]).write_text(json.dumps(results))


def _meets(item: pytest.Function) -> bool:
    """Whether a test is one of the stand-in: by its parameters, or where these name no algorithm, by what it names."""
    given = list(_algorithms(item.callspec.params.values())) if hasattr(item, "callspec") else []
    if given:
        return RUN.stand_in in given
    return any(item.function.__globals__.get(name) is RUN.stand_in for name in item.function.__code__.co_names)


def _algorithms(values: Iterable[Any]) -> Iterator[type]:
    """The algorithms among values, and in lists of them."""
    for value in values:
        if isinstance(value, type) and issubclass(value, BaseAlgorithm):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _algorithms(value)


def _name(item: pytest.Function) -> str:
    return f"{item.path.stem}::{item.name}"


def _reason(reasons: Mapping[str, str], item: pytest.Function) -> str | None:
    return next((reason for beginning, reason in reasons.items() if _name(item).startswith(beginning)), None)


def _message(report: pytest.TestReport | pytest.CollectReport) -> str:
    """The last line of an error's message, or of all that is known."""
    crash = getattr(report.longrepr, "reprcrash", None)
    return (crash.message if crash else str(report.longrepr)).strip().splitlines()[0]

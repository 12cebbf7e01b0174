"""The first hour of a new user: transcripts of what is typed and what is printed, replayed."""

import contextlib
import doctest
import io
import re
import runpy
import shlex
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import pytest

from sb3_tare.__main__ import COMMANDS, main

ROOT = Path(__file__).parents[1]
TRANSCRIPTS = sorted((ROOT / "tests/first_hour").glob("*.txt"))
ALIKE = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


class Entry(NamedTuple):
    """What was typed behind ``$`` or ``>>>``, and what was printed up to the next empty line."""

    line: int
    typed: str
    printed: str
    is_python: bool


def entries(transcript: Path) -> Iterator[Entry]:
    pattern = r"^(>>>|\$) (.*)\n((?:(?!>>> |\$ ).+(?:\n|\Z))*)"
    text = transcript.read_text()
    for found in re.finditer(pattern, text, flags=re.MULTILINE):
        line = text.count("\n", 0, found.start()) + 1
        yield Entry(line, found[2], found[3], found[1] == ">>>")


def run_python(typed: str, names: dict[str, Any]) -> None:
    """Print what an interactive Python prints; a traceback by its first and last line."""
    try:
        exec(compile(typed.replace("100_000", "250"), "<first hour>", "single"), names)
    except Exception as error:
        print("Traceback (most recent call last):\n    ...\n" + "".join(traceback.format_exception_only(error)))


def run_command(typed: str) -> None:
    """Run a command in this process, where it prints the same and is imported already."""
    program, *arguments = shlex.split(typed)
    try:
        if program == "ls":
            print("\n".join(sorted(path.name for path in Path().iterdir())))
        elif program == "sb3-tare":
            main(arguments)
        else:
            assert program == "python"
            sys.argv = arguments
            runpy.run_path(str(ROOT / arguments[0]), run_name="__main__")
    except SystemExit as stopped:
        if isinstance(stopped.code, str):
            print(stopped.code)


@pytest.mark.parametrize("transcript", TRANSCRIPTS, ids=lambda path: path.stem)
def test_what_is_typed_prints_what_the_transcript_says(transcript, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr(sys, "argv", ["python"])
    plt.switch_backend("agg")
    names: dict[str, Any] = {}
    checker = doctest.OutputChecker()
    for entry in entries(transcript):
        with contextlib.redirect_stdout(io.StringIO()) as printed, contextlib.redirect_stderr(printed):
            run_python(entry.typed, names) if entry.is_python else run_command(entry.typed)
        is_alike = checker.check_output(entry.printed, printed.getvalue(), ALIKE)
        wanted = doctest.Example(entry.typed, entry.printed)
        difference = checker.output_difference(wanted, printed.getvalue(), ALIKE)
        assert is_alike, f"{transcript.name}, line {entry.line}: {entry.typed}\n{difference}"
    plt.close("all")


def typed_in(transcripts: list[Path]) -> list[str]:
    return [entry.typed for transcript in transcripts for entry in entries(transcript)]


def test_the_readmes_programs_and_commands_are_typed():
    readme, typed = (ROOT / "README.md").read_text(), typed_in(TRANSCRIPTS)
    programs = "\n".join(re.findall(r"```python\n(.*?)```", readme, flags=re.DOTALL))
    commands = [line for block in re.findall(r"```bash\n(.*?)```", readme, flags=re.DOTALL) for line in block.splitlines()]
    assert len(programs) > 500
    assert len(commands) == 3
    assert {line for line in programs.splitlines() if line} <= set(typed)
    for command in commands:
        *_, last = command.split(" && ")
        if "pytest" not in last:
            assert any(each.startswith(last.removeprefix(".venv/bin/")) for each in typed), last


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_typed(command):
    assert any(each.startswith(f"sb3-tare {command} ") for each in typed_in(TRANSCRIPTS))

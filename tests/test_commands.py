"""``sb3-tare``: the package's commands by one name."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from sb3_tare.__main__ import COMMANDS, main

# Where the packages of all extras are found to be missing, as after "pip install sb3-tare"
BARE = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("rl_zoo3", "optuna", "matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
from sb3_tare.__main__ import main
raise SystemExit(main(sys.argv[1:]))
"""


def exit_code(*arguments: str) -> Any:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    return stopped.value.code


def bare(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", BARE, *arguments], capture_output=True, text=True, cwd=cwd, check=False)


def test_help_lists_every_command(capsys):
    assert exit_code("--help") == 0
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command, capsys):
    assert exit_code(command, "--help") == 0
    assert "usage" in capsys.readouterr().out


def test_an_unknown_command_lists_those_that_exist(capsys):
    assert exit_code("trian") == 2
    assert "invalid choice: 'trian' (choose from" in capsys.readouterr().err
    assert exit_code() == 2
    assert "required: command" in capsys.readouterr().err


def test_experiments_are_those_of_their_own_command(capsys):
    assert main(["experiments", "list"]) == 0
    assert "episodic" in capsys.readouterr().out
    assert exit_code("report", "no_such_folder") == 2
    assert "no_such_folder" in capsys.readouterr().err


@pytest.mark.parametrize(("command", "extra"), [("train", "zoo"), ("plot", "zoo")])
def test_a_missing_extra_is_one_sentence(command, extra, tmp_path):
    run = bare(command, "--algo", "tare_ppo", cwd=tmp_path)
    assert run.returncode == 1
    (sentence,) = run.stderr.strip().splitlines()[-1:]
    assert sentence.startswith(f"sb3-tare {command}: error: this needs the package rl_zoo3: pip install '")
    assert sentence.endswith(f"[{extra}]'")


def test_what_needs_no_extra_runs_without_any(tmp_path):
    run = bare("experiments", "list", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "figure6" in run.stdout

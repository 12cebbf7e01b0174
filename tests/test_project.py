"""What the project promises about itself: layers, README, wheel, examples, studies."""

import ast
import csv
import dataclasses
import json
import os
import re
import subprocess
import sys
import typing
import zipfile
from pathlib import Path

import pytest

from sb3_tare import RewardKwargs, RewardSettings
from sb3_tare.algorithms.lirpg import LIRPGKwargs, LIRPGSettings
from sb3_tare.algorithms.memory_settings import MemoryKwargs, MemorySettings
from sb3_tare.experiments.benchmarks import awr_speed, growth

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sb3_tare"


def test_the_settings_readme_lists_every_one_with_its_default():
    text = (PACKAGE / "settings/README.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| `(.+?)` \|", text, flags=re.MULTILINE)
    documented = {name: ast.literal_eval(default) for name, default in rows}
    assert documented == RewardSettings().flat()


def table_of(study: str) -> list[dict[str, str]]:
    """Rows of a study's table; tasks without this package's name."""
    with (ROOT / f"examples/results/{study}/table.csv").open(newline="") as file:
        return [row | {"environment": row["environment"].removeprefix("sb3_tare/")} for row in csv.DictReader(file)]


def final_returns(study: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Training and evaluation returns of ``study`` with their intervals, by task and variant, as documents write them."""

    def told(row: dict[str, str], kind: str) -> str:
        mean, low, high = (float(row[f"{kind}{bound}"]) for bound in ("", "_low", "_high"))
        return f"{mean:,.0f} ({low:,.0f} to {high:,.0f})"

    rows = table_of(study)
    assert {int(row["seeds"]) for row in rows} == {3}
    return {(row["environment"], row["variant"]): (told(row, "training"), told(row, "evaluation")) for row in rows}


@pytest.mark.parametrize("study", ["figure6", "delayed", "episodic", "small"])
def test_a_studys_returns_are_those_of_its_results(study):
    readme = (ROOT / f"examples/results/{study}/README.md").read_text()
    for (task, variant), (training, evaluation) in final_returns(study).items():
        assert f"| {task} | `{variant}` | {training} | {evaluation} |" in readme


def test_the_readme_says_whether_it_helps_with_every_task_of_each_study():
    row = r"^\| \[`(\w+)`\]\(\S+\) \| (\S+) \| (.+?) \| `(\w+)` \| (.+?) \|$"
    told = re.findall(row, (ROOT / "README.md").read_text(), flags=re.MULTILINE)
    for study, variants in {"episodic": {"tare_decomposed"}, "noisy": {"tare_decomposed"}, "figure6": {"tare_paper"}}.items():
        tasks = {task for task, _ in final_returns(study)}
        expected = {(task, variant) for task in tasks for variant in variants}
        assert {(task, variant) for name, task, _, variant, _ in told if name == study} == expected
    for study, task, ppo, variant, learned in told:
        returns = final_returns(study)
        assert (ppo, learned) == (returns[task, "ppo"][0], returns[task, variant][0]), (task, variant)


MILLION = {
    "PPO, each step paid": ("dense_million", "", "ppo"),
    "TAREPPO, each step paid": ("dense_million", "", "tare_decomposed"),
    "TAREPPO, paid at the end": ("episodic_million", "Episodic", "tare_decomposed"),
}
SAC_ALONE_AND_NOT = {
    "SAC, each step paid": ("off_policy", "", "sac"),
    "SAC, paid at the end": ("off_policy", "Episodic", "sac"),
    "the same with the callback": ("off_policy", "Episodic", "sac_decomposed"),
}
"""Columns of the README's tables: study, what stands before a task's name in it, and variant."""


def returns_by_seed(study: str, kind: str = "training") -> dict[tuple[str, str], str]:
    """Returns of each seed of ``study``, by task and variant, as documents write them."""
    return {
        (row["environment"], row["variant"]): ", ".join(f"{float(each):,.0f}" for each in row[f"{kind}_by_seed"].split())
        for row in table_of(study)
    }


@pytest.mark.parametrize("study", ["dense_million", "episodic_million", "off_policy"])
def test_a_studys_returns_are_those_of_its_seeds(study):
    training, evaluation = returns_by_seed(study), returns_by_seed(study, "evaluation")
    rows = [f"| {task} | `{name}` | {training[task, name]} | {evaluation[task, name]} |" for task, name in training]
    readme = (ROOT / f"examples/results/{study}/README.md").read_text()
    assert [line for line in readme.splitlines() if line.startswith("| ") and "`" in line] == rows


@pytest.mark.parametrize("columns", [MILLION, SAC_ALONE_AND_NOT], ids=["PPO", "SAC"])
def test_the_readme_says_seed_by_seed_what_each_task_returned(columns):
    readme = (ROOT / "README.md").read_text()
    head = f"| task | {' | '.join(columns)} |\n{'| --- ' * (len(columns) + 1)}|\n"
    table = readme.partition(head)[2].partition("\n\n")[0]
    returns = {study: returns_by_seed(study) for study, _, _ in columns.values()}
    tasks = {task.removeprefix("Episodic") for found in returns.values() for task, _ in found}
    cells = {
        task: [returns[study].get((before + task, name), "not run") for study, before, name in columns.values()]
        for task in tasks
    }
    assert sorted(table.splitlines()) == sorted(f"| {task} | {' | '.join(cells[task])} |" for task in tasks)


def test_the_readme_says_on_how_many_small_tasks_the_guard_held():
    rows = {(row["environment"], row["variant"]): row for row in table_of("safety")}

    def returns(task: str, variant: str) -> list[float]:
        return [float(each) for each in rows[task, variant]["training_by_seed"].split()]

    tasks = {task for task, _ in rows}
    behind = [task for task in tasks if max(returns(task, "tare_trial")) < min(returns(task, "ppo"))]
    assert (len(tasks), len(behind)) == (10, 2)
    readme = " ".join((ROOT / "README.md").read_text().split())
    assert "on [ten small tasks](examples/results/safety)" in readme
    assert "its guard kept it level with PPO on eight, and on two it fell behind" in readme


def test_what_is_said_of_the_chain_is_what_its_results_say():
    ppo, tare = ([f"{float(row[f'training{bound}']):.2f}" for bound in ("", "_low", "_high")] for row in table_of("figure4"))
    readme = " ".join((ROOT / "examples/results/figure4/README.md").read_text().split())
    assert "return {} ({} to {})".format(*ppo) in readme
    assert "in the paper's setting {} ({} to {}).".format(*tare) in readme
    files = list((ROOT / "examples/results/figure4").glob("*tare_paper*.json"))
    assert len(files) == 5
    for file in files:
        left, right = json.loads(file.read_text())["measured"][-1]["learned"]
        assert sum(right) / len(right) > sum(left) / len(left)


GROUPS = sorted(
    {*RewardSettings.groups.values(), *MemorySettings.groups.values(), *LIRPGSettings.groups.values()},
    key=lambda group: group.__name__,
)


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.__name__)
def test_every_setting_is_explained_in_its_groups_docstring(group):
    assert re.findall(r":param (\w+):", group.__doc__ or "") == [field.name for field in dataclasses.fields(group)]


@pytest.mark.parametrize(
    ("settings", "kwargs"),
    [(RewardSettings, RewardKwargs), (MemorySettings, MemoryKwargs), (LIRPGSettings, LIRPGKwargs)],
    ids=lambda each: each.__name__,
)
def test_the_typed_keywords_are_the_settings(settings, kwargs):
    assert set(kwargs.__annotations__) == set(settings().flat())
    for group in settings.groups.values():
        for field in dataclasses.fields(group):
            typed = str(typing.get_type_hints(kwargs)[field.name])
            assert str(typing.get_type_hints(group)[field.name]) == typed or "Literal" in typed


def run(*command: str, cwd: Path) -> str:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}  # threads that wait for one another starve on a busy machine
    result = subprocess.run([sys.executable, *command], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_the_wheel_holds_the_package_and_works_away_from_the_repository(tmp_path):
    run("-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "sb3_tare/py.typed" in names
    assert {f"sb3_tare/{path.relative_to(PACKAGE)}" for path in PACKAGE.rglob("*.py")} <= set(names)
    assert {f"sb3_tare/hyperparams/{path.name}" for path in (ROOT / "hyperparams").iterdir()} <= set(names)
    assert not [name for name in names if name.startswith(("tests", "examples", "hyperparams"))]
    run("-m", "pip", "install", "--quiet", "--no-deps", "--target", str(tmp_path / "site"), str(wheel), cwd=tmp_path)
    script = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "import sb3_tare; print(sb3_tare.__file__)\n"
        "sb3_tare.TAREPPO('MlpPolicy', 'CartPole-v1', n_steps=64, device='cpu').learn(64)\n"
        "sys.argv[1:] = ['hyperparams', '--algo', 'tare_ppo']; from sb3_tare.zoo import main; main()"
    )
    package = tmp_path / "site" / "sb3_tare"
    assert run("-c", script, cwd=tmp_path).split() == [str(package / "__init__.py"), str(package / "hyperparams/tare_ppo.yml")]


def test_an_episode_is_inspected_and_drawn(tmp_path):
    picture = tmp_path / "episode.png"
    output = run(str(ROOT / "examples/inspect_learned_reward.py"), "--steps", "2048", "--plot", str(picture), cwd=tmp_path)
    assert re.search(r"rewards of steps +undistorted +\d+ +-?\d\.\d+", output)
    assert picture.stat().st_size > 1000


PROGRAMS = {
    str(path.relative_to(ROOT)): programs
    for path in sorted((*PACKAGE.rglob("*.md"), *(ROOT / "examples").rglob("*.md")))  # README.md: test_first_hour.py
    if (programs := re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.DOTALL))
}


@pytest.mark.parametrize("document", PROGRAMS)
def test_a_documents_programs_run_and_print_something(document, tmp_path):
    for program in PROGRAMS[document]:
        assert run("-c", program.replace("100_000", "2048"), cwd=tmp_path).strip(), program


def test_the_programs_of_the_rooms_are_among_them():
    assert {f"sb3_tare/{room}/README.md" for room in ("algorithms", "awr", "learning", "rewards")} <= set(PROGRAMS)


@pytest.mark.parametrize("example", ["awr.py", "callback_in_existing_project.py", "own_reward_network.py"])
def test_the_other_examples_run(example, tmp_path):
    assert "time/" in run(str(ROOT / "examples" / example), "--steps", "2048", cwd=tmp_path)


def test_the_notebook_runs_and_shows_what_it_printed(tmp_path):
    cells = [
        each for each in json.loads((ROOT / "examples/late_reward.ipynb").read_text())["cells"] if each["cell_type"] == "code"
    ]
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    assert all(cell["outputs"] for cell in cells[1:])
    program = "\n".join("".join(cell["source"]) for cell in cells)
    assert "STEPS = 50_000" in program
    output = run("-c", program.replace("50_000", "2048"), cwd=tmp_path)
    assert re.search(r"TAREPPO: the last 20 episodes returned \d+ on average", output)


def test_sac_tells_what_it_has_learned(tmp_path):
    output = run(str(ROOT / "examples/sac_episodic.py"), "--steps", "420", cwd=tmp_path)
    assert len(re.findall(r"degrees from upright: +-?\d+\.\d+ learned", output)) == 7
    assert "SAC with the callback: -" in output


def test_the_callbacks_cost_beside_sac_is_measured_in_turns(tmp_path):
    out = tmp_path / "off_policy.json"
    small = ("--envs", "Pendulum-v1", "--rounds", "1", "--warm-up", "0", "--steps", "210", "--out", str(out))
    run("-m", "sb3_tare.experiments.benchmarks.off_policy", *small, cwd=tmp_path)
    (row,) = json.loads(out.read_text())["off_policy"]
    assert all(seconds > 0 for seconds in row["seconds_per_step"].values())
    assert row["ratio"]["lower"] <= row["ratio"]["median"] <= row["ratio"]["upper"]


def test_the_speed_study_lets_algorithms_take_turns(tmp_path):
    out = tmp_path / "speed.json"
    command = ("-m", "sb3_tare.experiments", "speed", "--envs", "Pendulum-v1", "--rounds", "1", "--warm-up", "0")
    assert "LeanPPO" in run(*command, "--out", str(out), cwd=tmp_path)
    (comparison,) = json.loads(out.read_text())["algorithms"]
    assert all(seconds > 0 for seconds in comparison["seconds_per_step"]["TAREPPO"].values())
    assert comparison["seconds_per_step"]["PPO"]["reward"] == 0
    assert comparison["ratios"].keys() == comparison["seconds_per_step"].keys() - {"PPO"}


def test_the_growth_of_ratios_is_measured_and_drawn(tmp_path, monkeypatch):
    point = growth.Point(env="Pendulum-v1", n_envs=2, n_steps=64, horizon=20, width=8, action_dim=3)
    monkeypatch.setitem(growth.AXES, "environments", {2: point, 3: point, 4: growth.Point("images", 2, 64, pixels=36)})
    growth.main(["--axes", "environments", "--rounds", "1", "--warm-up", "0", "--out", str(tmp_path / "growth.json")])
    by_value = json.loads((tmp_path / "growth.json").read_text())["axes"]["environments"]
    assert by_value["2"] == by_value["3"]
    assert by_value["2"]["point"] == point._asdict()
    assert {"LeanPPO", "TAREPPO", "TAREPPO, implicit"} <= by_value["2"]["ratios"].keys()
    assert "<svg" in (tmp_path / "growth.svg").read_text()


def test_reward_gradients_are_timed_each_in_a_process_of_its_own(tmp_path):
    out = tmp_path / "gradients.json"
    command = ("-m", "sb3_tare.experiments.benchmarks.reward_gradients", "--env", "Pendulum-v1", "--inner-steps", "1")
    run(*command, "--repetitions", "1", "--out", str(out), cwd=tmp_path)
    gradients = json.loads(out.read_text())["gradients"]
    assert set(gradients) == {"implicit", "unrolled, 1 steps"}
    assert all(measured["seconds"] > 0 for measured in gradients.values())


def test_the_study_of_awrs_speed_lets_plain_and_lean_take_turns(tmp_path):
    out = tmp_path / "speed.json"
    awr_speed.main(["--envs", "Pendulum-v1", "--rounds", "1", "--warm-up", "0", "--buffer-size", "2048", "--out", str(out)])
    (comparison,) = json.loads(out.read_text())["comparisons"]
    seconds = comparison["seconds_per_iteration"]
    assert list(seconds) == ["AWR, plain", "AWR", "TAREAWR, plain", "TAREAWR"]
    assert all(
        phases[phase] > 0 for phases in seconds.values() for phase in ("collection", "returns", "critic", "actor", "cpu")
    )
    assert set(comparison["ratios"]) == {"AWR", "TAREAWR"}
    assert all(ratio["median"] > 0 for ratios in comparison["ratios"].values() for ratio in ratios.values())

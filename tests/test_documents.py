"""What the project's documents name is there: commands, files, modules, versions."""

import json
import os
import re
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest
import yaml

import sb3_tare
from sb3_tare.experiments import studies, variants

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "sb3_tare"
RESULTS = ROOT / "examples/results"
DOCUMENTS = [path.relative_to(ROOT) for path in (*ROOT.glob("*.md"), *RESULTS.rglob("*.md"), *PACKAGE.rglob("*.md"))]


@pytest.mark.parametrize("folder", sorted(path.name for path in RESULTS.iterdir() if path.is_dir()))
def test_each_folder_of_results_tells_a_command_that_exists_and_a_commit(folder):
    text = (RESULTS / folder / "README.md").read_text()
    assert f"[`{folder}`]({folder})" in (RESULTS / "README.md").read_text()
    commands = re.findall(r"^python -m (sb3_tare[\w.]+)", text, flags=re.MULTILINE)
    assert [command for command in commands if find_spec(command) is not None]
    assert re.search(r"`[0-9a-f]{7}`", text)
    assert "What it shows" in text


@pytest.mark.parametrize("document", sorted(DOCUMENTS), ids=str)
def test_relative_links_lead_to_files(document):
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / document).read_text())
    assert not [link for link in links if not (ROOT / document).parent.joinpath(link).exists()]


def test_the_readme_is_read_in_a_minute():
    prose = re.sub(r"^```.*?^```$|^\|.*?$", "", (ROOT / "README.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    assert len(prose.split()) <= 900


def test_what_contributing_names_is_there():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    paths = re.findall(r"`((?:sb3_tare|tests|examples|hyperparams|\.ci)/[\w./]*|[\w.-]+\.(?:md|txt|toml))`", text)
    assert len(set(paths)) > 20
    assert not [path for path in paths if not (ROOT / path).exists()]
    for target in re.findall(r"^make ([\w-]+)", text, flags=re.MULTILINE):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    for name, module in {"STUDIES": studies, "VARIANTS": variants}.items():
        assert f"`{name}` of `{module.__name__.replace('.', '/')}.py`" in " ".join(text.split())
        assert hasattr(module, name)


def test_the_version_is_the_changelogs_and_the_citations():
    assert f"## {sb3_tare.__version__}" in (ROOT / "CHANGELOG.md").read_text()
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == sb3_tare.__version__
    assert (citation["title"], citation["license"]) == (project["name"], project["license"])


def test_the_modules_that_the_changelog_sends_to_are_there():
    moves = re.findall(r"^ +\| `([\w.]+)` \| `([\w.]+)` \|$", (ROOT / "CHANGELOG.md").read_text(), flags=re.MULTILINE)
    assert len(moves) > 20
    assert not [now for _, now in moves if find_spec(now) is None]


def test_hooks_and_continuous_integration_check_what_make_check_does():
    (hooks,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    targets = (ROOT / "Makefile").read_text()
    for hook in hooks["hooks"]:
        assert f"\t{hook['entry'].removesuffix(' --force-exclude')}" in targets
    (job,) = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"].values()
    assert ".ci/run" in [step.get("run") for step in job["steps"]]
    assert os.access(ROOT / ".ci/run", os.X_OK)


@pytest.mark.slow
def test_every_module_has_a_page_of_documentation(tmp_path):
    pytest.importorskip("pdoc")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(["make", "docs", f"API={tmp_path}"], cwd=ROOT, env={**os.environ, "PATH": path}, check=True)
    for path in PACKAGE.rglob("*.py"):
        module = path.relative_to(ROOT).with_suffix("")
        module = module.parent if module.name == "__init__" else module
        if module.name != "__main__":
            assert f"<title>{'.'.join(module.parts)} " in (tmp_path / f"{module}.html").read_text()


FOLDERS = sorted(str(path.parent.relative_to(PACKAGE)) for path in PACKAGE.glob("*/**/__init__.py"))
TOLD_MODULE_BY_MODULE = [name for name in FOLDERS if name.startswith(("analysis", "envs", "experiments", "zoo"))]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_tells_where_to_start(folder):
    text = (PACKAGE / folder / "README.md").read_text()
    (start,) = re.findall(r"Start with `(\w+)\.py`", text)
    assert (PACKAGE / folder / f"{start}.py").exists()
    if len(Path(folder).parts) > 1:
        assert len(text.splitlines()) <= 10


@pytest.mark.parametrize("folder", TOLD_MODULE_BY_MODULE)
def test_a_folder_tells_of_each_of_its_modules(folder):
    text = (PACKAGE / folder / "README.md").read_text()
    modules = {path.stem for path in (PACKAGE / folder).glob("*.py")} - {"__init__", "__main__"}
    assert not [module for module in sorted(modules) if f"`{module}`" not in text]


def test_what_is_said_of_speed_is_what_was_measured():
    text = (RESULTS / "speed/README.md").read_text()
    for comparison in json.loads((RESULTS / "speed/speed.json").read_text())["algorithms"]:
        for name, seconds in comparison["seconds_per_step"].items():
            cells = [f"{seconds[kind] * 1e6:.0f}" for kind in ("rollout", "policy", "reward", "cpu")]
            ratio = comparison["ratios"].get(name, {}).get("cpu")
            told = "" if ratio is None else "{median:.2f} ({lower:.2f} to {upper:.2f})".format(**ratio)
            assert f"| {' | '.join([comparison['env'], name, *cells, told])} |" in text
    for name, measured in json.loads((RESULTS / "speed/reward_gradients.json").read_text())["gradients"].items():
        assert f"| {name} | {measured['seconds'] * 1e3:.0f} | {measured['peak_mebibytes']:.0f} |" in text


def test_what_is_said_of_images_and_short_rollouts_is_what_was_measured():
    text, measured = (RESULTS / "speed/README.md").read_text(), json.loads((RESULTS / "speed/bounds.json").read_text())
    for comparison in measured["cases"]:
        for row in comparison["algorithms"]:
            told = f"{row['ratio']:.2f} ({row['lower']:.2f} to {row['upper']:.2f})"
            cells = [comparison["case"], row["algorithm"], f"{row['seconds_per_step'] * 1e6:.0f}", told]
            assert f"| {' | '.join(cells)} |" in text
    for name, peak in measured["peak_mebibytes"].items():
        assert f"| {name} | {peak:.0f} |" in text


def test_what_is_said_of_awrs_speed_is_what_was_measured():
    text = (RESULTS / "awr_speed/README.md").read_text()
    for comparison in json.loads((RESULTS / "awr_speed/awr_speed.json").read_text())["comparisons"]:
        for name, seconds in comparison["seconds_per_iteration"].items():
            cells = [f"{seconds[kind]:.2f}" for kind in ("collection", "returns", "critic", "actor", "other", "cpu")]
            ratio = comparison["ratios"].get(name, {}).get("cpu")
            told = "" if ratio is None else "{median:.2f} ({lower:.2f} to {upper:.2f})".format(**ratio)
            assert f"| {' | '.join([comparison['env'], name, *cells, told])} |" in text

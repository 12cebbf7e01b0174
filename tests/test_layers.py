"""The layers of the package, as its folders' READMEs tell them, hold for every module."""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sb3_tare

PACKAGE = Path(sb3_tare.__file__).parent
ROOMS = {folder.name for folder in PACKAGE.iterdir() if (folder / "__init__.py").exists()}
MODULES = sorted(str(path.relative_to(PACKAGE).with_suffix("")) for path in PACKAGE.rglob("*.py"))
TENSORS_ONLY = ("advantages", "policy", "hypergradient", "networks")
"""Rooms that know tensors and not the algorithms of Stable-Baselines3."""


def room_of(module: str) -> str:
    """Of ``data/episodes`` as of ``data.episodes``, the room ``data``."""
    return re.split(r"[/.]", module)[0]


def imports(module: str) -> set[str]:
    """What a module imports, by full names; names of this package's root are ``sb3_tare``."""
    found: set[str] = set()
    for node in ast.walk(ast.parse((PACKAGE / f"{module}.py").read_text())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def own_imports(module: str) -> set[str]:
    """Modules of this package that another room's module imports; ``public`` for the package itself."""
    names = {name for name in imports(module) if name.split(".")[0] == "sb3_tare"}
    inside = {name.removeprefix("sb3_tare").lstrip(".") or "public" for name in names}
    return {name for name in inside if room_of(name) != room_of(module)}


@cache
def readme_of(room: str) -> str:
    return (PACKAGE / room / "README.md").read_text()


def may_import(room: str) -> set[str]:
    """Rooms, or ``public``, that the README of ``room`` allows."""
    (sentence,) = re.findall(r"^May import: (.*?)\.$", readme_of(room), flags=re.MULTILINE)
    rooms = set(re.findall(r"`([\w.]+)`", sentence))
    assert rooms <= ROOMS
    return rooms | ({"public"} if "the public names" in sentence else set())


def exceptions(room: str) -> set[str]:
    """Modules that the README of ``room`` names as used from inside, each with a reason."""
    return set(re.findall(r"^- `([\w.]+)`: .{10,}$", readme_of(room).partition("From inside:")[2], flags=re.MULTILINE))


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_a_room_has_a_readme_of_a_screen_and_a_line_in_the_packages(room):
    text = readme_of(room)
    assert text.startswith(f"# {room}\n")
    room_itself, _, _ = text.partition("\n## ")  # a guide for its users may follow
    assert len(room_itself.splitlines()) <= 45
    assert "Start with" in room_itself
    assert f"| `{room}` |" in readme_of("")


@pytest.mark.parametrize("module", [module for module in MODULES if module not in ("__init__", "__main__")])
def test_a_module_imports_what_its_room_may(module):
    room = room_of(module)
    for name in own_imports(module):
        assert room_of(name) in may_import(room) or name in exceptions(room), f"{module} imports {name}"


def test_no_room_imports_one_that_imports_it():
    tuple(TopologicalSorter({room: may_import(room) - {"public"} for room in ROOMS}).static_order())


@pytest.mark.parametrize("room", sorted(ROOMS))
def test_nothing_is_allowed_that_no_module_needs(room):
    used = {name for module in MODULES if room_of(module) == room for name in own_imports(module)}
    assert exceptions(room) <= used
    assert may_import(room) <= {room_of(name) for name in used}


@pytest.mark.parametrize("module", [module for module in MODULES if room_of(module) in TENSORS_ONLY])
def test_the_mathematics_knows_tensors_and_not_stable_baselines(module):
    assert not [name for name in imports(module) if name.startswith(("stable_baselines3", "sb3_contrib", "gymnasium"))]


def test_only_one_folder_knows_rl_zoo3():
    knowing = [module for module in MODULES if any(name.startswith("rl_zoo3") for name in imports(module))]
    assert {room_of(module) for module in knowing} == {"zoo"}

"""Public docstrings say what a caller has to know: shapes, units, errors."""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import sb3_tare

PACKAGE = Path(sb3_tare.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
NO_BEGINNINGS = ("Of", "What", "As", "Where", "Which", "Whose")
"""A docstring begins with a noun or an imperative."""
ARRAYS = ("Tensor", "ndarray", "NDArray")
SHAPES = ("``[", "scalar", "``(")
"""One of these tells a shape."""


class Documented(NamedTuple):
    """A public function or class, the docstrings that speak of it, and where it stands."""

    name: str
    node: ast.FunctionDef | ast.ClassDef
    texts: list[str]


def documented(module: Path) -> Iterator[Documented]:
    """Public functions, classes and methods; a constructor is spoken of by its class."""
    tree = ast.parse(module.read_text())
    name = module.relative_to(PACKAGE).with_suffix("")
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and not node.name.startswith("_"):
            text = ast.get_docstring(node) or ""
            yield Documented(f"{name}:{node.name}", node, [text])
            for method in node.body if isinstance(node, ast.ClassDef) else ():
                if isinstance(method, ast.FunctionDef):
                    own = ast.get_docstring(method) or ""
                    if method.name in ("__init__", "__post_init__"):
                        yield Documented(f"{name}:{node.name}.{method.name}", method, [text, own])
                    elif not method.name.startswith("_"):
                        yield Documented(f"{name}:{node.name}.{method.name}", method, [own])


ALL = [each for module in MODULES for each in documented(module)]
FUNCTIONS = [each for each in ALL if isinstance(each.node, ast.FunctionDef)]


def named(each: Documented) -> str:
    return each.name


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_docstring_begins_with_a_noun_or_an_imperative(module):
    for node in ast.walk(ast.parse(module.read_text())):
        if isinstance(node, (ast.Module, ast.FunctionDef, ast.ClassDef)):
            words = (ast.get_docstring(node) or "").split()
            assert not words or words[0].strip(",") not in NO_BEGINNINGS, f"{getattr(node, 'name', 'module')}: {words[:6]}"


def raised(function: ast.FunctionDef) -> set[str]:
    """Names of the exceptions that a function raises itself; not those of functions inside it."""
    found: set[str] = set()
    nodes: list[ast.AST] = list(function.body)
    while nodes:
        node = nodes.pop()
        if isinstance(node, (ast.FunctionDef, ast.Lambda)):
            continue
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call) and isinstance(node.exc.func, ast.Name):
            found.add(node.exc.func.id)
        nodes.extend(ast.iter_child_nodes(node))
    return {name for name in found if name[0].isupper()}


@pytest.mark.parametrize("each", [each for each in FUNCTIONS if raised(each.node)], ids=named)
def test_what_a_function_raises_is_in_its_docstring(each):
    for name in raised(each.node):
        assert any(f":raises {name}:" in text for text in each.texts), name


def array_arguments(function: ast.FunctionDef) -> list[str]:
    """Parameters that are arrays by their annotation, not dictionaries or functions of arrays; ``return`` if that is one."""
    arguments = [*function.args.args, *function.args.kwonlyargs]
    annotations = {argument.arg: argument.annotation for argument in arguments} | {"return": function.returns}
    return [
        name
        for name, annotation in annotations.items()
        if annotation is not None and ast.unparse(annotation).split("[")[0].split(" | ")[0].split(".")[-1] in ARRAYS
    ]


@pytest.mark.parametrize(
    "each", [each for each in FUNCTIONS if array_arguments(each.node) and each.node.name != "forward"], ids=named
)
def test_the_docstring_of_a_function_of_arrays_gives_shapes(each):
    assert any(shape in text for text in each.texts for shape in SHAPES), array_arguments(each.node)


def array_fields(node: ast.ClassDef) -> list[str]:
    return [
        field.target.id
        for field in node.body
        if isinstance(field, ast.AnnAssign)
        and isinstance(field.target, ast.Name)
        and ast.unparse(field.annotation).split(" | ")[0] in ("Tensor", "np.ndarray")
    ]


CLASSES = [each for each in ALL if isinstance(each.node, ast.ClassDef) and array_fields(each.node)]


@pytest.mark.parametrize("each", CLASSES, ids=named)
def test_the_fields_of_a_class_of_arrays_have_shapes(each):
    source = ast.unparse(each.node)
    assert source.count("[") - source.count("Callable[") >= len(array_fields(each.node))
    assert any(shape in source for shape in SHAPES)

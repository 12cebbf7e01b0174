"""Names of arguments that a class does not take, refused with the one that may be meant."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping
from inspect import Parameter


def accepted_arguments(owner: type) -> list[str]:
    """Names of keyword arguments that the initialisers of ``owner`` and of its bases take, as they pass them on."""
    names: dict[str, None] = {}
    for base in owner.__mro__:
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]  # type: ignore[misc]  # of the class itself
        names.update(dict.fromkeys(each.name for each in parameters if each.kind in _NAMED))
        if not any(each.kind is Parameter.VAR_KEYWORD and each.annotation != "Never" for each in parameters):
            break
    return list(names)


_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


def unknown_argument(owner: type, name: str, replaced: Mapping[str, str]) -> TypeError:
    """The error of an argument that ``owner`` does not take.

    :param replaced: what takes the place of arguments that similar classes have, by their names
    """
    if name in replaced:
        return TypeError(f"{owner.__name__} has no argument {name!r}: {replaced[name]}")
    accepted = [each for each in accepted_arguments(owner) if not each.startswith("_")]
    close = difflib.get_close_matches(name, accepted, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"it takes {', '.join(accepted)}"
    return TypeError(f"{owner.__name__} has no argument {name!r}; {hint}")

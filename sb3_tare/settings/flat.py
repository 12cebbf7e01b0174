"""Settings that are made of groups and named by flat keywords, as yaml and keyword arguments have them."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, ClassVar

from sb3_tare.settings.older import REMOVED
from sb3_tare.utils.checks import check_choice, check_count
from sb3_tare.utils.words import shortened


class FlatSettings:
    """Groups of settings, each an attribute, made from keyword arguments that are the names of the groups' fields.

    :param seed: of the reward's initial weights, splits and shuffles; None takes the model's
    :param preset: name of values that stand where the keywords say nothing else; left out, ``default_preset``
    :raises TypeError: for an unknown name
    :raises ValueError: for a value out of its range, or a combination that cannot work
    """

    groups: ClassVar[Mapping[str, type[Any]]]
    """Dataclasses by the attribute that holds an instance of each"""
    own_defaults: ClassVar[Mapping[str, Any]] = {}
    """Values that stand in place of the groups' defaults"""
    presets: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    default_preset: ClassVar[str | None] = None

    seed: int | None
    preset: str | None

    def __init__(self, *, seed: int | None = None, **settings: Any) -> None:
        if seed is not None:
            check_count("seed", seed, least=0, otherwise=" or None")
        if "preset" in settings and not self.presets:
            raise self._refusal("preset", settings["preset"])
        preset = settings.pop("preset", self.default_preset)
        if self.presets:
            check_choice("preset", preset, tuple(self.presets))
        for name in settings.keys() - set(self.names()):
            raise self._refusal(name, settings[name])
        self.seed, self.preset = seed, preset
        chosen = {**self.own_defaults, **(self._preset(preset, settings) if preset else {}), **settings}
        for attribute, group in self.groups.items():
            names = {each.name for each in fields(group)}
            setattr(self, attribute, group(**{name: value for name, value in chosen.items() if name in names}))
        self._check()

    @classmethod
    def names(cls) -> list[str]:
        """Names of all settings, group by group."""
        return [each.name for group in cls.groups.values() for each in fields(group)]

    def flat(self) -> dict[str, Any]:
        """Every setting by its keyword: arguments that make equal settings again."""
        values = {name: getattr(getattr(self, group), name) for group, name in self._places()}
        return {**({"preset": self.preset} if self.presets else {}), **values, "seed": self.seed}

    def _check(self) -> None:
        """Check settings of different groups against each other.

        :raises ValueError: if they do not go together
        """

    def _refusal(self, name: str, value: Any) -> Exception:
        """The error of a name that is none of these."""
        if name in REMOVED:
            return TypeError(
                f"{name} was a setting of return consistency, which return decomposition has replaced: {REMOVED[name]} in "
                "RewardSettings, whose preset='decomposition' is its default"
            )
        known = ["preset", *self.names(), "seed"] if self.presets else [*self.names(), "seed"]
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
        return TypeError(f"unknown reward setting {name!r}; {hint}")

    def _preset(self, preset: str, settings: Mapping[str, Any]) -> Mapping[str, Any]:
        return self.presets[preset]

    def _places(self) -> list[tuple[str, str]]:
        return [(attribute, each.name) for attribute, group in self.groups.items() for each in fields(group)]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, FlatSettings) and self.flat() == other.flat()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        defaults = type(self)().flat()
        changed = ", ".join(f"{name}={value!r}" for name, value in self.flat().items() if value != defaults[name])
        return shortened(f"{type(self).__name__}({changed})")

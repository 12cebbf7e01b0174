"""Runs that go on from a file as if they had not been interrupted."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.save_util import load_from_zip_file
from stable_baselines3.common.type_aliases import MaybeCallback

from sb3_tare.utils.arguments import accepted_arguments, unknown_argument
from sb3_tare.utils.damage import parameters_of
from sb3_tare.utils.formats import stamp
from sb3_tare.utils.generators import generator_states, restore_generators
from sb3_tare.utils.numbered import File, algorithm_in, named, readable_zip, written_in
from sb3_tare.utils.own_entries import with_own, write_apart
from sb3_tare.utils.sums import write_zip
from sb3_tare.utils.words import described


def is_behind_vec_normalize(model: Any) -> bool | None:
    """Whether an algorithm's environment is in ``VecNormalize``, so that its files are of use with the statistics only.

    :return: None where it has no environment
    """
    return None if model.get_env() is None else model.get_vec_normalize_env() is not None


LOADING = frozenset({"custom_objects", "print_system_info", "force_reset"})
"""Arguments of SB3's ``load`` that are no attributes of a model"""


class Continuable:
    """Mixed in before an algorithm of SB3, it saves whole files or none, and the global random generators with them.

    ``learn(..., reset_num_timesteps=False)`` on the loaded model takes the generators up, unless it is given another seed.
    """

    _continuation: dict[str, Any] | None = None
    """State of the global random generators, and the seed, of a loaded model that has not gone on yet"""
    saved_as: dict[str, Any] | None = None
    """Format and version of the last file: :data:`sb3_tare.utils.formats.KEY`"""

    own_parameters: ClassVar[tuple[str, ...]] = ()
    """Names in ``get_parameters()`` that the algorithm which this one extends has not: in files it passes over them"""
    remedy: ClassVar[str] = (
        "load it with the class that saved it, or take its weights over with set_parameters(path, exact_match=False)"
    )
    """What works with files of other algorithms"""

    replaced_arguments: ClassVar[Mapping[str, str]] = {}
    """What takes the place of arguments that similar algorithms have and this one has not"""

    def __repr__(self) -> str:
        return described(self)

    def _continuation_state(self) -> dict[str, Any]:
        return {"generators": generator_states(), "seed": self.seed}  # type: ignore[attr-defined]

    def _setup_model(self) -> None:
        continuation = self._continuation
        super()._setup_model()  # type: ignore[misc]
        if continuation is not None and continuation["seed"] == self.seed:  # type: ignore[attr-defined]
            self._continuation = continuation

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed the global generators, which then do not go on where a loaded model's were."""
        super().set_random_seed(seed)  # type: ignore[misc]
        self._continuation = None

    def _setup_learn(
        self, total_timesteps: int, callback: MaybeCallback = None, reset_num_timesteps: bool = True, *args: Any, **kwargs: Any
    ) -> tuple[int, BaseCallback]:
        if self.env is None:  # type: ignore[attr-defined]
            name = type(self).__name__
            raise ValueError(
                f"this {name} has no environment to learn in: {name}.load(path, env=...) gives it one, as does "
                "model.set_env(env)"
            )
        prepared = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args, **kwargs)  # type: ignore[misc]
        if self._continuation is not None and not reset_num_timesteps:
            restore_generators(self._continuation["generators"])
        self._continuation = None
        return prepared

    def dump_logs(self, *args: Any, **kwargs: Any) -> None:
        """Write the log, as SB3 does.

        :raises OSError: if a file of it cannot be written, as on a full disk; the model is whole, and can be saved or learn on
        """
        try:
            super().dump_logs(*args, **kwargs)  # type: ignore[misc]
        except OSError as error:
            folder = self.logger.dir or "its files"  # type: ignore[attr-defined]
            raise OSError(
                error.errno,
                f"{error.strerror}: the log in {folder} cannot be written at step {self.num_timesteps}. "  # type: ignore[attr-defined]
                "The model is whole: make room, save it, and go on with learn(..., reset_num_timesteps=False)",
            ) from error

    def save(
        self, path: str | Path | io.BufferedIOBase, exclude: Iterable[str] | None = None, include: Iterable[str] | None = None
    ) -> None:
        """Save all that a continued run needs; a file is written whole or not at all.

        The states of the global random generators are saved too. ``learn(..., reset_num_timesteps=False)`` on the loaded
        model takes them up, so that the run goes on as if it had not been interrupted, unless it is given another seed.
        """
        to_be_taken_up = self._continuation  # of a loaded model that has not gone on yet
        self._continuation = to_be_taken_up or self._continuation_state()
        self.saved_as = stamp("model")
        try:
            write_zip(path, lambda file: self._write(file, exclude, include))
        finally:
            self._continuation = to_be_taken_up

    def _write(self, file: Any, exclude: Iterable[str] | None, include: Iterable[str] | None) -> None:
        save = super().save  # type: ignore[misc]
        if self.own_parameters:
            write_apart(lambda written: save(written, exclude, include), file, self.own_parameters)
        else:
            save(file, exclude, include)

    @classmethod
    def load(cls, path: File, *args: Any, **kwargs: Any) -> Self:
        """Load what :meth:`save` wrote; arguments are those of SB3.

        :raises TypeError: if ``env`` is an id, for an argument that neither SB3 nor the model has, or if the file is of
            another algorithm of this package
        :raises ValueError: if the file is in a newer or unknown format, or is of an algorithm of another package
        """
        cls._check_changes(path, *args, **kwargs)
        cls._check_algorithm(path)
        return super().load(cls._readable(path), *args, **kwargs)  # type: ignore[misc]

    @classmethod
    def _check_changes(cls, path: File, env: Any = None, *_: Any, **changes: Any) -> None:
        """Check what a model is to be loaded with; SB3 would set any name as an attribute, which nothing reads."""
        if isinstance(env, str):
            name = cls.__name__
            raise TypeError(f"env must be an environment, got {env!r}: {name}.load(path, env=gymnasium.make({env!r}))")
        unknown = changes.keys() - {*accepted_arguments(cls), *LOADING}
        for name in sorted(unknown - written_in(path).keys() if unknown else ()):
            raise cls._refusal(name, changes[name])

    @classmethod
    def _refusal(cls, name: str, value: Any) -> TypeError:
        """The error of an argument that the algorithm does not take."""
        return unknown_argument(cls, name, cls.replaced_arguments)

    @classmethod
    def _check_algorithm(cls, path: File) -> None:
        """Check that a file is not of an algorithm of this package which is no relative of this one, if this is one too."""
        module, _, name = (algorithm_in(path) or "").rpartition(":")
        saved = getattr(sys.modules.get(module), name, None)
        if not isinstance(saved, type) or not all(each.__module__.startswith("sb3_tare.") for each in (saved, cls)):
            return
        if not issubclass(saved, cls) and not issubclass(cls, saved):
            raise TypeError(f"{named(path)} holds a {name}, which {cls.__name__} cannot load: use {name}.load")

    @classmethod
    def _readable(cls, path: File) -> File:
        """A model's file that SB3 can read."""
        return with_own(readable_zip(path, "_continuation", "model", cls.remedy), cls.own_parameters)

    @staticmethod
    def _todays(parameters: dict[str, Any]) -> dict[str, Any]:
        """Parameters of a file, or a dictionary, by today's names."""
        return parameters

    def set_parameters(
        self, load_path_or_dict: File | dict[str, Any], exact_match: bool = True, device: torch.device | str = "auto"
    ) -> None:
        """Take over parameters of a file or a dictionary; arguments are those of SB3.

        With ``exact_match=False`` they may be of another algorithm, such as one of SB3. What cannot be taken over whole leaves
        the model as it was.

        :raises ValueError: if the file is damaged, in a newer or unknown format, or its parameters are not those of the model
        """
        if isinstance(load_path_or_dict, dict):
            self._set_all_parameters(load_path_or_dict, exact_match, device)
            return
        readable = with_own(readable_zip(load_path_or_dict), self.own_parameters)
        with parameters_of(named(load_path_or_dict)):
            _, parameters, _ = load_from_zip_file(readable, load_data=False, device=device)
            self._set_all_parameters(parameters, exact_match, device)

    def _set_all_parameters(self, parameters: dict[str, Any], exact_match: bool, device: torch.device | str) -> None:
        """Set parameters as SB3 does, or leave all as they are."""
        before = deepcopy(self.get_parameters())  # type: ignore[attr-defined]
        try:
            super().set_parameters(self._todays(parameters), exact_match, device)  # type: ignore[misc]
        except BaseException:
            super().set_parameters(before)  # type: ignore[misc]
            raise

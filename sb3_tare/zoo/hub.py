"""rl-zoo3's two commands for the Hugging Face hub, with what they expect of it and today's libraries do not have."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import requests.exceptions
import rl_zoo3.utils
from huggingface_hub import HfApi
from huggingface_hub.errors import RemoteEntryNotFoundError
from huggingface_sb3 import ModelName

from sb3_tare.utils.files import reward_path

PUSHING: Any = importlib.import_module("huggingface_sb3.push_to_hub")  # its package has a function of this name


@contextmanager
def todays_hub() -> Iterator[None]:
    """Let rl-zoo3's ``push_to_hub`` find ``generate_metadata``, and its ``load_from_hub`` know a file that is not there.

    A reward that was learned by a callback goes to the hub beside its model.
    """
    with (
        mock.patch.object(PUSHING, "generate_metadata", _metadata, create=True),
        mock.patch.object(requests.exceptions, "HTTPError", RemoteEntryNotFoundError),
        _rewards_beside(),
    ):
        yield


def _metadata(*args: Any) -> dict[str, Any]:
    """A card's metadata as a dictionary, which ``huggingface_sb3`` makes no more."""
    return PUSHING._generate_metadata(*args).to_dict()


@contextmanager
def _rewards_beside() -> Iterator[None]:
    """Let a model that has a reward beside it go to the hub as it lies there, and that reward with it.

    rl-zoo3 saves the model anew, and the reward's file knows the one that it was saved beside.
    """
    find, upload = rl_zoo3.utils.get_model_path, HfApi.upload_folder
    found: dict[str, Path] = {}

    def get_model_path(exp_id: int, folder: str, algo: str, env_name: Any, *args: Any) -> tuple[str, str, str]:
        prefix, model, log_path = find(exp_id, folder, algo, env_name, *args)
        found[ModelName(algo, env_name).filename] = Path(model)
        return prefix, model, log_path

    def upload_folder(self: HfApi, *, folder_path: Path, **kwargs: Any) -> Any:
        for name, model in found.items():
            if reward_path(model).exists():
                shutil.copyfile(model, folder_path / name)
                shutil.copyfile(reward_path(model), reward_path(folder_path / name))
        return upload(self, folder_path=folder_path, **kwargs)

    with (
        mock.patch.object(rl_zoo3.utils, "get_model_path", get_model_path),
        mock.patch.object(HfApi, "upload_folder", upload_folder),
    ):
        yield

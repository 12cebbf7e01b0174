"""Packed models, sent to the hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi

from sb3_tare import RewardLearner
from sb3_tare.hub.naming import SOME_HAVE
from sb3_tare.hub.packing import package
from sb3_tare.utils.files import reward_path

MESSAGE = "Upload a model with sb3-tare"


def push_to_hub(
    model: Any,
    repo_id: str,
    env_id: str | None = None,
    learner: RewardLearner | None = None,
    *,
    commit_message: str = MESSAGE,
    token: str | None = None,
    private: bool = False,
    **details: Any,
) -> str:
    """Pack a model and send it to the hub.

    :param model: of this package, SB3 or sb3-contrib
    :param repo_id: repository, which is made if there is none: ``"me/tare_ppo-Hopper-v5"``
    :param env_id: environment to evaluate in, registered with Gymnasium; None: the one that the model has
    :param learner: that learned the reward of a model which has none of its own
    :param commit_message: of the upload
    :param token: of the hub; None takes the one that ``hf auth login`` has kept
    :param private: whether a new repository is
    :param details: more of :func:`~sb3_tare.hub.packing.package`
    :return: the repository's address
    """
    with tempfile.TemporaryDirectory() as folder:
        package(model, folder, repo_id, env_id, learner, **details)
        return upload(folder, repo_id, commit_message, token, private)


def upload(
    folder: str | Path, repo_id: str, commit_message: str = MESSAGE, token: str | None = None, private: bool = False
) -> str:
    """Send a packed folder to the hub, in one commit.

    What an earlier upload had and this one has not, such as the statistics of ``VecNormalize``, is removed there.

    :param folder: as :func:`~sb3_tare.hub.packing.package` wrote it; other arguments are those of :func:`push_to_hub`
    :return: the repository's address
    """
    api = HfApi(token=token)
    url = api.create_repo(repo_id, private=private, exist_ok=True)
    api.upload_folder(
        repo_id=repo_id,
        folder_path=folder,
        commit_message=commit_message,
        delete_patterns=[*(reward_path(model).name for model in Path(folder).glob("*.zip")), *SOME_HAVE],
    )
    return str(url)

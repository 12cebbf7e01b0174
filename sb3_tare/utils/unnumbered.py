"""Conversions of files from before there were format numbers into what files of format 1 hold."""

from __future__ import annotations

import base64
import io
import json
import zipfile
from typing import Any

import torch
from stable_baselines3.common.save_util import data_to_json

from sb3_tare.utils.known import KnownUnpickler

MOVED_ALGORITHMS = {
    "sb3_tare.ppo:TAREPPO": "sb3_tare.algorithms.tare_ppo:TAREPPO",
    "sb3_tare.lirpg:LIRPG": "sb3_tare.algorithms.lirpg:LIRPG",
    "sb3_tare.awr.tare:TAREAWR": "sb3_tare.algorithms.tare_awr:TAREAWR",
}
"""Algorithms by the names in older models, and where they are today."""

NOT_OF_LIRPG = (
    "preset",
    "validation",
    "swap",
    "interleave",
    "curvature",
    "curvature_episodes",
    "kl_coef",
    "damping",
    "cg_steps",
    "actor_parameters",
)
"""Settings that learners of LIRPG held and never used."""


def from_unnumbered_zip(archive: zipfile.ZipFile) -> io.BytesIO:
    """A model, a reward learner or an exported reward as they were written in format 1, but for the number."""
    converted = io.BytesIO()
    with zipfile.ZipFile(converted, "w") as target:
        for name in archive.namelist():
            content = archive.read(name)
            if name == "data":
                content = json.dumps(_convert_data(json.loads(content))).encode()
            elif name == "reward_learner.pth":
                content = _saved(convert_unnumbered_learner_state(_loaded(content)))
            target.writestr(name, content)
    return converted


def convert_unnumbered_learner_state(state: dict[str, Any]) -> dict[str, Any]:
    """The state of a reward learner, whose rollouts did not yet tell the policy's side from the reward's."""
    waiting = state["waiting"]
    return {
        **state,
        "waiting": None if waiting is None else _convert_rollout(waiting),
        "waiting_whole": None,
        "decomposition": None,
    }


def convert_unnumbered_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """The settings of a learner, of which some had no effect, and one preset another network."""
    if "through_second_moment" in settings:
        settings = {name: value for name, value in settings.items() if name not in NOT_OF_LIRPG}
    if settings.get("preset") == "paper" and not settings.keys() & {"architecture", "architecture_kwargs"}:
        settings = {**settings, "architecture_kwargs": {"lstm_layers": 1}}  # the preset's network has two since
    return settings


def from_unnumbered_result(content: dict[str, Any]) -> dict[str, Any]:
    """A study's result, of a file whose checksum is right: all but that."""
    return {key: value for key, value in content.items() if key != "sha256"}


def _convert_rollout(rollout: dict[str, Any]) -> dict[str, Any]:
    return {
        "rows": torch.arange(len(rollout["extrinsic_rewards"])),
        "reward": _reward_steps(rollout),
        "policy_critic": rollout["extrinsic"],
        "reward_critic": rollout["learned"],
        "policy": {name: rollout[name] for name in ("observations", "actions", "old_log_probs", "action_masks", "behaviour")},
    }


def _reward_steps(rollout: dict[str, Any]) -> dict[str, Any]:
    same = {name: rollout[name] for name in ("states", "encoded_actions", "episodes", "unit")}
    return {**same, "rewards": rollout["extrinsic_rewards"], "original_rewards": rollout["extrinsic_rewards"]}


def _convert_data(data: dict[str, Any]) -> dict[str, Any]:
    """Attributes as SB3 writes them: plain, or pickled."""
    converted = {key: _convert_pickled(value) for key, value in data.items()}
    if "algorithm_class" in data:
        converted["algorithm_class"] = MOVED_ALGORITHMS.get(data["algorithm_class"], data["algorithm_class"])
    if isinstance(data.get("reward_kwargs"), dict):
        converted["reward_kwargs"] = convert_unnumbered_settings(converted["reward_kwargs"])
    return converted


def _convert_pickled(value: Any) -> Any:
    if not isinstance(value, dict) or ":serialized:" not in value:
        return value
    pickled = base64.b64decode(value[":serialized:"])
    if b"sb3_tare.networks" not in pickled:  # nothing is unpickled without need: the user may mean to replace it
        return value
    unpickler = KnownUnpickler(io.BytesIO(pickled))
    unpickled = unpickler.load()
    if unpickler.unread:
        return value
    return json.loads(data_to_json({"value": unpickled}))["value"]


def _loaded(content: bytes) -> dict[str, Any]:
    return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)


def _saved(state: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()

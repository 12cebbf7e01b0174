"""States of torch's optimisers."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any

from torch.optim import Optimizer

from sb3_tare.utils.nested import on_cpu


def load_keeping_step_sizes(optimiser: Optimizer, state: Mapping[str, Any]) -> None:
    """Take a copy of an optimiser's state over, but for its step sizes, which stay those of the settings.

    :param optimiser: of the same parameters
    :param state: its ``state_dict``, which may belong to an optimiser that goes on, from any device
    """
    step_sizes = [group["lr"] for group in optimiser.param_groups]
    optimiser.load_state_dict(deepcopy(on_cpu(dict(state))))
    for group, step_size in zip(optimiser.param_groups, step_sizes, strict=True):
        group["lr"] = step_size

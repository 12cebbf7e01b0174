"""A job, the unit of a study: one training run, told by plain data."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sb3_tare.experiments.variants import Variant


@dataclass(frozen=True)
class Job:
    """One training run.

    :param study: its study's name
    :param name: its variant's name
    :param variant: what the name stands for
    :param env: id of Gymnasium
    :param seed: of algorithm and environment
    :param steps: environment steps
    :param evaluations: how often the policy is evaluated, at equal distances; once more before the first step
    :param evaluation_episodes: deterministic episodes in each evaluation
    :param measure: name of what is recorded at every evaluation beside returns
    :raises ValueError: for a number that cannot work
    """

    study: str
    name: str
    variant: Variant
    env: str
    seed: int
    steps: int
    evaluations: int = 20
    evaluation_episodes: int = 10
    measure: str | None = None

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if not 1 <= self.evaluations <= self.steps:
            raise ValueError(f"evaluations must be from 1 to steps={self.steps}, got {self.evaluations}")
        if self.evaluation_episodes < 1:
            raise ValueError(f"evaluation_episodes must be at least 1, got {self.evaluation_episodes}")

    @property
    def title(self) -> str:
        """The job's name for people."""
        return f"{self.name} on {self.env}, seed {self.seed}"

    @property
    def stem(self) -> str:
        """Beginning of its files' names: readable, and allowed everywhere, though ids of environments hold slashes."""
        return stem_of(self.env, self.name, self.seed)

    @property
    def filename(self) -> str:
        """Name of its result's file."""
        return filename_of(vars(self))

    @property
    def settings(self) -> dict[str, Any]:
        """All fields of the job, as JSON gives them back."""
        return json.loads(json.dumps(asdict(self)))

    @property
    def evaluation_steps(self) -> list[int]:
        """Steps after which the policy is evaluated."""
        return [self.steps * index // self.evaluations for index in range(self.evaluations + 1)]


def stem_of(env: str, name: str, seed: int) -> str:
    """Beginning of the files' names of a job on ``env``, of the variant ``name``."""
    readable = re.sub(r"[^\w.-]", "_", env.replace("/", "__"))
    return f"{readable}.{name}.seed{seed}"


def filename_of(settings: Mapping[str, Any]) -> str:
    """Name of the file of a result, by the fields of its job."""
    return f"{stem_of(settings['env'], settings['name'], settings['seed'])}.json"

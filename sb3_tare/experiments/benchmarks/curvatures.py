"""Curvatures of the implicit gradient against the truth: the gradient through every step of PPO's own update, unrolled.

    python -m sb3_tare.experiments.benchmarks.curvatures --out examples/results/curvatures

PPO trains behind ``VecNormalize``. After each number of steps, a few rollouts are split in halves; one half trains the policy,
the other validates, and each curvature's reward gradient is compared with the one through all steps of Adam: by cosines of the
weights of the training steps, and of the gradients in the parameters of an untrained reward network of the paper. One file a
task; tasks whose file is there are not measured again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from rich.console import Console
from torch import Tensor
from torch.nn.functional import cosine_similarity

from sb3_tare import LeanPPO, RewardLearner
from sb3_tare.data.cutting import split
from sb3_tare.data.rollout import PolicySteps, Rollout
from sb3_tare.experiments.benchmarks.ppo_update import PPOUpdate, moved
from sb3_tare.experiments.benchmarks.speed import make_env
from sb3_tare.experiments.running.provenance import versions
from sb3_tare.hosts.host import Host
from sb3_tare.hypergradient.implicit import reward_weights
from sb3_tare.policy.curvature import CURVATURES
from sb3_tare.policy.gradients import Batch, PolicyGradients
from sb3_tare.utils.files import write_json

TASKS = ("HalfCheetah-v5", "Hopper-v5", "Walker2d-v5")
STEPS = (0, 50_000, 200_000)


class Choice(NamedTuple):
    """A curvature, its damping, and the half that it is measured on."""

    curvature: str
    damping: float = 0.0
    episodes: str = "validation"

    def weights(self, host: Host[Any], steps: PolicySteps, advantages: Tensor, judged: Batch) -> Tensor:
        """Weights ``[n]`` of the implicit gradient in advantages before they are standardised.

        :param host: whose policy stands where its update left it
        :param steps: ``n`` that it was trained on
        :param advantages: ``[n]`` of them
        :param judged: held-out steps and their standardised advantages
        """
        raw = advantages.detach().clone().requires_grad_()
        standardised = host.standardise(raw)
        trained = Batch(steps, standardised.detach())
        gradients = PolicyGradients(host, CURVATURES[self.curvature](damping=self.damping))
        curved = trained if self.episodes == "training" else judged
        estimate = reward_weights(gradients, trained, judged, curved)
        (weights,) = torch.autograd.grad(standardised, raw, estimate.weights)
        return weights


CHOICES = {
    "identity": Choice("identity"),
    "Fisher, damping 0.01": Choice("fisher", 0.01),
    "Fisher, damping 0.1": Choice("fisher", 0.1),
    "Fisher, damping 1": Choice("fisher", 1.0),
    "Fisher, damping 10": Choice("fisher", 10.0),
    "Fisher on training, damping 0.1": Choice("fisher", 0.1, "training"),
    "Hessian on validation, damping 0.1": Choice("hessian", 0.1),
    "Hessian on training, damping 0.1": Choice("hessian", 0.1, "training"),
    "Adam's diagonal": Choice("adam"),
}
"""Compared by the names that tables give them; the Fisher matrix and the Hessian are on the validating half where not said."""

NETWORK: dict[str, Any] = {"preset": "paper", "reward_mode": "add", "gae_lambda": None, "zero_head": False}
"""Settings of the reward network whose parameters the second cosine is taken in; a head of zero would hide all but itself."""


def compare(rollout: Rollout, learner: RewardLearner) -> dict[str, dict[str, float]]:
    """Cosines of each choice's reward gradient with the unrolled one, for an update of the policy on a half of ``rollout``."""
    trainer = learner.trainer
    host = trainer.host
    training, validation = (rollout.select(half) for half in split(rollout.reward.episodes, trainer.generator))
    extrinsic, held_out = (trainer.advantages.extrinsic(part) for part in (training, validation))
    differentiable = trainer.label(trainer.appraise(training, training)).differentiable
    parameters = list(trainer.reward_model.network.parameters())

    def in_parameters(weights: Tensor) -> Tensor:
        gradients = torch.autograd.grad(differentiable, parameters, weights, retain_graph=True, materialize_grads=True)
        return torch.cat([gradient.reshape(-1) for gradient in gradients])

    judged = Batch(validation.policy, host.standardise(held_out))
    update = PPOUpdate.of(host.model, training, extrinsic, trainer.generator)
    truth, end = update.unrolled(judged, host.objective)
    with moved(host.policy, end):
        estimates = {name: choice.weights(host, training.policy, extrinsic, judged) for name, choice in CHOICES.items()}
    return {
        name: {"weights": _cosine(weights, truth), "parameters": _cosine(in_parameters(weights), in_parameters(truth))}
        for name, weights in estimates.items()
    }


def _cosine(first: Tensor, second: Tensor) -> float:
    return float(cosine_similarity(first.double(), second.double(), dim=0))


def measure(task: str, steps: Sequence[int], n_rollouts: int, seed: int) -> list[dict[str, Any]]:
    """Rows with cosines by choice, one for each number of steps and rollout.

    :param steps: of training before rollouts are looked at, ascending
    :param n_rollouts: looked at after each
    :param seed: of the training
    """
    torch.set_num_threads(1)
    env = make_env(task)
    model = LeanPPO("MlpPolicy", env, seed=seed, device="cpu")
    learner = RewardLearner(curvature="hessian", seed=seed, **NETWORK)  # which keeps what every curvature needs
    learner.attach(model, drives_host=False)
    rows, trained = [], 0
    for n_steps in steps:
        model.learn(n_steps - trained, reset_num_timesteps=False)
        trained = n_steps
        for number in range(n_rollouts):
            cosines = compare(collect(model, learner), learner)
            rows.append({"steps": n_steps, "rollout": number, "cosines": cosines})
    env.close()
    return rows


def collect(model: LeanPPO, learner: RewardLearner) -> Rollout:
    """A rollout of the policy as it is, which trains nothing."""
    _, callback = model._setup_learn(0, learner, reset_num_timesteps=False)
    callback.on_training_start({"callback": callback}, {})
    assert model.env is not None
    model.collect_rollouts(model.env, callback, model.rollout_buffer, n_rollout_steps=model.n_steps)
    rollout = learner.trainer.read(learner.trainer.host.record())
    assert isinstance(rollout, Rollout)
    return rollout


def table(rows: Sequence[dict[str, Any]], columns: Sequence[tuple[str, Sequence[dict[str, Any]]]]) -> str:
    """Rows of Markdown: mean cosines by weights / in parameters, for all rows and for each of ``columns``."""
    columns = [*columns, ("all", rows)]
    lines = [f"| curvature | {' | '.join(name for name, _ in columns)} |", f"| --- |{' --- |' * len(columns)}"]
    for choice in CHOICES:
        cells = [
            " / ".join(f"{np.mean([row['cosines'][choice][by] for row in part]):.3f}" for by in ("weights", "parameters"))
            for _, part in columns
        ]
        lines.append(f"| {choice} | {' | '.join(cells)} |")
    return "\n".join(lines)


def tables(folder: Path) -> str:
    """Tables of all results in ``folder``: by task, and by steps of training."""
    results = [json.loads(path.read_text()) for path in sorted(folder.glob("*.json"))]
    rows = [row for result in results for row in result["rows"]]
    by_task = [(result["task"], result["rows"]) for result in results]
    steps = sorted({row["steps"] for row in rows})
    by_steps = [(f"{n:,} steps", [row for row in rows if row["steps"] == n]) for n in steps]
    return f"{table(rows, by_task)}\n\n{table(rows, by_steps)}"


def main() -> None:
    """Measure what is missing, and print the tables of all that is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--envs", nargs="+", default=TASKS, metavar="ID")
    parser.add_argument("--steps", type=int, nargs="+", default=STEPS, help="of training before rollouts are looked at")
    parser.add_argument("--rollouts", type=int, default=3, help="looked at after each number of steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True, help="folder of result files, one a task")
    arguments = parser.parse_args()
    for task in arguments.envs:
        path = arguments.out / f"{task.replace('/', '_')}.json"
        if not path.exists():
            rows = measure(task, sorted(arguments.steps), arguments.rollouts, arguments.seed)
            write_json(path, {"task": task, "seed": arguments.seed, "rows": rows, "versions": versions()})
    Console(width=160).print(tables(arguments.out), highlight=False, soft_wrap=True)


if __name__ == "__main__":
    main()

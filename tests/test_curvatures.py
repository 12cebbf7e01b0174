"""The benchmark of curvatures: its oracle is PPO's own update, and its command compares them with it."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from stable_baselines3 import PPO
from toys import TINY_NET, Toy, policy_of, vec_env

from sb3_tare import LeanPPO, RewardLearner
from sb3_tare.experiments.benchmarks import curvatures
from sb3_tare.experiments.benchmarks.ppo_update import PPOUpdate, moved
from sb3_tare.policy.gradients import Batch

SIZE = {"n_steps": 64, "batch_size": 24, "n_epochs": 3, "seed": 0, "policy_kwargs": TINY_NET, "ent_coef": 0.01}


def collected(model):
    learner = RewardLearner(curvature="hessian", **curvatures.NETWORK)
    learner.attach(model, drives_host=False)
    return learner, curvatures.collect(model, learner)


@pytest.mark.parametrize("trained", [0, 128])
def test_the_unrolled_update_ends_where_ppos_own_does(trained):
    model = PPO("MlpPolicy", vec_env(2, lambda: Toy(p_end=0.05)), **SIZE)
    model.learn(trained)
    learner, rollout = collected(model)
    trainer = learner.trainer
    advantages = trainer.advantages.extrinsic(rollout)
    np.random.seed(7)  # noqa: NPY002
    passes = [torch.from_numpy(np.random.permutation(128)) for _ in range(3)]  # noqa: NPY002
    batches = [rows for each in passes for rows in each.split(24)]
    update = PPOUpdate(model, rollout, advantages, batches)
    judged = Batch(rollout.policy, trainer.host.standardise(advantages))
    before = policy_of(model)
    weights, end = update.unrolled(judged, trainer.host.objective)
    assert torch.isfinite(weights).all()
    with moved(model.policy, end):
        unrolled = policy_of(model)
    for name, leaf in policy_of(model).items():
        torch.testing.assert_close(leaf, before[name], rtol=0, atol=0)
    np.random.seed(7)  # noqa: NPY002
    model.train()
    for name, leaf in policy_of(model).items():
        torch.testing.assert_close(unrolled[name], leaf, rtol=2e-4, atol=2e-6)
    assert float((unrolled["/policy/log_std"] - before["/policy/log_std"]).abs().max()) > 1e-4


def test_looking_at_rollouts_trains_nothing():
    model = LeanPPO("MlpPolicy", vec_env(2, lambda: Toy(p_end=0.05)), **SIZE)
    model.learn(128)
    before = policy_of(model)
    learner, rollout = collected(model)
    cosines = curvatures.compare(rollout, learner)
    assert cosines.keys() == curvatures.CHOICES.keys()
    assert all(-1.0 <= cosine <= 1.0 for each in cosines.values() for cosine in each.values())
    for name, leaf in policy_of(model).items():
        torch.testing.assert_close(leaf, before[name], rtol=0, atol=0)


def test_the_command_leaves_a_file_a_task_and_measures_none_twice(tmp_path, monkeypatch, capsys):
    command = ["curvatures", "--envs", "Pendulum-v1", "--steps", "0", "--rollouts", "1", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", command)
    monkeypatch.setattr(curvatures, "CHOICES", {"identity": curvatures.Choice("identity")})
    monkeypatch.setattr(curvatures, "LeanPPO", lambda *args, **kwargs: LeanPPO(*args, **{**kwargs, **SIZE}))
    curvatures.main()
    (row,) = json.loads((tmp_path / "Pendulum-v1.json").read_text())["rows"]
    told = f"| identity | {row['cosines']['identity']['weights']:.3f} / {row['cosines']['identity']['parameters']:.3f} |"
    assert told in capsys.readouterr().out
    monkeypatch.setattr(curvatures, "measure", None)
    curvatures.main()
    assert re.search(r"\| identity \| [-.\d]+ / [-.\d]+ \|", capsys.readouterr().out)


def test_the_tables_of_the_results_are_those_of_its_files():
    folder = Path(__file__).parents[1] / "examples/results/curvatures"
    assert curvatures.tables(folder) in (folder / "README.md").read_text()

"""Runs that are killed and go on: bit by bit as if nothing had happened."""

import pickle
from dataclasses import replace

import pytest
from rich.console import Console
from test_studies import SMALL, SMALL_AWR, SMALL_SAC, Here, small_run, tiny

from sb3_tare.experiments.__main__ import main
from sb3_tare.experiments.running import training
from sb3_tare.experiments.running.checkpoints import Checkpointing, checkpoint_path
from sb3_tare.experiments.running.engines import local
from sb3_tare.experiments.running.runner import run
from sb3_tare.experiments.running.training import train
from sb3_tare.experiments.studies import jobs_of

HOPPER, LATE = "Hopper-v5", "sb3_tare/EpisodicHopper-v5"
SAC = {**SMALL_SAC, "learning_starts": 100, "buffer_size": 2_000}
RUNS = {
    "PPO": ("figure6", "ppo", HOPPER, SMALL),
    "a decomposed reward": ("figure6", "tare_default", LATE, SMALL),
    "the implicit gradient, measured": ("figure5", "tare_implicit", HOPPER, SMALL),
    "a rollout that waits": ("figure6", "tare_next_rollout_add", HOPPER, SMALL),
    "LIRPG": ("figure2", "lirpg", HOPPER, SMALL),
    "a policy that sees what was before": ("figure2", "ppo_lstmbmul", HOPPER, SMALL),
    "AWR": ("figure6_awr", "tare_awr", HOPPER, SMALL_AWR),
    "SAC": ("off_policy", "sac", LATE, SAC),
}


class Killed(Exception):
    """In place of a signal."""


def killed_at(steps: int, job, checkpointing) -> None:
    def report(done: int) -> None:
        if done >= steps:
            raise Killed

    with pytest.raises(Killed):
        training.train(job, report, checkpointing)


@pytest.fixture(autouse=True)
def _reports_often(monkeypatch):
    monkeypatch.setattr(training, "REPORT_EVERY", 1)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_that_was_killed_ends_as_if_it_had_not_been(name, tmp_path):
    study, variant, env, changes = RUNS[name]
    (job,) = jobs_of(study, 1, [variant], [env], 400, changes, evaluations=4, evaluation_episodes=1)
    checkpointing = Checkpointing(tmp_path, 100)
    killed_at(290, job, checkpointing)
    kept = pickle.loads(checkpoint_path(tmp_path, job).read_bytes())
    assert 0 < kept["model"].num_timesteps < 290
    seen = []
    trained = training.train(job, seen.append, checkpointing)
    assert seen[0] == kept["model"].num_timesteps + 1
    assert trained.result == train(job).result
    assert trained.made["cpu_seconds"] > kept["made"]["cpu_seconds"] > 0


def test_a_run_can_be_killed_again(tmp_path):
    (job,) = tiny(variants=["tare_default"], steps=512)
    checkpointing = Checkpointing(tmp_path, 64)
    for steps in (100, 200, 400):
        killed_at(steps, job, checkpointing)
    assert training.train(job, checkpointing=checkpointing).result == train(job).result


def test_checkpoints_leave_no_trace_in_a_run(tmp_path):
    (job,) = tiny(variants=["tare_default"])
    assert training.train(job, checkpointing=Checkpointing(tmp_path, 1)).result == train(job).result


@pytest.mark.parametrize("other", ["settings", "versions", "commit"])
def test_a_checkpoint_of_another_run_is_refused_by_name(other, tmp_path, monkeypatch):
    (job,) = tiny(variants=["ppo"])
    checkpointing = Checkpointing(tmp_path, 64)
    killed_at(200, job, checkpointing)
    if other == "settings":
        job = replace(job, evaluation_episodes=2)
    else:
        monkeypatch.setattr(f"sb3_tare.experiments.running.checkpoints.{other}", lambda: "another")
    with pytest.raises(ValueError, match=rf"ppo.seed0.checkpoint is of a run with other {other}; remove it"):
        training.train(job, checkpointing=checkpointing)


def test_a_finished_run_leaves_no_checkpoint(tmp_path):
    (job,) = tiny(variants=["ppo"])
    checkpoint_path(tmp_path, job).write_bytes(b"")
    assert run([job], tmp_path, Here(), Console(quiet=True)) == []
    assert [path.name for path in tmp_path.iterdir()] == [job.filename]


def test_a_process_that_is_killed_goes_on_in_the_next(tmp_path):
    (job,) = tiny(variants=["ppo"], steps=6_000)
    checkpointing = Checkpointing(tmp_path, 64)
    updates = local([job], 1, checkpointing=checkpointing)
    while not checkpoint_path(tmp_path, job).exists():
        next(updates)
    updates.close()  # which ends its process
    *_, done = local([job], 1, checkpointing=checkpointing)
    assert {key: value for key, value in done.result.items() if key != "made"} == train(job).result


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--checkpoint-every", "0"], "--checkpoint-every must be at least 1"),
        (["--checkpoint-every", "64", "--address", "auto"], "without --address"),
    ],
)
def test_checkpoints_that_cannot_be_are_refused(options, told, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main([*small_run(tmp_path, "ppo"), *options])
    assert told in capsys.readouterr().err


def test_a_learner_that_is_a_callback_has_no_checkpoints_and_is_told_so(tmp_path, capsys):
    arguments = ["run", "off_policy", "--variants", "sac_decomposed", "--checkpoint-every", "100", "--out", str(tmp_path)]
    with pytest.raises(SystemExit):
        main([*arguments, "--set", "buffer_size=1000", "--steps", "1000"])
    assert "variant sac_decomposed cannot be built" in (told := capsys.readouterr().err)
    assert "run it without --checkpoint-every" in told

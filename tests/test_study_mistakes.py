"""Mistakes around a study, told before they cost hours or count for evidence."""

import os
import re
import shutil
import struct
from multiprocessing import Pipe

import pytest
from rich.console import Console
from test_report import report, result_of, study
from test_studies import Here, tiny

from sb3_tare.experiments.__main__ import main, make_parser
from sb3_tare.experiments.run_command import jobs_from
from sb3_tare.experiments.running import engines, training
from sb3_tare.experiments.running.checkpoints import Checkpointing, checkpoint_path
from sb3_tare.experiments.running.engines import Failed
from sb3_tare.experiments.running.results import write
from sb3_tare.experiments.running.runner import run
from sb3_tare.experiments.studies import jobs_of


def jobs_told(*arguments: str):
    return jobs_from(make_parser().parse_args(["run", "safety", "--seeds", "1", *arguments]))


def test_an_option_given_twice_takes_both():
    envs, variants = ["--envs", "CartPole-v1", "--envs", "Acrobot-v1"], ["--variants", "ppo", "--variants", "tare_trial"]
    jobs = jobs_told(*envs, *variants, "--set", "n_steps=128", "--set", "batch_size=32")
    assert {(job.env, job.name) for job in jobs} == {(env, name) for env in envs[1::2] for name in variants[1::2]}
    assert all({"n_steps": 128, "batch_size": 32}.items() <= job.variant.kwargs.items() for job in jobs)
    assert jobs_told()[0].variant.kwargs == {}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--set", "n_steps=128", "n_steps=256"], "--set takes each NAME once, got n_steps=128 n_steps=256"),
        (["--set", "n_epochs=NaN"], "--set takes NAME=JSON, such as n_steps=512, got 'n_epochs=NaN'"),
        (["--set", "learning_rate=-Infinity"], "--set takes NAME=JSON"),
        (["--steps", "0"], "steps must be at least 1, got 0"),
        (["--steps", "-5"], "steps must be at least 1, got -5"),
    ],
)
def test_arguments_that_cannot_work_are_named_before_anything_runs(arguments, told):
    with pytest.raises(ValueError, match=re.escape(told)):
        jobs_told(*arguments)


def test_a_study_of_ones_own_without_variants_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["run", "own", "--out", str(tmp_path)])
    assert "own needs --variants-from" in capsys.readouterr().err


def test_a_copy_of_a_result_is_not_taken_for_a_further_seed(tmp_path):
    study(tmp_path)
    shutil.copy(tmp_path / "Hopper-v5.ppo.seed0.json", tmp_path / "copy.json")
    told = r"copy\.json holds the result of Hopper-v5\.ppo\.seed0\.json: rename it, or remove it if it is a copy"
    with pytest.raises(ValueError, match=told):
        report(tmp_path)
    with pytest.raises(ValueError, match=told):
        run(jobs_of("figure3", 3, ["ppo"], ["Hopper-v5"], 500, evaluations=5), tmp_path, Here(), Console(quiet=True))


def test_seeds_of_a_variant_with_different_arguments_are_not_averaged(tmp_path):
    study(tmp_path, seeds=2)
    (job,) = jobs_of("figure3", 1, ["tare_paper"], ["Hopper-v5"], 500, {"n_steps": 512}, first_seed=2, evaluations=5)
    write(tmp_path, job, result_of(job))
    with pytest.raises(ValueError, match=r"runs of tare_paper on Hopper-v5 with different arguments: .* and .*n_steps"):
        report(tmp_path)


def test_evaluations_of_different_numbers_of_episodes_are_not_averaged(tmp_path):
    study(tmp_path, seeds=2)
    (job,) = jobs_of("figure3", 1, ["ppo"], ["Hopper-v5"], 500, first_seed=2, evaluations=5, evaluation_episodes=3)
    write(tmp_path, job, result_of(job))
    with pytest.raises(ValueError, match="5 evaluations of 10 episodes; figure3, 500 steps, 5 evaluations of 3 episodes"):
        report(tmp_path)


def test_a_command_that_makes_more_runs_than_there_are_says_so(tmp_path):
    study(tmp_path, seeds=2)
    assert "of them are here" not in report(tmp_path)
    (tmp_path / "Hopper-v5.ppo.seed1.json").unlink()
    assert "That makes 8 runs; 7 of them are here." in report(tmp_path)


def test_a_checkpoint_that_cannot_be_read_is_named_with_what_to_do(tmp_path):
    (job,) = tiny(variants=["ppo"])
    for content in (b"", b"rubbish\n", b"\x80\x05\x95\xff\xff"):
        checkpoint_path(tmp_path, job).write_bytes(content)
        with pytest.raises(
            ValueError, match=rf"{job.stem}\.checkpoint cannot be read: .*; remove it, and the run begins anew"
        ):
            training.train(job, checkpointing=Checkpointing(tmp_path, 64))


class Process:
    """One that was killed."""

    exitcode = -9

    def join(self) -> None:
        pass


def test_a_process_that_dies_within_a_message_fails_alone():
    ours, theirs = Pipe(duplex=False)
    os.write(theirs.fileno(), struct.pack("!i", 1_000) + b"beginning")
    theirs.close()
    (job,) = tiny(variants=["ppo"])
    assert engines._receive(ours, job, Process()) == Failed(job, "its process ended with exit code -9")

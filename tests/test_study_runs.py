"""What a study finds before its first step, what it says in a log, what its runs leave, and variants of one's own."""

import re
import subprocess
import sys
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from test_studies import Here, pretend, run_here, small_run, tiny

from sb3_tare import TAREPPO, RewardLearner
from sb3_tare.experiments.__main__ import main, make_parser
from sb3_tare.experiments.own import read_own
from sb3_tare.experiments.run_command import jobs_from
from sb3_tare.experiments.running import provenance
from sb3_tare.experiments.running.engines import Done, attempt, local
from sb3_tare.experiments.running.results import read
from sb3_tare.experiments.running.training import train
from sb3_tare.experiments.studies import jobs_of
from sb3_tare.experiments.variants import Variant

EXAMPLE = Path(__file__).parents[1] / "examples/own_study/study.yml"


def refused(arguments, capsys, monkeypatch) -> str:
    """What a command says that ends before anything runs."""

    def engine(jobs, **_):
        raise AssertionError("it runs")

    monkeypatch.setattr("sb3_tare.experiments.run_command.local", engine)
    with pytest.raises(SystemExit) as ended:
        main(list(map(str, arguments)))
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("n_step=64", "variant ppo cannot be built on Pendulum-v1: .*n_step"),
        ("n_steps=-1", "variant ppo cannot be built on Pendulum-v1"),
        ('policy_kwargs={"net_arc": [8]}', "net_arc"),
    ],
)
def test_a_mistyped_argument_is_found_before_the_first_step(setting, told, tmp_path, capsys, monkeypatch):
    name, _, _ = setting.partition("=")
    arguments = [each for each in small_run(tmp_path, "ppo") if not each.startswith(f"{name}=")]
    arguments.insert(arguments.index("--out"), setting)
    assert re.search(told, refused(arguments, capsys, monkeypatch))


def test_a_mistyped_setting_of_the_reward_is_found_before_the_first_step(tmp_path, capsys, monkeypatch):
    arguments = small_run(tmp_path, "tare_default")
    arguments.insert(arguments.index("--out"), 'reward_kwargs={"architectur": "MLPMul"}')
    assert "architectur" in refused(arguments, capsys, monkeypatch)


def test_a_folder_that_cannot_be_written_to_is_found_before_the_first_step(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file", tmp_path / "file/results"):
        assert "--out must be a folder that can be written to" in refused(small_run(out, "ppo"), capsys, monkeypatch)


def test_two_studies_in_a_folder_are_refused_before_anything_runs(tmp_path, capsys, monkeypatch):
    run_here(tiny(variants=["ppo"]), tmp_path)
    arguments = small_run(tmp_path, "ppo")
    arguments[1] = "figure3"
    assert 'study "figure6", not "figure3"' in refused(arguments, capsys, monkeypatch)


def test_a_log_has_a_line_for_each_tenth_of_a_run_and_no_bars(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sb3_tare.experiments.run_command.local", local)
    assert main(small_run(tmp_path, "ppo", steps=5120)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(re.match(r"\d:\d\d:\d\d ppo on Pendulum-v1, seed 0: ", line) for line in lines[1:])
    assert [line.partition(": ")[2] for line in lines[1:4]] == [f"{n} of 5,120 steps" for n in ("0", "1,000", "1,500")]
    assert lines[-1].endswith("finished; 1 of 1 runs are over")
    assert 10 <= len(lines) <= 14


def test_a_result_tells_commit_and_time():
    (job,) = tiny(variants=["ppo"])
    done = attempt(job)
    made = done.result["made"]
    assert made.keys() == {"commit", "changed", "wall_seconds", "cpu_seconds"}
    assert made["cpu_seconds"] > 0
    assert (made["commit"], made["changed"]) == provenance.commit()


def test_the_commit_is_that_of_the_clone_and_changes_to_the_package_are_told(tmp_path):
    def git(*arguments: str) -> str:
        author = ["-c", "user.name=a", "-c", "user.email=a@b"]
        return subprocess.run(["git", "-C", tmp_path, *author, *arguments], capture_output=True, text=True, check=True).stdout

    assert provenance.commit(tmp_path) == (None, False)
    git("init")
    (tmp_path / "sb3_tare").mkdir()
    (tmp_path / "sb3_tare/a.py").write_text("1")
    git("add", "-A")
    git("commit", "-m", "a")
    (tmp_path / "results.json").write_text("{}")
    assert provenance.commit(tmp_path) == (git("rev-parse", "HEAD").strip(), False)
    (tmp_path / "sb3_tare/a.py").write_text("2")
    assert provenance.commit(tmp_path)[1]


@pytest.mark.parametrize("name", ["ppo", "tare_default"])
def test_a_kept_model_acts_as_the_trained_one_and_has_its_reward_beside_it(name, tmp_path):
    (job,) = tiny(variants=[name])
    done = attempt(job, keep_models=True)
    run_here([job], tmp_path, lambda _: done)
    stem = tmp_path / job.stem
    model = train(job).model
    env = VecNormalize.load(f"{stem}.vecnormalize.pkl", DummyVecEnv([lambda: gym.make(job.env)]))
    assert env.obs_rms.count == model.get_vec_normalize_env().obs_rms.count
    kept = (PPO if name == "ppo" else TAREPPO).load(f"{stem}.zip", env)
    observations = np.random.default_rng(0).normal(size=(8, 3)).astype(np.float32)
    actions, _ = kept.predict(observations, deterministic=True)
    np.testing.assert_array_equal(actions, model.predict(observations, deterministic=True)[0])
    assert Path(f"{stem}.reward.zip").exists() == (name != "ppo")
    assert read(tmp_path / job.filename)["settings"] == job.settings
    if name != "ppo":
        assert RewardLearner.load(f"{stem}.reward.zip").settings == model.reward_learner.settings


def test_the_reward_of_a_callback_is_kept_too(tmp_path):
    (job,) = tiny("off_policy", variants=["sac_decomposed"])
    done = attempt(job, keep_models=True)
    assert isinstance(done, Done), done.why
    assert done.files.keys() == {".zip", ".reward.zip"}


def test_results_alone_are_kept_where_no_models_are_asked_for(tmp_path):
    (job,) = tiny(variants=["ppo"])
    run_here([job], tmp_path, attempt)
    assert [path.name for path in tmp_path.iterdir()] == [job.filename]


def test_runs_that_were_finished_without_their_models_are_counted(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sb3_tare.experiments.run_command.local", lambda jobs, **_: Here()(jobs))
    main(small_run(tmp_path, "ppo"))
    main([*small_run(tmp_path, "ppo"), "--keep-models"])
    assert "1 runs were finished before --keep-models and have no model" in capsys.readouterr().out


def test_the_example_of_a_study_of_ones_own_runs(tmp_path):
    command = [
        sys.executable,
        "-m",
        "sb3_tare.experiments",
        "run",
        "own",
        "--variants-from",
        EXAMPLE,
        "--seeds",
        1,
        "--jobs",
        1,
    ]
    command += ["--variants", "tare_plain", "--envs", "late_pendulum:LatePendulum-v0", "--steps", 256, "--out", tmp_path]
    command += ["--set", "n_steps=64", "--evaluations", 1, "--evaluation-episodes", 1]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    (file,) = tmp_path.glob("*.json")
    assert read(file)["settings"]["env"] == "late_pendulum:LatePendulum-v0"


def parsed(*arguments) -> list:
    return jobs_from(make_parser().parse_args(["run", "own", *map(str, arguments)]))


def test_variants_of_a_file_are_compared_with_the_studys_reference_on_the_files_tasks():
    jobs = parsed("--variants-from", EXAMPLE, "--seeds", 1)
    assert [job.name for job in jobs[:3]] == ["ppo", "tare_wide", "tare_plain"]
    assert list(dict.fromkeys(job.env for job in jobs)) == ["sb3_tare/Corridor-v0", "late_pendulum:LatePendulum-v0"]
    assert jobs[2].variant == Variant("TAREPPO", {"n_steps": 1024}, normalize=False)
    chosen = parsed("--variants-from", EXAMPLE, "--variants", "tare_wide", "tare_default", "--envs", "Hopper-v5")
    assert {(job.name, job.env) for job in chosen} == {("tare_wide", "Hopper-v5"), ("tare_default", "Hopper-v5")}


def test_an_algorithm_of_ones_own_is_found_in_its_module(tmp_path):
    (tmp_path / "my_algorithms.py").write_text("from stable_baselines3 import A2C\n")
    (tmp_path / "my.yml").write_text("variants: {mine: {algorithm: 'my_algorithms:A2C', kwargs: {n_steps: 8}}}")
    (job,) = parsed("--variants-from", tmp_path / "my.yml", "--variants", "mine", "--envs", "Pendulum-v1", "--seeds", 1)
    assert type(job.variant.build(DummyVecEnv([lambda: gym.make(job.env)]), 0)).__name__ == "A2C"


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "must have variants"),
        ("variants: [", "no YAML file"),
        ("variants: {a: {algorithm: PPO}}\nsteps: 3", "nothing else"),
        ("variants: {a: {kwargs: {}}}", "variant a must have algorithm"),
        ("variants: {a: {algorithm: PPO, seed: 1}}", "may have algorithm, kwargs, policy, normalize, history"),
        ("variants: {a: {algorithm: Sarsa}}", "algorithm must be one of PPO.*, or module:Name, got 'Sarsa'"),
        ("variants: {a: {algorithm: 'nowhere:Sarsa'}}", "no algorithm nowhere:Sarsa"),
        ("variants: {a: {algorithm: PPO, normalize: 'no way'}}", "normalize must be of type bool, got 'no way'"),
        ("variants: {ppo: {algorithm: PPO}}", "this package has a variant of that name"),
        ("variants: {a/b: {algorithm: PPO}}", "letters, digits and underscores"),
        ("variants: {a: {algorithm: PPO}}\nenvs: Hopper-v5", "envs in .* must be a list of ids"),
    ],
)
def test_a_mistake_in_a_file_of_variants_is_answered_with_what_would_work(content, told, tmp_path):
    (tmp_path / "my.yml").write_text(content)
    with pytest.raises(ValueError, match=told):
        read_own(tmp_path / "my.yml")


def test_a_file_of_variants_that_is_not_there_is_told(tmp_path):
    with pytest.raises(ValueError, match="no YAML file that can be read"):
        read_own(tmp_path / "my.yml")


def test_results_from_before_commits_were_told_are_read_and_reported(tmp_path):
    (job,) = jobs_of("figure6", 1, ["ppo"], ["Pendulum-v1"], 256, evaluations=2)
    assert "made" not in pretend(job).result
    run_here([job], tmp_path)
    assert main(["report", str(tmp_path)]) == 0

"""Studies: jobs, their results, what runs them, and going on where a study was."""

import csv
import json
import math
import multiprocessing
import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console
from torch import nn

from sb3_tare.experiments.__main__ import main
from sb3_tare.experiments.benchmarks import iterations
from sb3_tare.experiments.reporting import statistics
from sb3_tare.experiments.reporting.report import write_report
from sb3_tare.experiments.running import engines, training
from sb3_tare.experiments.running.engines import Done, Failed, Steps, attempt, local
from sb3_tare.experiments.running.jobs import Job
from sb3_tare.experiments.running.provenance import versions
from sb3_tare.experiments.running.results import read, write
from sb3_tare.experiments.running.runner import run
from sb3_tare.experiments.running.training import Trained, train
from sb3_tare.experiments.studies import STUDIES, jobs_of
from sb3_tare.experiments.variants import ALGORITHMS, TASKS, VARIANTS
from sb3_tare.networks.multiplicative import LSTMbMul

SMALL = {"n_steps": 64, "n_epochs": 1, "batch_size": 32}
SMALL_AWR = {"train_freq": 64, "critic_steps": 2, "actor_steps": 2, "batch_size": 32}
SMALL_SAC = {"learning_starts": 220, "batch_size": 16, "buffer_size": 1_000}


def tiny(study: str = "figure6", seeds: int = 1, variants=("ppo", "tare_mlpmul"), steps: int = 256, **protocol) -> list[Job]:
    protocol = {"evaluations": 2, "evaluation_episodes": 1, **protocol}
    env = "CartPole-v1" if STUDIES[study].measure else "Pendulum-v1"  # discrete actions, and short episodes
    env = "sb3_tare/MiniGrid-DoorKey-5x5-v0" if study == "minigrid" else env
    changes = {"figure6_awr": SMALL_AWR, "off_policy": SMALL_SAC}.get(study, SMALL)
    return jobs_of(study, seeds, variants, [env], steps, changes, **protocol)


def pretend(job: Job) -> Done:
    """A result as training would give it, at once."""
    due = job.evaluation_steps
    result = {
        "settings": job.settings,
        "versions": versions(),
        "episodes": {"timesteps": [200], "returns": [-1000.0]},
        "evaluations": {"timesteps": due, "returns": [[-1000.0 - job.seed] for _ in due]},
        "measured": [],
    }
    return Done(job, result)


class Here:
    """An engine in this process that remembers what it ran."""

    def __init__(self, work=pretend) -> None:
        self.ran: list[Job] = []
        self.work = work

    def __call__(self, jobs):
        for job in jobs:
            self.ran.append(job)
            yield self.work(job)


def run_here(jobs: list[Job], folder: Path, work=pretend) -> tuple[list[Job], str]:
    """The jobs that ran, and what the user was told."""
    engine, console = Here(work), Console(record=True, width=400, file=open(os.devnull, "w"))  # noqa: SIM115
    assert run(jobs, folder, engine, console) == []
    return engine.ran, console.export_text()


def small_run(folder: Path, *variants: str, steps: int = 256) -> list[str]:
    settings = [f"{name}={value}" for name, value in SMALL.items()]
    arguments = ["run", "figure6", "--envs", "Pendulum-v1", "--variants", *variants, "--steps", steps, "--seeds", 1]
    arguments += ["--jobs", 1, "--evaluations", 2, "--evaluation-episodes", 1, "--set", *settings, "--out", folder]
    return list(map(str, arguments))


@pytest.mark.parametrize("study", STUDIES)
def test_a_tiny_version_of_each_study_runs_every_variant_and_has_a_report(study, tmp_path, monkeypatch):
    jobs = tiny(study, variants=())
    assert [job.name for job in jobs] == list(STUDIES[study].variants)
    ran, _ = run_here(jobs, tmp_path, attempt)
    assert ran == jobs
    monkeypatch.setattr(statistics, "REPETITIONS", 20)
    assert tmp_path / "report.html" in write_report(tmp_path, None, Console(quiet=True))
    for job in jobs:
        result = read(tmp_path / job.filename)
        assert result["settings"] == job.settings
        assert len(result["episodes"]["timesteps"]) == len(result["episodes"]["returns"]) >= 1
        assert len(result["measured"]) == (3 if STUDIES[study].measure else 0)
        assert result["evaluations"]["timesteps"] == [0, 128, 256]
        assert [len(returns) for returns in result["evaluations"]["returns"]] == [1, 1, 1]


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_is_plain_data_and_names_an_algorithm_that_there_is(name):
    variant = VARIANTS[name]
    assert json.loads(json.dumps(variant.kwargs)) == variant.kwargs
    assert variant.algorithm in ALGORITHMS


def test_two_narrow_layers_cost_what_one_costs():
    one, two, narrow = (VARIANTS[name].kwargs["reward_kwargs"] for name in STUDIES["depth"].variants)
    sizes = []
    for settings in (one, two, narrow):
        lstm = LSTMbMul(11, 3, **settings.get("architecture_kwargs", {})).lstm
        sizes.append(sum(parameter.numel() for parameter in lstm.parameters()))
    assert sizes[2] == pytest.approx(sizes[0], rel=0.01)
    assert sizes[1] > 1.5 * sizes[0]


def test_figure_5_is_there_as_its_text_and_as_its_caption_name_its_tasks():
    text, caption = STUDIES["figure5"], STUDIES["figure5_caption"]
    assert set(text.envs) == {"Walker2d-v5", "Hopper-v5"}
    assert set(caption.envs) == {"Walker2d-v5", "Ant-v5"}
    assert replace(caption, about=text.about, envs=text.envs) == text


def test_the_cost_of_an_iteration_is_measured_variant_by_variant(tmp_path, monkeypatch, capsys):
    arguments = ["iterations", "depth", "--envs", "Pendulum-v1", "--rounds", "2", "--warm-up", "0"]
    monkeypatch.setattr("sys.argv", [*arguments, "--out", str(tmp_path / "cost.json")])
    iterations.main()
    rows = json.loads((tmp_path / "cost.json").read_text())["iterations"]
    assert [row["variant"] for row in rows] == list(STUDIES["depth"].variants)
    assert all(row["seconds"] > 0 and row["rounds"] == 2 for row in rows)
    assert rows[0]["ratio"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    assert all(row["ratio"]["min"] <= row["ratio"]["median"] <= row["ratio"]["max"] for row in rows)
    printed = capsys.readouterr().out
    assert all(row["variant"] in printed for row in rows)


@pytest.mark.parametrize("name", ["lirpg_lstmbmul", "tare_paper_small"])
def test_variants_of_the_papers_network_that_choose_more_than_its_name_have_its_two_layers(name):
    (job,) = tiny("figure4", variants=[name])
    assert job.variant.build(training.make_env(job), 0).reward_learner.trainer.reward_model.network.lstm.num_layers == 2


def test_on_grids_all_variants_share_the_hosts_settings_and_no_advantage_is_standardised():
    settings = []
    for job in jobs_of("minigrid", 1, envs=["sb3_tare/MiniGrid-DoorKey-5x5-v0"]):
        model = job.variant.build(training.make_env(job), job.seed)
        names = ("n_steps", "batch_size", "n_epochs", "learning_rate", "ent_coef", "normalize_advantage")
        settings.append([getattr(model, name) for name in names])
    assert settings == [[2048, 256, 4, 1e-3, 0.01, False]] * 3


def hidden_sizes(model) -> set[tuple[int, ...]]:
    """Of actor and critic."""
    networks = (model.policy.mlp_extractor.policy_net, model.policy.mlp_extractor.value_net)
    return {tuple(layer.out_features for layer in network if isinstance(layer, nn.Linear)) for network in networks}


def test_awr_has_the_papers_sizes_in_its_study_and_its_authors_elsewhere():
    names = dict.fromkeys(STUDIES["figure6_awr"].variants, (64, 64)) | dict.fromkeys(("awr", "tare_awr"), (128, 64))
    for job in jobs_of("figure6_awr", 1, list(names), ["Ant-v5"]):
        assert job.variant.kwargs["action_std"] == 0.2
        model = job.variant.build(training.make_env(job), job.seed)
        assert hidden_sizes(model) == {names[job.name]}, job.name


@pytest.mark.parametrize("name", ["awr", "tare_awr", "awr_64", "tare_awr_64", "tare_awr_paper"])
def test_awr_has_its_authors_settings_for_each_task_and_the_command_line_its_own(name):
    rates = {"Hopper-v5": 1e-4, "sb3_tare/DelayedHopper-v5": 1e-4, "sb3_tare/NoisyHumanoid-v5": 1e-5, "Pendulum-v1": None}
    for job in jobs_of("figure6_awr", 1, [name], list(rates)):
        assert job.variant.kwargs.get("learning_rate") == rates[job.env]
    (job,) = jobs_of("figure6_awr", 1, [name], ["Ant-v5"], changes={"learning_rate": 1.0})
    assert {"learning_rate": 1.0, "action_std": 0.2}.items() <= job.variant.kwargs.items()


def test_the_papers_awr_estimates_learned_advantages_by_the_hosts_td_lambda():
    (job,) = tiny("figure6_awr", variants=["tare_awr_paper"])

    def returns(**gae_lambda):
        reward_kwargs = {"preset": "paper", **gae_lambda}
        changed = replace(job, variant=job.variant.changed({"reward_kwargs": reward_kwargs}))
        return train(changed).result["evaluations"]["returns"]

    assert train(job).result["evaluations"]["returns"] == returns(gae_lambda=0.95) != returns()


def test_evaluations_and_measures_leave_no_trace_in_training():
    rarely, often = (train(tiny("figure5", variants=["tare_mlpmul"], evaluations=n)[0]).result for n in (1, 4))
    without = train(replace(tiny("figure5", variants=["tare_mlpmul"])[0], measure=None)).result
    assert len(without["episodes"]["returns"]) > 3
    assert without["episodes"] == rarely["episodes"] == often["episodes"]
    assert rarely["measured"][0] == often["measured"][0]
    assert (len(rarely["measured"]), len(often["measured"]), len(without["measured"])) == (2, 5, 0)


def test_an_evaluation_normalises_as_the_training_does_at_that_moment_and_pays_extrinsic_rewards(monkeypatch):
    seen = []

    def evaluate_policy(model, env, *_, **__):
        means = [each.obs_rms.mean for each in (env, model.get_vec_normalize_env())]
        seen.append((*means, env.training, env.norm_reward))
        return [0.0], [1]

    monkeypatch.setattr(training, "evaluate_policy", evaluate_policy)
    train(tiny(variants=["ppo"])[0])
    assert len(seen) == 3
    assert all((ours == theirs).all() and not trains and not scales for ours, theirs, trains, scales in seen)
    assert (seen[1][0] != seen[2][0]).all()


def test_finished_jobs_are_not_run_again(tmp_path):
    run_here(tiny(), tmp_path)
    ran, told = run_here(tiny(seeds=2), tmp_path)
    assert [job.seed for job in ran] == [1, 1]
    assert "2 of 4 runs are finished" in told


def _truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def _edit(path: Path) -> None:
    path.write_text(path.read_text().replace('"timesteps": [200]', '"timesteps": [201]'))


def _empty(path: Path) -> None:
    path.write_bytes(b"")


def _scramble(path: Path) -> None:
    path.write_bytes(b"\xff\xfe\x00[]")


@pytest.mark.parametrize("damage", [_truncate, _edit, _empty, _scramble])
def test_a_damaged_result_is_named_and_its_job_run_again(damage, tmp_path):
    jobs = tiny()
    run_here(jobs, tmp_path)
    whole = (tmp_path / jobs[0].filename).read_bytes()
    damage(tmp_path / jobs[0].filename)
    ran, told = run_here(jobs, tmp_path)
    assert ran == [jobs[0]]
    assert f"{tmp_path / jobs[0].filename} is damaged" in told
    assert (tmp_path / jobs[0].filename).read_bytes() == whole


@pytest.mark.parametrize(
    ("others", "difference"),
    [
        ({"steps": 512}, "steps 256, not 512"),
        ({"study": "figure3"}, 'study "figure6", not "figure3"'),
        ({"seeds": 2, "evaluations": 4}, "evaluations 2, not 4"),
        ({"variants": ["tare_mlpmul"], "steps": 512}, "steps 256, not 512"),
    ],
)
def test_results_of_other_settings_are_an_error_that_says_which(others, difference, tmp_path):
    run_here(tiny(variants=["ppo"]), tmp_path)
    with pytest.raises(ValueError, match=rf"ppo.seed0.json has other settings: {difference}. Use another folder"):
        run_here(tiny(**{"variants": ["ppo"], **others}), tmp_path)


def test_results_of_a_variant_with_other_arguments_are_an_error(tmp_path):
    run_here(tiny(variants=["ppo"]), tmp_path)
    changed = jobs_of(
        "figure6", 2, ["ppo"], ["Pendulum-v1"], 256, {**SMALL, "n_epochs": 3}, evaluations=2, evaluation_episodes=1
    )
    with pytest.raises(ValueError, match=r'other settings: variant .*"n_epochs": 1.*, not .*"n_epochs": 3'):
        run_here(changed, tmp_path)


def test_results_of_other_versions_are_an_error_only_while_something_is_missing(tmp_path):
    (job,) = tiny(variants=["ppo"])
    write(tmp_path, job, {**pretend(job).result, "versions": {**versions(), "torch": "1.0"}})
    assert run_here([job], tmp_path)[0] == []
    with pytest.raises(ValueError, match=r'other versions: torch "1.0", not'):
        run_here(tiny(), tmp_path)


def test_a_result_that_another_node_made_with_other_versions_is_refused(tmp_path):
    (job,) = tiny(variants=["ppo"])

    def engine(jobs):
        for job in jobs:
            yield Done(job, {"settings": job.settings, "versions": {"torch": "1.0"}})

    (failure,) = run([job], tmp_path, engine, Console(quiet=True))
    assert "other versions" in failure.why
    assert not list(tmp_path.iterdir())


def test_two_environments_whose_results_would_share_a_file_are_an_error(tmp_path):
    jobs = jobs_of("figure6", 1, ["ppo"], ["a/b-v0", "a__b-v0"], 256)
    with pytest.raises(ValueError, match=r"several runs have a__b-v0\.ppo\.seed0\.json"):
        run(jobs, tmp_path, Here(), Console(quiet=True))


def test_settings_can_be_chosen_on_other_seeds_than_those_that_report():
    assert [job.seed for job in jobs_of("shrinkage", 2, ["tare_decomposed"], ["Hopper-v5"], first_seed=100)] == [100, 101]


@pytest.mark.parametrize("protocol", [{"evaluations": 0}, {"evaluations": 257}, {"evaluation_episodes": 0}])
def test_a_protocol_that_cannot_work_is_an_error(protocol):
    with pytest.raises(ValueError, match=rf"{next(iter(protocol))} must be .*got {next(iter(protocol.values()))}"):
        tiny(**protocol)


def test_a_job_whose_process_is_killed_fails_alone_and_the_next_has_the_result_that_it_has_here():
    updates = []
    for update in local(tiny(), processes=1):
        if not updates:
            (process,) = multiprocessing.active_children()
            process.kill()
        updates.append(update)
    started, failed, _, *_, done = updates
    assert started == Steps(tiny()[0], 0)
    assert failed == Failed(tiny()[0], "its process ended with exit code -9")
    assert done.job == tiny()[1]
    assert {key: value for key, value in done.result.items() if key != "made"} == train(tiny()[1]).result


def test_closing_an_engine_ends_its_processes():
    updates = local(tiny(steps=100_000), processes=2)
    next(updates)
    assert multiprocessing.active_children()
    updates.close()
    assert not multiprocessing.active_children()


def test_a_job_that_raises_is_told_with_its_traceback_and_the_others_go_on(tmp_path, monkeypatch, capsys):
    def fail(job: Job, *_):
        if job.name == "ppo":
            raise RuntimeError("out of luck")
        return train(job)

    monkeypatch.setattr(engines, "train", fail)
    monkeypatch.setattr("sb3_tare.experiments.run_command.local", lambda jobs, **_: Here(attempt)(jobs))
    assert main(small_run(tmp_path, "ppo", "tare_default")) == 1
    told = capsys.readouterr().out
    assert "ppo on Pendulum-v1, seed 0 failed:\nTraceback" in told
    assert "RuntimeError: out of luck" in told
    assert "ppo on Pendulum-v1, seed 0: failed; 1 of 2 runs are over" in told
    assert [path.name for path in tmp_path.iterdir()] == ["Pendulum-v1.tare_default.seed0.json"]


def test_a_return_that_is_not_finite_fails_its_job_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(
        engines,
        "train",
        lambda job, *_: Trained({**pretend(job).result, "measured": [math.nan] * (job.name == "ppo")}, None, {}),
    )
    (failure,) = run(tiny(), tmp_path, Here(attempt), Console(quiet=True))
    assert failure.job.name == "ppo"
    assert "nan" in failure.why
    assert [path.name for path in tmp_path.iterdir()] == ["Pendulum-v1.tare_mlpmul.seed0.json"]


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, seconds: float = 300.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
def test_a_killed_study_goes_on_without_repeating_finished_jobs(tmp_path):
    command = [sys.executable, "-m", "sb3_tare.experiments", *small_run(tmp_path, "ppo", "tare_mlpmul", steps=2000)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(lambda: list(tmp_path.glob("*.json")))
            workers = children(process.pid)
        finally:
            process.kill()
    wait_until(lambda: not any(map(alive, workers)))  # nobody is left to take their results
    assert [path.name for path in tmp_path.glob("*.json")] == ["Pendulum-v1.ppo.seed0.json"]
    ran, told = run_here(tiny(steps=2000), tmp_path)
    assert [job.name for job in ran] == ["tare_mlpmul"]
    assert "1 of 2 runs are finished" in told


def test_ctrl_c_says_that_finished_runs_are_kept(tmp_path, monkeypatch, capsys):
    def interrupted(jobs, **_):
        yield pretend(jobs[0])
        raise KeyboardInterrupt

    monkeypatch.setattr("sb3_tare.experiments.run_command.local", interrupted)
    with pytest.raises(SystemExit) as ended:
        main(small_run(tmp_path, "ppo", "tare_mlpmul"))
    assert ended.value.code == 130
    assert "finished runs are kept" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize(
    ("arguments", "known"),
    [
        (["run", "figure7"], STUDIES),
        (["run", "figure6", "--variants", "sarsa"], VARIANTS),
        (["run", "figure6", "--envs", "Hoper-v5"], ["Hopper"]),
        (["run", "figure6", "--set", "n_steps"], ["NAME=JSON"]),
        (["run", "figure6", "--seeds", "0"], ["at least 1"]),
        (["run", "figure6", "--first-seed", "-1"], ["--first-seed must be at least 0, got -1"]),
        (["report", "nowhere"], ["no whole result"]),
    ],
)
def test_what_is_unknown_is_answered_with_what_there_is(arguments, known, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    told = capsys.readouterr().err
    assert all(name in told for name in known)


def test_the_list_names_studies_and_variants(capsys):
    assert main(["list"]) == 0
    told = capsys.readouterr().out
    assert all(name in told for name in [*STUDIES, *VARIANTS])
    assert told.count("its task's") == sum(variant.algorithm in TASKS for variant in VARIANTS.values())


def test_a_missing_extra_is_answered_with_the_command_that_installs_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "sb3_tare.experiments.running.cluster", raising=False)
    with pytest.raises(SystemExit):
        main([*small_run(tmp_path, "ppo"), "--address", "auto"])
    assert "[cluster]'" in capsys.readouterr().err


def test_a_missing_extra_of_a_task_is_told_before_anything_runs(tmp_path, monkeypatch, capsys):
    for module in ("minigrid", "minigrid.envs"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit):
        main(["run", "minigrid", "--out", str(tmp_path)])
    assert "[minigrid]'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_engines_are_the_only_ones_that_name_ray():
    sources = Path(engines.__file__).parent.glob("*.py")
    assert [path.name for path in sources if "import ray" in path.read_text()] == ["cluster.py"]


def test_what_the_readme_of_the_study_of_depth_says_is_what_its_results_say():
    folder = Path(__file__).parents[1] / "examples/results/depth"
    readme = (folder / "README.md").read_text()
    with (folder / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        cells = [row["environment"], f"`{row['variant']}`"]
        for kind in ("training", "evaluation"):
            mean, low, high = (float(row[f"{kind}{bound}"]) for bound in ("", "_low", "_high"))
            cells.append(f"{mean:,.0f} ({low:,.0f} to {high:,.0f})")
        assert f"| {' | '.join(cells)} |" in readme
    for cost in json.loads((folder / "cost/iterations.json").read_text())["iterations"]:
        ratio = "{median:.2f} ({min:.2f} to {max:.2f})".format(**cost["ratio"])
        assert f"| {cost['env']} | `{cost['variant']}` | {cost['seconds']:.2f} | {ratio} |" in readme

"""The gallery of a report: what kept models' rewards have learned; and what learners logged along training."""

import json
import re

import gymnasium as gym
import numpy as np
import pytest
from rich.console import Console
from test_report import References, report, result_of, study
from test_studies import tiny
from toys import ITERATION, tare, vec_env

from sb3_tare.experiments.__main__ import main
from sb3_tare.experiments.reporting import gallery, statistics
from sb3_tare.experiments.reporting.logged import KINDS, LOWEST
from sb3_tare.experiments.reporting.report import write_report
from sb3_tare.experiments.running.engines import Done, attempt
from sb3_tare.experiments.running.keeping import files_of, with_reward, write_files
from sb3_tare.experiments.running.results import write
from sb3_tare.experiments.running.training import LOGGED, train
from sb3_tare.experiments.studies import jobs_of
from sb3_tare.utils.generators import generator_states

CHAIN = "sb3_tare/Chain-v0"


@pytest.fixture(autouse=True)
def _few_repetitions(monkeypatch):
    monkeypatch.setattr(statistics, "REPETITIONS", 20)


@pytest.fixture(scope="module")
def files():
    """Files of a model that has learned its reward on the chain."""
    return files_of(tare(vec_env(1, lambda: gym.make(CHAIN)), preset="decomposition").learn(4 * ITERATION))


def keep(folder, files, seed=0, seeds=1):
    """A study on the chain whose learner has left a model for one seed."""
    study(folder, seeds, envs=[CHAIN])
    (job,) = jobs_of("figure3", 1, ["tare_paper"], [CHAIN], 500, first_seed=seed, evaluations=5)
    write_files(folder, job, files)
    return folder


def told(page: str) -> list[str]:
    """Alternative texts of the gallery's pictures."""
    section = page.partition('<h2 id="gallery">')[2].partition("</section>")[0]
    return re.findall(r'role="img" aria-label="([^"]*)"', section)


def test_a_kept_model_is_shown_by_an_episode_with_frames_against_the_truth_and_by_what_it_looks_at(files, tmp_path):
    page = report(keep(tmp_path, files))
    timeline, agreement, importance = told(page)
    assert f"of {CHAIN}, tare_paper, seed 0: 16 steps, " in timeline
    assert re.search(r"by what it earned before delay or noise; correlation -?[01][.\d]*$", agreement)
    assert re.search(r"looks at, most of all .+ \d.*, .+ \d.*, .+ \d", importance)
    assert f"<h3>{CHAIN}, tare_paper, seed 0</h3>" in page
    pictures = {kind: (tmp_path / f"gallery0_{kind}.svg").read_text() for kind in ("timeline", "agreement", "importance")}
    assert pictures["timeline"].count("data:image/png") == 8
    assert len(page) < 700_000


def test_the_page_asks_for_nothing_from_elsewhere(files, tmp_path):
    references = References()
    references.feed(page := report(keep(tmp_path, files)))
    references.addresses += re.findall(r'xlink:href="([^"]*)"', page)
    assert {address.partition(",")[0] for address in references.addresses if address[0] != "#"} == {
        "data:",
        "data:image/png;base64",
    }


def test_two_reports_have_the_same_pictures_and_leave_the_generators_alone(files, tmp_path):
    keep(tmp_path, files)
    first, before = report(tmp_path), generator_states()
    assert report(tmp_path) == first
    for kind, state in generator_states().items():
        np.testing.assert_equal(state, before[kind])


def test_without_kept_models_there_is_no_section_and_nothing_acts(tmp_path, monkeypatch):
    monkeypatch.setattr(gallery, "gallery", None)
    study(tmp_path, envs=[CHAIN])
    page = report(tmp_path)
    assert "Gallery" not in page
    assert not list(tmp_path.glob("gallery*"))


def test_a_report_without_the_gallery_removes_that_of_an_earlier_one(files, tmp_path, monkeypatch):
    report(keep(tmp_path, files))
    assert list(tmp_path.glob("gallery*.svg"))
    monkeypatch.setattr(gallery, "gallery", None)
    assert main(["report", str(tmp_path), "--no-gallery"]) == 0
    assert "Gallery" not in (tmp_path / "report.html").read_text()
    assert not list(tmp_path.glob("gallery*.svg"))


def test_the_first_seed_that_has_a_model_with_its_reward_is_shown(files, tmp_path):
    keep(tmp_path, files, seed=1, seeds=3)
    keep(tmp_path, {".zip": files[".zip"]}, seed=0, seeds=3)
    keep(tmp_path, files, seed=2, seeds=3)
    assert re.findall("<h3>(.*)</h3>", report(tmp_path)) == [f"{CHAIN}, tare_paper, seed 1"]


def test_a_model_that_cannot_be_shown_is_named_and_the_report_goes_on(files, tmp_path, capsys):
    keep(tmp_path, {**files, ".zip": b"damaged"})
    write_report(tmp_path, None, Console(width=500))
    assert "There is no picture of sb3_tare__Chain-v0.tare_paper.seed0.zip: " in capsys.readouterr().out
    page = (tmp_path / "report.html").read_text()
    assert "There is no picture of sb3_tare__Chain-v0.tare_paper.seed0.zip: " in page
    assert "How to repeat it" in page


def test_where_nothing_can_be_rendered_all_else_is_shown(files, tmp_path, monkeypatch):
    monkeypatch.setattr("sb3_tare.envs.Chain.render", lambda self: 1 / 0)
    assert len(told(report(keep(tmp_path, files)))) == 3
    assert "data:image" not in (tmp_path / "gallery0_timeline.svg").read_text()


def test_the_reward_of_a_callback_is_shown_too(tmp_path):
    (job,) = tiny("off_policy", variants=["sac_decomposed"])
    done = attempt(job, keep_models=True)
    assert isinstance(done, Done), done.why
    write(tmp_path, job, done.result)
    write_files(tmp_path, job, done.files)
    page = report(tmp_path)
    assert len(told(page)) == 3
    assert "the extrinsic reward that it was paid; correlation" in page


def test_a_model_without_a_learned_reward_is_not_for_the_gallery(files, tmp_path):
    (job,) = tiny(variants=["ppo"])
    write_files(tmp_path, job, {".zip": files[".zip"]})
    assert with_reward(tmp_path, job.settings) is None
    write_files(tmp_path, job, files)
    assert with_reward(tmp_path, job.settings) == tmp_path / f"{job.stem}.zip"


def with_logs(folder, *logs):
    """A study of one seed for each of these logs."""
    for job, log in zip(jobs_of("figure3", len(logs), ["tare_paper"], ["Hopper-v5"], 500, evaluations=5), logs, strict=True):
        write(folder, job, {**result_of(job), **({} if log is None else {"logged": log})})
    return folder


def test_what_learners_logged_is_drawn_with_a_gap_where_a_seed_has_nothing(tmp_path):
    with_logs(tmp_path, [{}] + [{"correlation": 0.5}] * 5, [{}] * 3 + [{"correlation": 0.7}] * 3)
    page = report(tmp_path)
    assert "at the end, Hopper-v5: tare_paper 0.6" in page
    assert [path.name for path in tmp_path.glob("logged*")] == ["logged_correlation.svg"]


def test_shares_of_totals_far_below_zero_are_drawn_at_the_lowest(tmp_path):
    with_logs(tmp_path, [{"decomposition_r2": -300.0}] * 6)
    assert f"at the end, Hopper-v5: tare_paper {LOWEST:g}" in report(tmp_path)


def test_results_of_before_that_logged_nothing_are_read_beside_others(tmp_path):
    with_logs(tmp_path, None, [{}] + [{"correlation": 0.5}] * 5)
    assert "logged_correlation" not in report(tmp_path)
    with_logs(tmp_path, None, None)
    assert "Over training, " not in report(tmp_path)


@pytest.mark.parametrize("name", ["ppo", "tare_mlpmul"])
def test_results_keep_what_the_learner_had_logged_at_each_evaluation(name):
    (job,) = tiny(variants=[name], steps=512)
    logged = train(job).result["logged"]
    assert json.loads(json.dumps(logged)) == logged
    if name == "ppo":
        assert logged == []
    else:
        assert [list(each) for each in logged] == [[], ["correlation"], ["correlation"]]
        assert set(LOGGED) == set(KINDS)

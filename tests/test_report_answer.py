"""What a report says first: whether a variant ends above the reference, as far as the seeds can tell."""

import html
import re
import shlex

import numpy as np
import pytest
from test_report import report, result_of, study

from sb3_tare.experiments.__main__ import make_parser
from sb3_tare.experiments.reporting import answer
from sb3_tare.experiments.reporting.scores import sort_runs
from sb3_tare.experiments.run_command import jobs_from
from sb3_tare.experiments.running.results import write
from sb3_tare.experiments.studies import jobs_of


def compared(final, seeds=3, envs=("Hopper-v5", "a/Slow-v0"), variants=("ppo", "tare_paper")):
    """Comparisons with PPO of runs that end with ``final(job)``."""
    jobs = jobs_of("figure3", seeds, variants, envs, 500, evaluations=5)
    return answer.compare(sort_runs([result_of(job, returns=(0.0, 1, 2, 3, 4, final(job))) for job in jobs]), "ppo")


def above(job):
    return 5.0 + job.seed + 10 * (job.name != "ppo")


def test_the_page_begins_with_the_answer_and_one_picture(tmp_path):
    study(tmp_path, final=above)
    text = report(tmp_path)
    sentence = "Compared with ppo, tare_paper (100\u00a0%, 100 to 100\u00a0%) ends higher."
    places = [text.index(part) for part in ("<h1>", sentence, "<figure>", "</figure>", "<h2")]
    assert places == sorted(places)
    assert re.findall("<h2[^>]*>(.*?)</h2>", text)[-2:] == ["Settings", "How to repeat it"]


def test_verdicts_are_what_the_seeds_can_tell():
    assert compared(above)["tare_paper"].verdict == "higher"
    assert compared(lambda job: -above(job))["tare_paper"].verdict == "lower"
    assert compared(lambda job: float(job.seed))["tare_paper"].verdict == "open"


@pytest.mark.parametrize(("seeds", "envs", "verdict"), [(3, 1, "open"), (4, 1, "higher"), (2, 2, "open"), (2, 3, "higher")])
def test_where_all_pairs_come_out_alike_by_chance_once_in_twenty_nothing_is_told(seeds, envs, verdict):
    found = compared(above, seeds, [f"a/{index}-v0" for index in range(envs)])["tare_paper"]
    np.testing.assert_array_equal(found.overall.bounds, [[1.0], [1.0]])
    assert found.verdict == verdict


def test_an_interval_that_leaves_one_half_out_is_not_enough_where_chance_brings_as_much():
    finals = {"a/All-v0": (3.1, 3.2, 3.3), "a/More-v0": (2.1, 2.2, 3.1), "a/Half-v0": (1.1, 2.1, 2.2)}  # PPO's: 1, 2, 3
    found = compared(lambda job: finals[job.env][job.seed] if job.name != "ppo" else job.seed + 1.0, envs=list(finals))
    found = found["tare_paper"]
    assert found.overall.bounds[0, 0] > 0.5
    assert found.by_chance > 0.05
    assert found.verdict == "open"


def test_the_picture_of_the_answer_tells_what_chance_brings(tmp_path):
    study(tmp_path, final=above)
    assert "in 5\u00a0% of cases at most, with the runs of each task dealt out anew: tare_paper less than 1\u00a0%." in report(
        tmp_path
    )


def test_one_seed_tells_nothing_and_the_sentence_says_so():
    found = compared(above, seeds=1)
    assert "these seeds cannot tell tare_paper (100\u00a0%) from it" in answer.sentence(found, "ppo")


def test_a_study_of_the_reference_alone_has_nothing_to_compare(tmp_path):
    study(tmp_path, variants=["ppo"])
    assert "There is nothing to compare" in report(tmp_path)
    assert not (tmp_path / "probability_of_improvement.svg").exists()


def test_tasks_need_not_have_as_many_seeds():
    found = compared(lambda job: above(job), variants=("ppo", "tare_paper", "lirpg"))
    assert list(found) == ["tare_paper", "lirpg"]
    assert list(found["lirpg"].by_env) == ["Hopper-v5", "a/Slow-v0"]


def test_the_command_that_repeats_a_study_makes_the_same_jobs(tmp_path):
    changes = {"n_steps": 512, "policy_kwargs": {"net_arch": [8]}}
    jobs = jobs_of("figure3", 2, ["ppo", "tare_paper"], ["Hopper-v5"], 500, changes, first_seed=7, evaluations=5)
    for job in jobs:
        write(tmp_path, job, result_of(job))
    text = report(tmp_path)
    (command,) = re.findall(r"python -m sb3_tare\.experiments (run .*)", html.unescape(text))
    assert jobs_from(make_parser().parse_args(shlex.split(command))) == jobs


def test_arguments_that_variants_no_longer_have_are_named(tmp_path):
    for job in jobs_of("figure3", 2, ["ppo", "tare_paper"], ["Hopper-v5"], 500, evaluations=5):
        result = result_of(job)
        if job.name == "tare_paper":
            result["settings"]["variant"]["kwargs"] = {"reward_kwargs": {"preset": "paper", "gone": 1}}
        write(tmp_path, job, result)
    assert "variants of today have other arguments than those above: tare_paper." in report(tmp_path)


def test_the_page_tells_whether_a_variant_is_above_the_reference_over_the_whole_run_too(tmp_path):
    """Where both end alike, and the reference is ahead until then."""
    jobs = jobs_of("figure3", 4, ("ppo", "tare_paper"), ("Hopper-v5",), 500, evaluations=5)
    for job in jobs:
        lead = 10.0 * (job.name == "ppo")
        write(tmp_path, job, result_of(job, returns=(0.0, lead, lead, lead, lead, 5.0 + job.seed)))
    text = report(tmp_path)
    assert "these seeds cannot tell tare_paper (50\u00a0%" in text
    assert "over all of its evaluations, in place of the last: tare_paper 0\u00a0%, 0 to 0\u00a0% (lower)." in text

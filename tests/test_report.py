"""The report of a study: its numbers, its figures, and a page that needs nothing else."""

import csv
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from sb3_tare.analysis import drawing
from sb3_tare.experiments.__main__ import main
from sb3_tare.experiments.reporting import finals, plots, scores, statistics
from sb3_tare.experiments.reporting.measured import rewards_by_action
from sb3_tare.experiments.reporting.report import write_report
from sb3_tare.experiments.reporting.scores import Scale
from sb3_tare.experiments.running.provenance import versions
from sb3_tare.experiments.running.results import write
from sb3_tare.experiments.studies import jobs_of


@pytest.fixture(autouse=True)
def _few_repetitions(monkeypatch):
    monkeypatch.setattr(statistics, "REPETITIONS", 50)


def result_of(job, returns=(0.0, 1.0, 2.0, 3.0, 4.0, 5.0), episodes=((150, 10.0), (250, 20.0), (450, 40.0), (500, 60.0))):
    """A run of 500 steps with the given evaluations, each of two episodes around its mean, and training episodes."""
    return {
        "settings": job.settings,
        "versions": versions(),
        "episodes": {"timesteps": [step for step, _ in episodes], "returns": [value for _, value in episodes]},
        "evaluations": {"timesteps": job.evaluation_steps, "returns": [[value - 1, value + 1] for value in returns]},
        "measured": [],
    }


def study(folder: Path, seeds: int = 3, variants=("ppo", "tare_paper"), envs=("Hopper-v5", "a/Slow-v0"), final=None):
    """Results of a study in which each run ends with ``final(job)``."""
    final = final or (lambda job: 5.0 + job.seed + 3 * (job.name != "ppo"))
    for job in jobs_of("figure3", seeds, variants, envs, 500, evaluations=5):
        write(folder, job, result_of(job, returns=(0.0, 1.0, 2.0, 3.0, 4.0, final(job))))


def report(folder: Path, reference: str | None = None) -> str:
    write_report(folder, reference, Console(quiet=True))
    return (folder / "report.html").read_text()


class References(HTMLParser):
    """Everything by which a page can ask for something."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.addresses += [
            value for name, value in attributes if name in ("src", "href", "srcset", "data", "action", "poster")
        ]


def test_the_page_holds_its_pictures_and_asks_for_nothing(tmp_path):
    study(tmp_path)
    text = report(tmp_path)
    page = References()
    page.feed(text)
    assert text.count('<svg viewBox="0 0 ') == 6 + 2  # two lines of the legend
    assert set(page.addresses) == {"data:,", *(address for address in page.addresses if address.startswith("#"))}
    assert not page.tags & {"script", "iframe", "object", "embed", "base", "image", "img"}
    assert all(target.startswith("#") for target in re.findall(r'href="([^"]*)"', text.replace("data:,", "#")))
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    assert "@import" not in text


def test_equal_results_give_an_equal_page(tmp_path):
    study(tmp_path)
    assert report(tmp_path) == report(tmp_path)


def test_the_table_holds_the_final_returns_by_hand(tmp_path):
    study(tmp_path, final=lambda job: {0: 10.0, 1: 20.0, 2: 60.0}[job.seed])
    report(tmp_path)
    rows = list(csv.DictReader((tmp_path / "table.csv").open()))
    assert [(row["environment"], row["variant"]) for row in rows] == [
        ("Hopper-v5", "ppo"), ("Hopper-v5", "tare_paper"), ("a/Slow-v0", "ppo"), ("a/Slow-v0", "tare_paper")
    ]  # fmt: skip
    assert rows[0]["evaluation_by_seed"] == "10.0 20.0 60.0"
    assert float(rows[0]["evaluation"]) == 30
    assert 10 <= float(rows[0]["evaluation_low"]) < 30 < float(rows[0]["evaluation_high"]) <= 60
    assert float(rows[0]["training"]) == 50  # episodes that ended after step 400
    assert rows[0]["evaluation_area_by_seed"] == "3.0 4.0 8.0"  # trapezoids under 0, 1, 2, 3, 4 and the end
    assert float(rows[0]["evaluation_area"]) == 5
    assert rows[0]["training_area"] == "nan"  # no episode ended in the first and the fourth fifth


def test_training_returns_are_of_the_steps_between_evaluations():
    (job,) = jobs_of("figure3", 1, ["ppo"], ["Hopper-v5"], 500, evaluations=5)
    curve = scores.training_curve(result_of(job))
    np.testing.assert_array_equal(curve, [np.nan, 10.0, 20.0, np.nan, 50.0])
    assert np.isnan(scores.final_training_return(result_of(job, episodes=[(400, 1.0), (501, 2.0)])))
    assert scores.training_area(result_of(job, episodes=[(100 * k, 1.0 * k) for k in (1, 2, 3, 4, 5)])) == 3


@pytest.mark.parametrize(("value", "score"), [(-1200.0, 0.0), (-200.0, 1.0), (-700.0, 0.5), (-1700.0, -0.5)])
def test_scores_do_not_mind_negative_returns(value, score):
    assert Scale(zero=-1200.0, one=-200.0, spread=0.0).score(value) == score


@pytest.mark.parametrize("final", [-1.0, 2.9])
def test_an_environment_in_which_the_reference_is_not_far_from_chance_is_left_out_and_named(final, tmp_path):
    study(tmp_path, final=lambda job: final if job.env == "a/Slow-v0" and job.name == "ppo" else 5.0)
    assert "Left out, as ppo is not far from chance there or has no result: a/Slow-v0." in report(tmp_path)


def test_a_reference_is_far_from_chance_beyond_three_standard_deviations_of_untrained_episodes():
    assert [Scale(zero=1.0, one=one, spread=2.0).usable for one in (6.9, 7.1)] == [False, True]
    assert [Scale(zero=1.0, one=one, spread=0.0).usable for one in (0.9, 1.0, 1.1)] == [False, False, True]


def test_figures_of_scores_go_where_there_are_none_any_more(tmp_path):
    study(tmp_path)
    report(tmp_path)
    study(tmp_path, final=lambda job: -1.0)
    page = report(tmp_path)
    assert {path.name for path in tmp_path.glob("*.svg")} == {
        "training.svg",
        "evaluation.svg",
        "probability_of_improvement.svg",
    }
    assert page.count("<figure>") == 2


def test_scores_take_only_seeds_that_every_environment_has(tmp_path):
    study(tmp_path, seeds=3)
    (tmp_path / "a__Slow-v0.tare_paper.seed1.json").unlink()
    text = report(tmp_path)
    assert "tare_paper on a/Slow-v0: 2 of 3 seeds" in text
    assert "Seeds that count: ppo 3, tare_paper 2." in text


def test_a_damaged_result_is_left_out_and_named(tmp_path):
    study(tmp_path)
    (tmp_path / "Hopper-v5.ppo.seed0.json").write_text("{")
    assert "Hopper-v5.ppo.seed0.json is damaged" in report(tmp_path)


def test_one_seed_has_no_interval_and_the_page_says_so(tmp_path):
    study(tmp_path, seeds=1)
    assert "There is one seed" in report(tmp_path)
    row = next(csv.DictReader((tmp_path / "table.csv").open()))
    assert (row["evaluation"], row["evaluation_low"], row["evaluation_high"]) == ("5.0", "", "")


def test_the_reference_can_be_chosen(tmp_path):
    study(tmp_path)
    assert "one the mean final return of tare_paper" in report(tmp_path, "tare_paper")
    with pytest.raises(ValueError, match=r"reference 'sarsa'; there are: ppo, tare_paper"):
        report(tmp_path, "sarsa")


def test_results_of_two_studies_in_a_folder_are_an_error(tmp_path):
    study(tmp_path)
    (job,) = jobs_of("figure6", 1, ["ppo"], ["Ant-v5"], 500, evaluations=5)
    write(tmp_path, job, result_of(job))
    with pytest.raises(ValueError, match="figure3, 500 steps, 5 evaluations of 10 episodes; figure6"):
        report(tmp_path)


def test_estimates_are_reproducible_and_the_callers_generator_stays_as_it_is():
    values = np.array([[1.0], [2.0], [3.0], [10.0]])
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    estimate = statistics.interquartile_mean(values)
    assert estimate.value == pytest.approx([2.5])
    assert estimate.bounds is not None
    assert estimate.bounds[0, 0] < 2.5 < estimate.bounds[1, 0]
    np.testing.assert_array_equal(np.random.get_state()[1], before)  # noqa: NPY002
    np.testing.assert_array_equal(statistics.interquartile_mean(values).bounds, estimate.bounds)


def test_the_probability_of_improvement_counts_pairs_and_a_tie_for_one_half():
    found = statistics.probability_of_improvement([np.array([1.0, 3.0]), np.ones(2)], [np.array([2.0, 0.0]), np.ones(3)])
    assert [estimate.value for estimate in found.by_env] == [[0.75], [0.5]]
    assert found.overall.value == [0.625]


def test_a_performance_profile_is_the_share_above_each_threshold():
    profile = statistics.performance_profile(np.array([[0.2, 0.8], [0.4, 1.2]]), np.array([0.0, 0.3, 1.0, 2.0]))
    np.testing.assert_array_equal(profile.value, [1.0, 0.75, 0.25, 0.0])


def test_every_one_of_many_variants_has_a_look_of_its_own():
    styles = drawing.styles_of([str(index) for index in range(30)])
    assert len({(style["color"], style["linestyle"]) for style in styles.values()}) == 30


def test_a_legend_covers_no_curve():
    curve = (np.arange(3), statistics.mean(np.ones((1, 3))))
    figure = plots.panels({"a": {"b": curve, "c": curve}, "d": {"c": curve}}, "return", drawing.styles_of(["b", "c"]))
    figure.draw_without_rendering()
    (legend,) = figure.legends
    assert not any(legend.get_window_extent().overlaps(ax.get_tightbbox()) for ax in figure.axes)
    assert all(ax.get_xlabel() and ax.get_ylabel() and ax.get_title() for ax in figure.axes)


def test_the_caption_of_learned_rewards_by_action_tells_their_means_seed_by_seed():
    def result(left: list[float], right: list[float]) -> dict:
        measured = {"learned": [left, right], "counts": [len(left), len(right)]}
        return {"measured": [measured] * 2, "evaluations": {"timesteps": [0, 128]}}

    results = [result([1.0, 2.0], [0.25]), result([], [3.0, 4.0])]
    histogram, _ = rewards_by_action({"Chain": {"tare_paper": results}})
    assert "Chain, tare_paper, action 0: 1.5, -; Chain, tare_paper, action 1: 0.25, 3.5." in histogram.caption


def test_text_from_results_is_escaped(tmp_path):
    study(tmp_path, envs=["<b>-v0"])
    (damaged := tmp_path / "<i>.json").write_text("{")
    text = report(tmp_path)
    assert "&lt;b&gt;-v0" in text
    assert damaged.exists()
    assert "<b>" not in text
    assert "<i>" not in text


def test_intervals_of_the_page_are_words():
    row = {"environment": "a", "variant": "b", "seeds": 2}
    row |= {f"{kind}{end}": 1.5 for kind in finals.KINDS for end in ("", "_low", "_high")}
    row |= {"evaluation_by_seed": [1.0, 2.0]}
    assert finals.readable(row)["interval"] == "1.5 to 1.5"


def test_a_missing_extra_is_answered_with_the_command_that_installs_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for module in [name for name in sys.modules if name.startswith("sb3_tare.experiments.reporting.")]:
        monkeypatch.delitem(sys.modules, module)
        monkeypatch.delattr(module)
    with pytest.raises(SystemExit):
        main(["report", str(tmp_path)])
    assert "[plots]'" in capsys.readouterr().err

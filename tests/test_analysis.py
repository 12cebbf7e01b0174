"""Pictures, videos and tables of learned rewards, and the command that writes them."""

import os
import pickle
import runpy
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from PIL import Image
from sb3_contrib import MaskablePPO
from stable_baselines3.common.vec_env import VecNormalize
from toys import IMPLICIT, ITERATION, SMALL, Toy, implicit_learner, ppo, tare, vec_env

from sb3_tare import LIRPG, TAREAWR, TAREPPO, RewardLearner
from sb3_tare.analysis import Episode, correlations, histogram, load_model, make_env, record, slope, timeline, write_video
from sb3_tare.analysis.__main__ import main
from sb3_tare.analysis.headless import choose_backend
from sb3_tare.analysis.loading import trained_behind_vec_normalize
from sb3_tare.analysis.video import WIDTH, _images
from sb3_tare.utils.vec_normalize import find_statistics

ROOT = Path(__file__).parents[1]
CHAIN = "sb3_tare/Chain-v0"
STEPS = np.arange(30, dtype=float)


class Masked(Toy):
    """Allows the first action at even time steps and the last one at odd ones."""

    def action_masks(self):
        return [self.time % 2 == 0, False, self.time % 2 == 1]


class Large(Toy):
    """Rewards of another order than one."""

    def step(self, action):
        observation, reward, terminated, truncated, info = super().step(action)
        return observation, 1000 * reward, terminated, truncated, info


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """File of a model that has learned a little on the chain."""
    path = tmp_path_factory.mktemp("models") / "chain.zip"
    TAREPPO("MlpPolicy", CHAIN, reward_kwargs=IMPLICIT, **SMALL).learn(2 * ITERATION).save(path)
    return path


def an_episode(n_frames=0, **rewards):
    frames = {step: np.full((20, 31, 3), 7 * step, dtype=np.uint8) for step in range(n_frames)}
    return Episode(**{"extrinsic": STEPS, "learned": STEPS**2, "actions": STEPS % 2, "frames": frames, **rewards})


def test_a_recorded_episode_has_a_reward_of_each_kind_and_a_frame_for_each_step(saved):
    model = load_model(saved)
    first, second = record(model, make_env(CHAIN, model, film=True), 2, film=True)
    assert len(first.extrinsic) == len(first.learned) == len(first.undistorted) == len(first.actions) == len(first.frames)
    assert len(first.learned) <= 16
    assert max(first.frames[0].shape) == 320
    assert not second.frames
    assert first.learned.any()


def test_a_model_fresh_from_training_is_watched_behind_its_own_statistics_which_stay_as_they_are():
    env = VecNormalize(vec_env(1, lambda: gym.make("CartPole-v1")))
    model = TAREPPO("MlpPolicy", env, reward_kwargs=IMPLICIT, **SMALL).learn(2 * ITERATION)
    before, watched = env.obs_rms.mean.copy(), make_env("CartPole-v1", model)
    np.testing.assert_array_equal(watched.obs_rms.mean, before)
    assert watched.venv is not env.venv
    assert record(model, watched)[0].learned.any()
    np.testing.assert_array_equal(watched.obs_rms.mean, before)
    np.testing.assert_array_equal(env.obs_rms.mean, before)


def test_frames_show_what_an_action_was_chosen_in(saved):
    model = load_model(saved)
    (episode,) = record(model, make_env(CHAIN, model, film=True), film=True)
    blue = [float((frame == (0, 114, 178)).all(axis=-1).nonzero()[1].mean()) for frame in episode.frames.values()]
    assert blue[0] == pytest.approx(159.5, abs=1)
    np.testing.assert_array_equal(np.diff(blue) > 0, episode.actions[:-1] == 1)


def test_rewards_are_in_the_environments_units():
    env = VecNormalize(vec_env(make=Large))
    model = tare(env, zero_head=False).learn(ITERATION)
    watched = VecNormalize(vec_env(make=Large), training=False, norm_reward=False)
    watched.obs_rms, watched.ret_rms = env.obs_rms, env.ret_rms
    recorded = []
    for watched.norm_reward in (False, True):  # the network sees them normalised in either case
        watched.seed(0)
        recorded.append(record(model, watched, deterministic=True)[0])
    for given, normalised in zip(recorded[0].rewards().values(), recorded[1].rewards().values(), strict=True):
        np.testing.assert_allclose(given, normalised, rtol=1e-6)
        assert np.abs(given).max() > 100
    with pytest.raises(ValueError, match="trained with VecNormalize's observations"):
        record(model, vec_env())


def test_a_saved_reward_learner_speaks_for_its_policy(tmp_path):
    learner = implicit_learner(zero_head=False)
    model = ppo().learn(ITERATION, callback=learner)
    learner.save(tmp_path / "learner")
    loaded = RewardLearner.load(tmp_path / "learner")
    loaded.attach(model)
    recorded = []
    for reward in (learner, loaded):
        env = vec_env()
        env.seed(0)
        recorded.append(record(model, env, reward=reward, deterministic=True)[0].learned)
    np.testing.assert_array_equal(*recorded)
    assert recorded[0].any()
    with pytest.raises(TypeError, match="PPO learns no reward"):
        record(model, vec_env())


def test_awr_is_recorded_as_it_acts():
    model = TAREAWR(
        "MlpPolicy", vec_env(), device="cpu", reward_kwargs={**IMPLICIT, "architecture": "StateAction", "zero_head": False}
    )
    (episode,) = record(model, vec_env())
    assert episode.learned.std() > 0


def test_masks_and_dictionaries_of_observations_are_no_obstacle():
    env = vec_env(make=lambda: Masked(action_space=spaces.Discrete(3)))
    learner = implicit_learner(zero_head=False)
    model = MaskablePPO("MlpPolicy", env, n_steps=64, batch_size=32, device="cpu", seed=0).learn(64, callback=learner)
    (episode,) = record(model, env, reward=learner)
    np.testing.assert_array_equal(episode.actions, [0, 2] * 10)
    assert episode.learned.std() > 0

    env = vec_env(make=lambda: Toy(observation_space=spaces.Dict(a=spaces.Box(-1, 1, (2,)), b=spaces.Discrete(3))))
    (episode,) = record(tare(env, policy="MultiInputPolicy", zero_head=False), env)
    assert episode.learned.std() > 0


def test_recording_needs_one_environment_and_a_camera():
    model = tare()
    with pytest.raises(ValueError, match="got 2 copies"):
        record(model, vec_env(2))
    with pytest.raises(ValueError, match="render_mode='rgb_array', got None"):
        record(model, vec_env(), film=True)


def test_correlations_are_of_steps_and_of_returns():
    monotone, falling = an_episode(), an_episode(extrinsic=-STEPS)
    table = correlations([monotone, falling, an_episode()])
    assert table["n"].tolist() == [90, 3]
    assert table["of"].tolist() == ["rewards of steps", "returns of episodes"]
    alone = correlations([monotone]).iloc[0]
    assert alone["spearman"] == pytest.approx(1.0)
    assert alone["pearson"] == pytest.approx(np.corrcoef(STEPS, STEPS**2)[0, 1])
    assert correlations([falling]).iloc[0]["spearman"] == pytest.approx(-1.0)


def test_a_correlation_that_is_not_there_is_not_a_number():
    constant = correlations([an_episode(learned=0 * STEPS), an_episode()])
    assert constant.iloc[0].notna().all()
    assert correlations([an_episode(learned=0 * STEPS)])[["pearson", "spearman"]].isna().all(axis=None)
    few, enough = (correlations([an_episode(learned=k * STEPS, extrinsic=k * STEPS) for k in range(n)]) for n in (9, 10))
    assert few.iloc[1][["pearson", "spearman"]].isna().all()
    assert enough.iloc[1]["pearson"] == pytest.approx(1.0)


def test_undistorted_rewards_have_correlations_of_their_own():
    table = correlations([an_episode(undistorted=STEPS**2)])
    assert table["learned with"].tolist() == ["extrinsic", "undistorted"] * 2
    assert table.iloc[1]["pearson"] == pytest.approx(1.0)


def test_the_timeline_draws_rewards_and_returns_and_covers_nothing_with_its_legend():
    figure = timeline(an_episode(n_frames=30, undistorted=STEPS / 2), "title")
    panels = [ax for ax in figure.subfigs[1].axes if ax.lines]
    drawn = [[line.get_ydata() for line in ax.lines] for ax in panels]
    expected = [[STEPS, STEPS / 2], [STEPS.cumsum(), STEPS.cumsum() / 2], [STEPS**2], [(STEPS**2).cumsum()]]
    for lines, curves in zip(drawn, expected, strict=True):
        np.testing.assert_array_equal(lines, curves)
    assert all(ax.get_ylabel() for ax in panels)
    assert panels[-1].get_xlabel()
    figure.draw_without_rendering()
    legend = figure.subfigs[1].legends[0].get_window_extent()
    assert not any(legend.overlaps(ax.bbox) for ax in panels)
    assert len(figure.subfigs[0].axes) == 8


def test_the_picture_tells_the_scale_of_the_learned_reward():
    figure = timeline(an_episode(learned=0.01 * STEPS))
    (said,) = (title for ax in figure.axes if (title := ax.get_title(loc="left")))
    assert "extrinsic 8.66, learned 0.0866" in said


def test_learned_rewards_stand_by_action_where_there_are_few():
    def labels(space):
        return histogram([an_episode()], space).axes[0].get_legend_handles_labels()[1]

    assert labels(spaces.Discrete(2)) == ["action 0", "action 1"]
    assert labels(spaces.Discrete(11)) == ["all steps"]
    assert labels(spaces.Box(-1, 1, (1,))) == ["all steps"]


@pytest.mark.parametrize("n_frames", [0, 30])
def test_a_gif_has_as_many_frames_as_steps(n_frames, tmp_path):
    write_video(an_episode(n_frames, learned=0 * STEPS, extrinsic=0 * STEPS), tmp_path / "episode.gif", fps=20)
    with Image.open(tmp_path / "episode.gif") as gif:
        assert gif.n_frames == 30
        assert gif.info["duration"] == 50
        assert gif.width == WIDTH


def test_frames_of_a_long_episode_differ_so_that_no_format_drops_one():
    zeros = np.zeros(10 * WIDTH)  # many steps in each column of the timeline
    images = list(islice(_images(an_episode(extrinsic=zeros, learned=zeros, actions=zeros)), 20))
    assert all(first.tobytes() != second.tobytes() for first, second in pairwise(images))


def test_an_mp4_has_as_many_frames_as_steps(tmp_path):
    ffmpeg = pytest.importorskip("imageio_ffmpeg")
    write_video(an_episode(30), tmp_path / "episode.mp4")
    assert ffmpeg.count_frames_and_secs(str(tmp_path / "episode.mp4"))[0] == 30
    with pytest.raises(ValueError, match=r"must end in .gif or .mp4, got 'episode.avi'"):
        write_video(an_episode(30), tmp_path / "episode.avi")


def test_a_file_tells_of_which_algorithm_it_is(saved, tmp_path):
    assert type(load_model(saved)) is TAREPPO
    LIRPG("MlpPolicy", vec_env(), **SMALL).save(tmp_path / "lirpg")
    assert type(load_model(tmp_path / "lirpg")) is LIRPG
    ppo().save(tmp_path / "ppo")
    with pytest.raises(ValueError, match="does not tell of which algorithm it is"):
        load_model(tmp_path / "ppo")
    assert type(load_model(tmp_path / "ppo", "PPO")) is type(ppo())
    with pytest.raises(ValueError, match="there is no algorithm 'Nothing'"):
        load_model(tmp_path / "ppo", "Nothing")


def test_the_command_writes_everything(saved, tmp_path, capsys):
    out = tmp_path / "new" / "folder"
    assert main([str(saved), "--env", CHAIN, "--out", str(out), "--episodes", "3"]) == 0
    names = {"timeline.png", "histogram.png", "agreement.png", "importance.png", "correlations.csv", "episode.gif"}
    assert {path.name for path in out.iterdir()} == names
    assert all(path.stat().st_size > 0 for path in out.iterdir())
    printed = capsys.readouterr().out
    assert "rewards of steps" in printed
    assert all(name in printed for name in names)
    assert "raise --episodes" in printed
    assert "standard deviation of a step's reward: extrinsic" in printed


def normalised(folder: Path, name: str) -> tuple[Path, Path]:
    """A model that was trained behind ``VecNormalize``, and the file of the statistics where rl-zoo3 puts it."""
    env = VecNormalize(vec_env(make=lambda: gym.make(CHAIN)), norm_obs=False)
    TAREPPO("MlpPolicy", env, reward_kwargs=IMPLICIT, **SMALL).learn(ITERATION).save(folder / name)
    (folder / name).mkdir()
    env.save(str(folder / name / "vecnormalize.pkl"))
    return folder / f"{name}.zip", folder / name / "vecnormalize.pkl"


def test_the_command_finds_the_statistics_that_belong_to_a_model_or_refuses(saved, tmp_path, capsys):
    model, statistics = normalised(tmp_path, "chain")
    arguments = ["--env", CHAIN, "--out", str(tmp_path / "out"), "--video", "none", "--episodes", "1"]
    main([str(model), *arguments])
    assert f"VecNormalize as in {statistics}" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main([str(model), *arguments, "--env", "Pendulum-v1"])
    assert f"{statistics} has statistics of another environment than Pendulum-v1" in capsys.readouterr().err
    for content, sentence in (
        (b"nothing of the kind", "is damaged: a VecNormalize cannot be read"),
        (pickle.dumps({}), "holds a dict"),
    ):
        garbage = tmp_path / "garbage.zip"
        garbage.write_bytes(content)
        with pytest.raises(SystemExit):
            main([str(model), *arguments, "--vecnormalize", str(garbage)])
        told = capsys.readouterr().err
        assert str(garbage) in told
        assert sentence in told
    statistics.unlink()
    with pytest.raises(SystemExit):
        main([str(model), *arguments])
    assert "chain.zip was trained behind VecNormalize" in capsys.readouterr().err
    main([str(saved), *arguments])
    assert "VecNormalize" not in capsys.readouterr().out


def test_the_command_refuses_a_reward_that_was_saved_beside_another_model(tmp_path, capsys):
    learner, file = implicit_learner(), tmp_path / "model.zip"
    model = ppo(vec_env(make=lambda: gym.make(CHAIN))).learn(ITERATION, callback=learner)
    model.save(file)
    learner.save(tmp_path / "model.reward.zip", file)
    arguments = [str(file), "--env", CHAIN, "--out", str(tmp_path / "out"), "--video", "none", "--algorithm", "PPO"]
    assert main([*arguments, "--episodes", "1"]) == 0
    model.learn(ITERATION).save(file)
    with pytest.raises(SystemExit):
        main(arguments)
    assert "was saved beside another model.zip" in capsys.readouterr().err


def test_statistics_lie_where_sb3_rl_zoo3_and_studies_put_them(tmp_path):
    def found(model, was_used=None):
        return find_statistics(tmp_path / model, was_used, "with --vecnormalize")

    assert found("best_model.zip") is None
    for name in ("a/vecnormalize.pkl", "rl_model_vecnormalize_256_steps.pkl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert found("best_model.zip") == found("a") == found("rl_model_512_steps") == tmp_path / "a/vecnormalize.pkl"
    assert found("rl_model_256_steps.zip") == tmp_path / "rl_model_vecnormalize_256_steps.pkl"
    (tmp_path / "best_model.vecnormalize.pkl").touch()
    assert found("best_model") == found("best_model.zip") == tmp_path / "best_model.vecnormalize.pkl"
    (tmp_path / "best_model.vecnormalize.pkl").unlink()
    assert found("best_model.zip", was_used=False) is None
    (tmp_path / "b").mkdir()
    (tmp_path / "b/vecnormalize.pkl").touch()
    assert found("a.zip") == tmp_path / "a/vecnormalize.pkl"
    with pytest.raises(ValueError, match=r"name the statistics of .*best_model\.zip with --vecnormalize"):
        found("best_model.zip")
    (tmp_path / "vecnormalize.pkl").touch()
    assert found("best_model.zip") == tmp_path / "vecnormalize.pkl"


def test_a_saved_learner_tells_whether_its_model_was_normalised_and_lies_beside_it(tmp_path, capsys):
    for name, env in (
        ("plain", vec_env(make=lambda: gym.make(CHAIN))),
        ("behind", VecNormalize(vec_env(make=lambda: gym.make(CHAIN)), norm_obs=False)),
    ):
        model, learner = ppo(env), implicit_learner()
        model.learn(ITERATION, callback=learner)
        model.save(tmp_path / name)
        learner.save(tmp_path / f"{name}.reward.zip")
        assert trained_behind_vec_normalize(tmp_path / f"{name}.reward.zip") is (name == "behind")
    arguments = ["--algorithm", "PPO", "--env", CHAIN, "--out", str(tmp_path / "out"), "--video", "none", "--episodes", "1"]
    main([str(tmp_path / "plain.zip"), *arguments])
    assert "rewards of steps" in capsys.readouterr().out


def test_a_run_does_not_fail_for_a_video_alone(saved, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("sb3_tare.analysis.command.write_video", lambda *args: 1 / 0)
    assert main([str(saved), "--env", CHAIN, "--out", str(tmp_path), "--episodes", "1"]) == 0
    assert "there is no video (division by zero)" in capsys.readouterr().out


def test_mujoco_renders_without_a_screen_where_it_can(monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "MUJOCO_GL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setattr("sb3_tare.analysis.headless._works", lambda backend: backend == "osmesa")
    assert choose_backend(CHAIN) is None
    monkeypatch.setenv("MUJOCO_GL", "")
    monkeypatch.delenv("MUJOCO_GL")
    assert choose_backend("Hopper-v5") == os.environ["MUJOCO_GL"] == "osmesa"
    assert choose_backend("Hopper-v5") is None
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setenv("DISPLAY", ":0")
    assert choose_backend("Hopper-v5") is None


@pytest.mark.parametrize(
    ("command", "package", "extra"),
    [("analysis", "matplotlib", "plots"), ("analysis", "pandas", "plots"), ("zoo", "rl_zoo3", "zoo")],
)
def test_a_missing_extra_is_one_sentence_that_says_what_to_install(command, package, extra):
    program = (
        f"import sys, runpy; sys.modules[{package!r}] = None; runpy.run_module('sb3_tare.{command}', run_name='__main__')"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 1
    (sentence,) = result.stderr.splitlines()
    assert f"this needs the package {package}: pip install '{ROOT}[{extra}]'" in sentence


def test_the_command_says_that_an_environment_cannot_be_rendered(saved, tmp_path, capsys, monkeypatch):
    from sb3_tare.envs import Chain

    monkeypatch.setattr(Chain, "render", lambda self: 1 / 0)
    main([str(saved), "--env", CHAIN, "--out", str(tmp_path), "--episodes", "1", "--video", "none"])
    assert "cannot be rendered, so that there are no frames (ZeroDivisionError" in capsys.readouterr().out
    assert {path.name for path in tmp_path.iterdir()} == {
        "timeline.png",
        "histogram.png",
        "agreement.png",
        "importance.png",
        "correlations.csv",
    }


def test_the_command_explains_mistakes(saved, tmp_path, capsys):
    for arguments, explanation in (
        ([str(saved), "--env", "Pendulum-v1"], "Observation spaces do not match"),
        ([str(saved), "--env", "Nowhere-v0"], "Nowhere"),
        ([str(tmp_path / "none.zip"), "--env", CHAIN], "/none.zip'\n"),
        ([str(saved), "--env", CHAIN, "--episodes", "0"], "--episodes must be at least 1"),
    ):
        with pytest.raises(SystemExit):
            main([*arguments, "--out", str(tmp_path)])
        assert explanation in capsys.readouterr().err


def test_the_example_looks_at_what_it_has_learned(tmp_path, monkeypatch, capsys):
    arguments = ["--steps", "2048", "--episodes", "2", "--plot", str(tmp_path / "picture.png")]
    monkeypatch.setattr("sys.argv", ["inspect_learned_reward.py", *arguments])
    runpy.run_path(str(Path(__file__).parents[1] / "examples/inspect_learned_reward.py"), run_name="__main__")
    assert "returns of episodes" in capsys.readouterr().out
    assert (tmp_path / "picture.png").stat().st_size > 0


def test_an_environment_of_the_toys_is_recorded_to_its_end():
    (episode,) = record(tare(), vec_env(make=lambda: Toy(horizon=7)))
    assert len(episode.learned) == 7
    assert episode.undistorted is None


def test_the_slope_on_a_part_is_how_much_of_it_is_learned():
    generator = np.random.default_rng(0)
    cost, other = -np.square(generator.normal(size=5_000)), 5.0 * generator.normal(size=5_000)
    assert slope(other + cost, cost) == pytest.approx(1.0, abs=0.15)
    assert slope(other + 0.1 * cost, cost) == pytest.approx(0.1, abs=0.15)
    assert slope(3.0 - 2.0 * cost, cost) == pytest.approx(-2.0)


@pytest.mark.parametrize(("learned", "part"), [([1.0, 2.0], [3.0, 3.0]), ([1.0], [1.0, 2.0]), ([], [])])
def test_there_is_no_slope_on_what_never_varies_or_does_not_fit(learned, part):
    with pytest.raises(ValueError, match="part must"):
        slope(learned, part)

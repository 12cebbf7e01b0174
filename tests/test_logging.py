"""The learner logs under reward/; what SB3 logs stays what it is, and the episode reward stays extrinsic."""

import csv
import itertools
import math
import time

import numpy as np
import pytest
from sb3_contrib import TRPO, MaskablePPO
from sb3_contrib.common.envs import InvalidActionEnvDiscrete
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from toys import ITERATION, SMALL, TINY_NET, Delayed, Toy, Watch, implicit_learner, ppo, recorded_rollouts, tare, vec_env

ALWAYS = {
    "learned_mean",
    "learned_std",
    "extrinsic_mean",
    "extrinsic_std",
    "alignment_learned",
    "alignment_extrinsic",
    "seconds",
}
STEP = {"hypergradient_norm", "cg_residual", "cg_steps", "negative_curvature"}


def logged(model, prefix="reward/"):
    """What is waiting to be written, by name without the prefix."""
    values = model.logger.name_to_value.items()
    return {name.removeprefix(prefix): value for name, value in values if name.startswith(prefix)}


def rows(folder):
    """The lines of the file that SB3's csv logger wrote, as numbers."""
    with open(folder / "progress.csv", newline="") as file:
        return [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]


@pytest.mark.parametrize(
    ("settings", "names"),
    [
        ({}, ALWAYS | STEP | {"correlation", "critic_loss"}),
        ({"validation": "next_rollout"}, ALWAYS | STEP | {"correlation", "critic_loss"}),
        ({"critics": 1}, ALWAYS | STEP | {"correlation"}),
        ({"n_reward_updates": 0, "zero_head": False}, ALWAYS | {"correlation", "critic_loss"}),
        ({"interleave": True, "swap": False}, ALWAYS | STEP | {"correlation", "critic_loss"}),
    ],
    ids=["split", "next_rollout", "one_critic", "no_reward_step", "interleaved"],
)
def test_every_number_of_the_reward_phase_is_logged_and_finite(settings, names):
    model = tare(**settings).learn(3 * ITERATION)
    values = logged(model)
    assert values.keys() == names
    assert all(isinstance(value, float) and math.isfinite(value) for value in values.values())


@pytest.mark.parametrize("algorithm", [PPO, A2C, TRPO, MaskablePPO])
def test_the_callback_logs_the_same_on_every_host(algorithm):
    masked = algorithm is MaskablePPO
    env = vec_env(1, (lambda: InvalidActionEnvDiscrete(dim=3, n_invalid_actions=1)) if masked else Toy)
    kwargs = {"n_steps": 64, "policy_kwargs": dict(TINY_NET), "seed": 0} if algorithm in (A2C, TRPO) else SMALL
    model = algorithm("MlpPolicy", env, **kwargs).learn(2 * ITERATION, callback=implicit_learner(zero_head=False))
    values = logged(model)
    assert values.keys() >= ALWAYS | STEP
    assert all(math.isfinite(value) for value in values.values())


def test_a_reward_that_never_varies_has_no_correlation_and_logs_nothing_that_is_not_finite():
    model = tare(n_reward_updates=0).learn(ITERATION)
    values = logged(model)
    assert "correlation" not in values
    assert values["learned_mean"] == values["learned_std"] == 0.0
    assert all(math.isfinite(value) for value in values.values())


def test_the_numbers_are_those_of_the_rollout():
    model = tare(architecture="StateAction", zero_head=False, validation="next_rollout", n_reward_updates=0)
    rollouts = recorded_rollouts(model.reward_learner)
    model.learn(2 * ITERATION)
    values, rollout = logged(model), rollouts[-1]
    rewards = model.reward_learner.trainer.learned_rewards(rollout).detach().double().numpy()
    extrinsic = rollout.reward.rewards.double().numpy()
    assert values["extrinsic_mean"] == pytest.approx(extrinsic.mean(), rel=1e-5)
    assert values["extrinsic_std"] == pytest.approx(extrinsic.std(ddof=1), rel=1e-5)
    assert values["learned_mean"] == pytest.approx(rewards.mean(), rel=1e-4)
    assert values["learned_std"] == pytest.approx(rewards.std(ddof=1), rel=1e-4)
    assert values["correlation"] == pytest.approx(np.corrcoef(rewards, extrinsic)[0, 1], rel=1e-4)


def test_a_reward_of_zero_is_aligned_as_the_extrinsic_one():
    values = logged(tare(n_reward_updates=0).learn(ITERATION))
    assert values["alignment_learned"] == pytest.approx(values["alignment_extrinsic"], abs=1e-5)
    assert -1.0 <= values["alignment_extrinsic"] <= 1.0


def test_numbers_are_of_one_iteration_and_not_of_all(tmp_path):
    model = tare()
    model.set_logger(configure(str(tmp_path), ["csv"]))
    means = []
    rollouts = recorded_rollouts(model.reward_learner)
    model.learn(4 * ITERATION, callback=Watch(training_end=lambda _: None))
    for rollout in rollouts[:-1]:
        means.append(float(rollout.reward.rewards.double().mean()))
    written = [row["reward/extrinsic_mean"] for row in rows(tmp_path) if "reward/extrinsic_mean" in row]
    # What an iteration learned is written with the next one, as SB3's train/ entries are.
    np.testing.assert_allclose(written, means, rtol=1e-4)


def test_seconds_are_those_of_one_iteration(tmp_path, monkeypatch):
    clock = itertools.count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    model = tare()
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(4 * ITERATION)
    seconds = [row["reward/seconds"] for row in rows(tmp_path) if "reward/seconds" in row]
    assert seconds[0] == seconds[1] == seconds[2] > 0


@pytest.mark.parametrize("bare", [True, False])
@pytest.mark.parametrize("settings", [{}, {"reward_mode": "replace"}], ids=str)
def test_the_episode_reward_is_that_of_the_environment(bare, settings, tmp_path):
    returns, current = [], [0.0]

    def note(watch):
        current[0] += float(watch.locals["rewards"][0])
        if watch.locals["dones"][0]:
            returns.append(current[0])
            current[0] = 0.0

    model = ppo() if bare else tare(**settings)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    # The callback's settings are TAREPPO's own otherwise.
    model.learn(4 * ITERATION, callback=[Watch(step=note), *([implicit_learner(**settings)] if bare else [])])
    assert rows(tmp_path)[-1]["rollout/ep_rew_mean"] == pytest.approx(np.mean(returns), rel=1e-4)
    monitored = model.get_env().get_attr("episode_returns")[0]
    assert len(monitored) == len(returns) == 4 * ITERATION // 20
    assert rows(tmp_path)[-1]["rollout/ep_rew_mean"] == pytest.approx(np.mean(monitored), rel=1e-4)


def test_behind_vec_normalize_the_episode_reward_is_not_normalised(tmp_path):
    model = tare(VecNormalize(vec_env(), norm_reward=True))
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(3 * ITERATION)
    monitored = model.get_env().get_attr("episode_returns")[0]
    assert rows(tmp_path)[-1]["rollout/ep_rew_mean"] == pytest.approx(np.mean(monitored), rel=1e-4)


def test_sb3s_own_entries_are_all_there(tmp_path):
    names = []
    for make in (ppo, tare):
        folder = tmp_path / make.__name__
        model = make()
        model.set_logger(configure(str(folder), ["csv"]))
        model.learn(3 * ITERATION)
        names.append({name for row in rows(folder) for name in row})
    assert {name for name in names[1] if not name.startswith("reward/")} == names[0]


def test_tensorboard_shows_the_reward(tmp_path):
    tare(host={"tensorboard_log": str(tmp_path)}).learn(3 * ITERATION)
    assert [path.name for path in tmp_path.iterdir()] == ["TAREPPO_1"]
    events = EventAccumulator(str(tmp_path / "TAREPPO_1"))
    events.Reload()
    tags = set(events.Tags()["scalars"])
    assert {f"reward/{name}" for name in ALWAYS | STEP} | {"rollout/ep_rew_mean", "train/loss"} <= tags
    assert [event.step for event in events.Scalars("reward/hypergradient_norm")] == [2 * ITERATION, 3 * ITERATION]


def test_tensorboard_runs_may_be_named(tmp_path):
    model = tare(host={"tensorboard_log": str(tmp_path)})
    model.learn(ITERATION, tb_log_name="mine")
    model.learn(ITERATION, tb_log_name="mine")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mine_1", "mine_2"]


def test_it_prints_its_table_only_when_asked(capsys):
    tare().learn(2 * ITERATION)
    assert not capsys.readouterr().out
    tare(host={"verbose": 1}).learn(2 * ITERATION)
    output = capsys.readouterr().out
    assert "reward/" in output
    assert "hypergradient_norm" in output


def test_logging_may_be_rare_or_off():
    model = tare()
    model.learn(3 * ITERATION, log_interval=2)
    model.learn(2 * ITERATION, log_interval=None)
    assert logged(model).keys() >= ALWAYS


def test_the_extrinsic_mean_counts_each_step_once():
    model = tare(vec_env(2, Delayed))
    rollouts = recorded_rollouts(model.reward_learner)
    model.learn(2 * ITERATION)
    assert logged(model)["extrinsic_mean"] == pytest.approx(float(rollouts[0].reward.rewards.mean()), rel=1e-5)

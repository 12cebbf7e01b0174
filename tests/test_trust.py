"""Trust in a reward that is fitted to totals, and a guard that pays the extrinsic one where there is none."""

import math

import numpy as np
import pytest
import torch
from builders import generator
from test_return_decomposition import FAST, N_STEPS, Episodic, episodic, logged
from toys import ITERATION, all_of, differences, generators, policy_of, set_generators, tare, tare_awr, vec_env

from sb3_tare import TAREPPO, RewardLearner
from sb3_tare.rewards.trust import LEAST, REMEMBERED, Trust


def after(rollouts, full=0.5):
    """Trust that has seen rollouts, pairs of predicted and paid totals."""
    trust = Trust(full)
    for predicted, totals in rollouts:
        trust.add(torch.as_tensor(predicted, dtype=torch.float64), torch.as_tensor(totals, dtype=torch.float64))
    return trust


def drawn(n, slope, seed=0, level=0.0):
    """A rollout's predictions, and totals that go with them by ``slope``, with noise of size one."""
    predicted, noise = torch.randn(2, n, dtype=torch.float64, generator=generator(seed))
    return predicted, slope * predicted + noise + level


def guarded(env=None, **settings):
    return tare(episodic(horizon=8) if env is None else env, **{**FAST, "trust_slope": 0.3, **settings})


# Trust


def test_of_one_rollout_it_is_the_correlation():
    predicted, totals = drawn(30, slope=0.7)
    expected = np.corrcoef(predicted, totals)[0, 1]
    assert after([(predicted, totals)]).correlation == pytest.approx(expected)


@pytest.mark.parametrize(("slope", "weight"), [(-1.0, 0.0), (3.0, 1.0)])
def test_what_foresees_the_wrong_episodes_is_not_trusted_and_what_foresees_the_right_ones_is(slope, weight):
    assert after([drawn(40, slope)]).weight == weight


def test_between_none_and_full_it_grows_with_the_correlation():
    trust = after([drawn(40, slope=0.2)])
    assert 0.0 < trust.weight < 1.0
    assert trust.weight == pytest.approx(trust.correlation / 0.5)


def test_policies_that_get_better_are_no_evidence():
    """Between rollouts totals rise with predictions; within each they fall."""
    rollouts = []
    for level in range(10):
        predicted, totals = drawn(5, slope=-2.0, seed=level)
        rollouts.append((predicted + 100 * level, totals + 100 * level))
    assert np.corrcoef(*(np.concatenate([each[i] for each in rollouts]) for i in (0, 1)))[0, 1] > 0.9
    assert after(rollouts).correlation < -0.5


def test_neither_levels_nor_units_matter():
    rollouts = [drawn(6, slope=1.0, seed=seed) for seed in range(4)]
    moved = [(7.0 * predicted - 50.0, 0.1 * totals + 3.0 * seed) for seed, (predicted, totals) in enumerate(rollouts)]
    assert after(moved).correlation == pytest.approx(after(rollouts).correlation)


def test_totals_that_are_all_the_same_say_nothing():
    before = [drawn(20, slope=2.0)]
    constant = [(torch.randn(20, generator=generator(1)), np.full(20, 500.0))] * 50
    assert after([*before, *constant]).correlation == after(before).correlation


def test_a_few_episodes_say_nothing_and_are_not_trusted():
    trust = after([([0.0, 1.0], [0.0, 1.0])] * int(LEAST - 1))
    assert math.isnan(trust.correlation)
    assert trust.weight == 0.0
    assert after([([0.0, 1.0], [0.0, 1.0])] * int(LEAST + 1)).weight == 1.0


def test_what_is_long_past_is_forgotten():
    assert after([drawn(20, slope=3.0, seed=seed) for seed in range(20)]).weight == 1.0
    n_turned = 4 * REMEMBERED // 20
    turned = [drawn(20, slope=-3.0, seed=seed) for seed in range(n_turned)]
    assert after([*(drawn(20, slope=3.0, seed=seed) for seed in range(20)), *turned]).correlation < -0.8


def test_more_episodes_in_a_rollout_than_are_remembered_stand_alone():
    rollout = drawn(2 * REMEMBERED, slope=-1.0)
    assert after([drawn(30, slope=3.0), rollout]).correlation == pytest.approx(after([rollout]).correlation)


# The guard


def test_where_nothing_is_foreseen_the_policy_is_trained_as_on_the_extrinsic_reward(monkeypatch):
    """Two environments in which the same is paid, and rewards that are learned in different ways, make the same policy."""
    monkeypatch.setattr(Trust, "correlation", -1.0)
    policies = [policy_of(guarded(seed=seed).learn(N_STEPS)) for seed in (0, 1)]
    assert not differences(*policies)


def test_where_all_is_foreseen_it_changes_nothing(monkeypatch):
    monkeypatch.setattr(Trust, "correlation", 1.0)
    assert not differences(policy_of(guarded().learn(N_STEPS)), policy_of(guarded(trust_slope=0.0).learn(N_STEPS)))


def test_what_is_logged_tells_how_far_the_reward_is_trusted():
    values = logged(guarded().learn(N_STEPS))
    assert values.keys() >= {"decomposition_correlation", "decomposition_trust"}
    assert 0.0 <= values["decomposition_trust"] <= 1.0
    assert "decomposition_trust" not in logged(guarded(trust_slope=0.0).learn(N_STEPS))


def test_a_guarded_run_goes_on_as_if_it_had_not_been_interrupted(tmp_path):
    def env():
        return vec_env(1, lambda: Episodic(horizon=8, p_end=0.0))

    set_generators(start := generators())
    whole = guarded(env(), decomposition_recent=0.5).learn(8 * ITERATION)
    set_generators(start)
    first = guarded(vec := env(), decomposition_recent=0.5)
    first.learn(4 * ITERATION)
    first.save(tmp_path / "model")
    second = TAREPPO.load(tmp_path / "model", env=vec, force_reset=False)
    second.learn(4 * ITERATION, reset_num_timesteps=False)
    assert not differences(all_of(whole), all_of(second))
    assert not math.isnan(whole.reward_learner.trainer.decomposer.guard.trust.correlation)


@pytest.mark.parametrize("name", ["trust_slope", "decomposition_recent"])
@pytest.mark.parametrize("value", [-0.1, 1.5])
def test_shares_outside_of_zero_to_one_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        RewardLearner(preset="decomposition", **{name: value})


@pytest.mark.parametrize("name", ["trust_slope", "decomposition_recent"])
def test_awr_refuses_what_needs_rollouts(name):
    with pytest.raises(ValueError, match=f"{name}=0.5 needs a host that collects rollouts, which AWR does not"):
        tare_awr(preset="decomposition", **{name: 0.5})

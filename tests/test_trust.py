"""Trust in a learned reward by what is paid where it foretells more, and a guard that pays the extrinsic one elsewhere."""

import math

import numpy as np
import pytest
import torch
from builders import generator
from test_return_decomposition import FAST, N_STEPS, Episodic, episodic, logged
from toys import ITERATION, Toy, all_of, differences, generators, policy_of, set_generators, tare, tare_awr, vec_env

from sb3_tare import TAREPPO, RewardLearner
from sb3_tare.rewards.trust import DOUBT, REMEMBERED, Trust


def after(rollouts, full=0.5):
    """Trust that has seen rollouts, pairs of foretold and paid."""
    trust = Trust(full)
    for foretold, paid in rollouts:
        trust.add(torch.as_tensor(foretold, dtype=torch.float64), torch.as_tensor(paid, dtype=torch.float64))
    return trust


def drawn(n, slope, seed=0, noise=1.0):
    """What is foretold of a rollout's payments, and payments that go with it by ``slope``, with noise."""
    foretold, errors = torch.randn(2, n, dtype=torch.float64, generator=generator(seed))
    return foretold, slope * foretold + noise * errors


def guarded(env=None, **settings):
    return tare(episodic(horizon=8) if env is None else env, **{**FAST, **settings})


# Trust


def test_of_one_rollout_it_is_the_slope_of_least_squares_with_its_error():
    foretold, paid = (each.numpy() for each in drawn(30, slope=0.7))
    trust = after([(foretold, paid)])
    coefficients, covariance = np.polyfit(foretold, paid, 1, cov=True)
    assert trust.slope == pytest.approx(coefficients[0])
    assert trust.error == pytest.approx(math.sqrt(covariance[0, 0]))


@pytest.mark.parametrize("n", [2, 4, 10, 200])
def test_its_error_is_the_deviation_of_slopes_also_where_the_past_has_lost_weight(n):
    seen = [after([drawn(n, slope=1.0, seed=100 * run + rollout) for rollout in range(30)]) for run in range(300)]
    assert np.mean([trust.error**2 for trust in seen]) == pytest.approx(np.var([trust.slope for trust in seen]), rel=0.3)


@pytest.mark.parametrize(("slope", "weight"), [(-2.0, 0.0), (3.0, 1.0)])
def test_what_foretells_the_wrong_payments_is_not_trusted_and_what_foretells_the_right_ones_is(slope, weight):
    assert after([drawn(40, slope)]).weight == weight


def test_between_none_and_full_it_grows_with_the_slope_that_is_believed():
    trust = after([drawn(40, slope=0.3)])
    measured, believed = trust.error**-2 * 36 / 38, DOUBT**-2  # precisions; that of Student's distribution is smaller
    slope = (measured * trust.slope + believed) / (measured + believed)
    assert 0.0 < trust.weight < 1.0
    assert trust.weight == pytest.approx(slope / 0.5)


@pytest.mark.parametrize("noise", [0.0, 3.0, 10.0])
def test_noise_of_payments_is_not_taken_for_error(noise):
    """Noise of ten times the size of rewards leaves a correlation of 0.1."""
    assert after([drawn(2000, slope=1.0, noise=noise)]).weight == 1.0


def test_a_reward_that_foretells_nothing_is_hardly_trusted_however_its_slope_errs():
    weights = [after([drawn(2000, slope=0.0, seed=seed)]).weight for seed in range(200)]
    assert np.mean(weights) < 0.03
    assert max(weights) < 0.2


def test_policies_that_get_better_are_no_evidence():
    """Between rollouts payments rise with what is foretold; within each they fall."""
    rollouts = []
    for level in range(10):
        foretold, paid = drawn(5, slope=-2.0, seed=level)
        rollouts.append((foretold + 100 * level, paid + 100 * level))
    assert np.polyfit(*(np.concatenate([each[i] for each in rollouts]) for i in (0, 1)), 1)[0] > 0.9
    assert after(rollouts).slope < -1.0


def test_levels_do_not_matter():
    rollouts = [drawn(6, slope=1.0, seed=seed) for seed in range(4)]
    moved = [(foretold - 50.0, paid + 3.0 * seed) for seed, (foretold, paid) in enumerate(rollouts)]
    assert after(moved).slope == pytest.approx(after(rollouts).slope)


def test_payments_that_are_all_the_same_say_nothing():
    before = [drawn(20, slope=2.0)]
    constant = [(torch.randn(20, generator=generator(1)), np.full(20, 500.0))] * 50
    assert after([*before, *constant]).slope == after(before).slope


def test_before_payments_tell_it_is_believed_unless_evidence_is_asked_for_or_all_are_the_same():
    constant = ([0.0, 1.0, 5.0], [1.0, 1.0, 1.0])
    assert after([]).weight == 1.0
    assert after([], full=2.0).weight == 0.5
    (asked := Trust(0.5)).require_evidence()
    assert asked.weight == 0.0
    asked.add(torch.tensor([0.0, 1.0]), torch.tensor([0.0, 1.0]))
    assert asked.weight == 1.0
    assert after([constant]).weight == 0.0
    assert after([constant, ([0.0, 1.0], [0.0, 1.0])]).weight == 1.0


def test_where_payments_are_rare_trust_is_kept_until_there_is_evidence_against_it():
    wrong = [drawn(2, slope=-1.0, seed=seed) for seed in range(40)]
    weights = [after(wrong[:n]).weight for n in (1, 2, 3, 40)]
    assert weights == [1.0, 1.0, 1.0, 0.0]


def test_payments_that_hardly_tell_are_no_evidence_against_it():
    weights = [after([drawn(2, slope=1.0, noise=10.0, seed=100 * run + i) for i in range(20)]).weight for run in range(50)]
    assert np.mean(weights) > 0.9


def test_a_payment_that_is_alone_in_its_rollout_waits_for_the_next():
    foretold, paid = drawn(8, slope=1.0, seed=3)
    alone = [(foretold[i : i + 1], paid[i : i + 1]) for i in range(8)]
    pairs = [(foretold[i : i + 2], paid[i : i + 2]) for i in range(0, 8, 2)]
    assert after(alone).slope == after(pairs).slope
    assert after(alone[:-1]).slope == after(pairs[:-1]).slope
    assert math.isnan(after(alone[:1]).slope)
    assert after(alone[:2]).weight == 1.0


def test_its_state_goes_on_where_it_was():
    rollouts = [drawn(n, slope=0.4, seed=seed) for seed, n in enumerate((5, 1, 1, 7, 1))]
    whole, half, rest = after(rollouts), after(rollouts[:2]), Trust(0.5)
    rest.load_state_dict(half.state_dict())
    for pair in rollouts[2:]:
        rest.add(*pair)
    assert differences(whole.state_dict(), rest.state_dict()) == []


def test_that_it_needs_evidence_is_part_of_its_state():
    trust = Trust(0.5)
    trust.load_state_dict(after([([0.0, 1.0], [1.0, 1.0])]).state_dict())
    assert trust.weight == 0.0


def test_a_state_of_before_payments_waited_is_read():
    trust, older = after([drawn(40, slope=0.3)]), Trust(0.5)
    state = trust.state_dict()
    older.load_state_dict({"products": state["products"], "freedom": 39.0})
    assert (older.slope, older.error, older.weight) == (trust.slope, trust.error, trust.weight)


@pytest.mark.parametrize("n", [REMEMBERED // 10, 2 * REMEMBERED])
def test_what_is_long_past_is_forgotten(n):
    n_turned = max(8, 4 * REMEMBERED // n)
    right = [drawn(n, slope=3.0, seed=seed) for seed in range(20)]
    assert after(right).weight == 1.0
    assert after([*right, *(drawn(n, slope=-3.0, seed=seed) for seed in range(n_turned))]).slope < -2.0


# The guard


def test_where_nothing_is_foretold_the_policy_is_trained_as_on_the_extrinsic_reward(monkeypatch):
    """Two environments in which the same is paid, and rewards that are learned in different ways, make the same policy."""
    monkeypatch.setattr(Trust, "weight", 0.0)
    policies = [policy_of(guarded(seed=seed).learn(N_STEPS)) for seed in (0, 1)]
    assert not differences(*policies)


def test_before_anything_is_learned_the_policy_is_trained_on_the_extrinsic_reward():
    """No episode ends; rewards that start from other numbers make the same policy."""
    models = [guarded(vec_env(1, lambda: Toy(horizon=10_000, p_end=0.0)), seed=seed).learn(2 * ITERATION) for seed in (0, 1)]
    assert [logged(model)["decomposition_trust"] for model in models] == [0.0, 0.0]
    assert not differences(*(policy_of(model) for model in models))
    untrained = guarded(vec_env(1, lambda: Toy(horizon=10_000, p_end=0.0)))
    assert "/policy/action_net.weight" in differences(policy_of(models[0]), policy_of(untrained))


@pytest.mark.parametrize(("env", "trust"), [(Toy, 0.0), (Episodic, 1.0)])
def test_in_the_first_rollout_what_is_learned_is_paid_where_payments_are_rare(env, trust):
    model = guarded(vec_env(1, lambda: env(horizon=20, p_end=0.0))).learn(ITERATION)
    assert model.reward_learner.trainer.decomposer.has_learned
    assert logged(model)["decomposition_trust"] == trust


def test_where_all_is_foretold_it_changes_nothing(monkeypatch):
    monkeypatch.setattr(Trust, "weight", 1.0)
    assert not differences(policy_of(guarded().learn(N_STEPS)), policy_of(guarded(trust_slope=0.0).learn(N_STEPS)))


def test_what_is_logged_tells_how_far_the_reward_is_trusted():
    values = logged(guarded().learn(N_STEPS))
    assert values.keys() >= {"decomposition_slope", "decomposition_trust"}
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
    assert not math.isnan(whole.reward_learner.trainer.decomposer.guard.trust.slope)


@pytest.mark.parametrize(
    ("name", "value"), [("trust_slope", -0.1), ("decomposition_recent", -0.1), ("decomposition_recent", 1.5)]
)
def test_numbers_out_of_their_range_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be"):
        RewardLearner(preset="decomposition", **{name: value})


@pytest.mark.parametrize("name", ["trust_slope", "decomposition_recent"])
def test_awr_refuses_what_needs_rollouts(name):
    with pytest.raises(ValueError, match=f"{name}=0.5 needs a host that collects rollouts, which AWR does not"):
        tare_awr(preset="decomposition", **{name: 0.5})

"""The implicit gradient beside a decomposition of returns: at its share, uphill, and averaged over rollouts."""

from typing import Any

import pytest
import torch
from builders import generator, normal
from sb3_contrib import TRPO
from stable_baselines3 import A2C
from stable_baselines3.common.vec_env import VecNormalize
from toys import ITERATION, TINY_NET, Toy, all_of, differences, generators, ppo, set_generators, tare, vec_env

from sb3_tare import TAREPPO, RewardLearner
from sb3_tare.data.labelled import Labelled
from sb3_tare.learning.averaging import GradientAverage
from sb3_tare.policy.gradients import Batch
from sb3_tare.policy.products import flat_gradient
from sb3_tare.rewards.decomposition import Decomposition
from sb3_tare.rewards.episode_memory import Draw
from sb3_tare.settings.groups import DecompositionSettings

BESIDE = {
    "reward_every": 0,
    "preset": "decomposition",
    "decomposition_updates": 3,
    "architecture_kwargs": {"hidden_size": 16},
    "hypergradient_share": 0.1,
    "hypergradient_rollouts": 2,
    "curvature": "identity",
    "trust_slope": 0.0,  # else nothing that is paid depends on the learned reward before it is trusted
}


def toys(n_envs: int = 2, **kwargs: Any) -> Any:
    return vec_env(n_envs, lambda: Toy(**{"p_end": 0.05, **kwargs}))


def trained(n_rollouts: int, env: Any = None, **settings: Any) -> TAREPPO:
    model = tare(toys() if env is None else env, **{**BESIDE, **settings})
    return model.learn(n_rollouts * model.n_envs * ITERATION)


def logged(model: Any) -> dict[str, float]:
    return {name.removeprefix("reward/"): value for name, value in model.logger.name_to_value.items()}


# The mean


def test_a_mean_is_there_when_enough_gradients_are_and_is_used_once():
    average, gradients = GradientAverage(3), normal(6, 4, seed=0)
    for begin in (0, 3):
        for gradient in gradients[begin : begin + 2]:
            assert average.add(gradient) == pytest.approx(float(gradient.norm()))
            assert average.take() is None
        average.add(gradients[begin + 2])
        torch.testing.assert_close(average.take(), gradients[begin : begin + 3].mean(0))
        assert average.take() is None


def test_a_gradient_that_is_not_finite_does_not_enter():
    average = GradientAverage(2)
    average.add(torch.ones(2))
    with pytest.raises(FloatingPointError, match="not finite"):
        average.add(torch.tensor([1.0, torch.nan]))
    average.add(torch.ones(2))
    assert torch.equal(average.take(), torch.ones(2))


# The share


class Drawn:
    """A memory that gives the same draw always."""

    lengths, totals, squared_actions = torch.tensor([6, 6]), torch.tensor([3.0, -2.0]), torch.zeros(2)

    def sample(self, n_episodes: int, n_steps: int, generator: torch.Generator, recent: float = 0.0) -> Draw:
        states = normal(8, 3, seed=0, dtype=torch.float32)
        return Draw(states, torch.zeros(8, 1), self.lengths, self.totals, self.squared_actions)


@pytest.mark.parametrize("share", [0.03, 0.3, 2.0])
def test_each_step_follows_the_direction_at_its_share_of_the_norm(share, monkeypatch):
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 1))
    settings = DecompositionSettings(decomposition_updates=1, hypergradient_share=share)
    fits = Decomposition(lambda states, actions: network(states).flatten(), network.parameters(), settings)
    seen: list[torch.Tensor] = []

    def step() -> None:
        seen.append(torch.cat([parameter.grad.flatten().clone() for parameter in network.parameters()]))

    monkeypatch.setattr(fits._optimizer, "step", step)
    direction = normal(21, seed=1, dtype=torch.float32)
    direction /= direction.norm()
    fits.fit(Drawn(), generator(0))
    fits.fit(Drawn(), generator(0), beside=direction)
    alone, both = seen
    torch.testing.assert_close(both - alone, -share * alone.norm() * direction, rtol=1e-4, atol=1e-6)


def test_a_share_of_zero_is_no_share_bit_for_bit():
    plain = {**BESIDE}
    del plain["hypergradient_share"], plain["hypergradient_rollouts"], plain["curvature"]
    zero = tare(toys(), **{**plain, "hypergradient_share": 0.0, "hypergradient_rollouts": 2}).learn(6 * 2 * ITERATION)
    without = tare(toys(), **plain).learn(6 * 2 * ITERATION)
    assert not differences(all_of(zero), all_of(without))
    assert "hypergradient_norm" not in logged(zero)
    assert all_of(zero)["/reward_learner/waiting"] is None


# The gradient


def kept(model: Any, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Labelled, Any, torch.Tensor]]:
    """Labelled part, validation and gradient of each hypergradient that is taken from now on."""
    trainer, found = model.reward_learner.trainer, []
    weighted, add = trainer.hypergradients.weighted, trainer.average.add

    def keep(labelled: Labelled, steps: Any, held_out: Batch, validation: Any) -> Any:
        found.append([labelled, held_out])
        return weighted(labelled, steps, held_out, validation)

    def keep_gradient(gradient: torch.Tensor) -> float:
        found[-1].append(gradient)
        return add(gradient)

    monkeypatch.setattr(trainer.hypergradients, "weighted", keep)
    monkeypatch.setattr(trainer.average, "add", keep_gradient)
    return found


def test_it_climbs_the_true_objective_of_the_next_rollout(monkeypatch):
    """One small step of the policy on rewards that have moved along it does better on the true rewards, and worse against."""
    model = tare(toys(horizon=8), **BESIDE)
    checked: list[tuple[float, float]] = []
    trainer = model.reward_learner.trainer
    found = kept(model, monkeypatch)
    learn_from = trainer.decomposer.learn_from

    def check_and_learn(*args: Any) -> None:
        if found and len(found[-1]) == 3:
            checked.append(reached(trainer, *found.pop()))
        learn_from(*args)

    monkeypatch.setattr(trainer.decomposer, "learn_from", check_and_learn)
    model.learn(6 * 2 * ITERATION)
    assert len(checked) == 5
    assert all(change == pytest.approx(expected, rel=0.05) and change > 0 for change, expected in checked)


def reached(trainer: Any, labelled: Labelled, held_out: Batch, gradient: torch.Tensor) -> tuple[float, float]:
    """Slope of the held-out objective behind one step of the policy, as the reward moves uphill, and the slope foretold."""
    parameters = trainer.gradients.actor_parameters(trainer.gradients.evaluate(held_out).value)
    outer = trainer.gradients.gradient(held_out)
    moved, uphill = trainer.decomposer.fits.parameters, -gradient / gradient.norm()

    def first_order(size: float) -> float:
        with torch.no_grad():
            for parameter, part in zip(moved, uphill.split([each.numel() for each in moved]), strict=True):
                parameter += size * part.view_as(parameter)
        advantages = trainer.host.standardise(trainer.label(labelled.appraised).differentiable.detach())
        inner = flat_gradient(trainer.gradients.evaluate(Batch(labelled.sample.policy, advantages)).value, parameters)
        return float(inner.double() @ outer.double())

    size = 1e-3
    above = first_order(size)
    below = first_order(-2 * size)
    first_order(size)
    return (above - below) / (2 * size), float(gradient.norm())


def test_true_rewards_judge_it_in_the_unit_in_which_learned_ones_are_paid():
    model = trained(4, VecNormalize(toys(), clip_reward=0.01))
    trainer = model.reward_learner.trainer
    steps = trainer._waiting.reward
    paid = trainer.decomposer.in_paid_unit(steps)
    torch.testing.assert_close(paid.rewards * trainer.decomposer.scale.scale, steps.original_rewards.to(paid.rewards))
    assert float(steps.rewards.abs().max()) <= 0.011 < float(paid.rewards.abs().max())


def test_a_mean_of_as_many_rollouts_as_asked_for_is_followed():
    with_mean = [n for n in range(2, 9) if "averaged_hypergradient_norm" in logged(trained(n))]
    assert with_mean == [3, 5, 7]  # the first rollout has nothing before it that it could judge


def test_it_moves_what_is_learned():
    plain = {name: value for name, value in BESIDE.items() if "hypergradient" not in name}
    without = tare(toys(), **plain).learn(6 * 2 * ITERATION)
    first, second = without.reward_learner.trainer, trained(6).reward_learner.trainer
    pairs = zip(first.reward_model.parameters(), second.reward_model.parameters(), strict=True)
    assert any(not torch.equal(ours, theirs) for ours, theirs in pairs)


def test_before_an_episode_has_ended_it_leads_nowhere():
    model = trained(5, toys(horizon=10_000, p_end=0.0))
    assert logged(model)["hypergradient_norm"] == 0.0
    assert "averaged_hypergradient_norm" not in logged(model)


@pytest.mark.parametrize("curvature", ["fisher", "hessian", "adam"])
def test_every_curvature_serves(curvature):
    assert logged(trained(4, curvature=curvature))["hypergradient_norm"] > 0.0


@pytest.mark.parametrize(("algorithm", "host"), [(A2C, {}), (TRPO, {"batch_size": 32})], ids=["A2C", "TRPO"])
def test_as_a_callback_it_serves_other_hosts(algorithm, host):
    model = algorithm("MlpPolicy", toys(), n_steps=ITERATION, seed=0, policy_kwargs=dict(TINY_NET), **host)
    model.learn(4 * 2 * ITERATION, callback=RewardLearner(**BESIDE))
    assert logged(model)["hypergradient_norm"] > 0.0


def test_a_bare_callback_and_an_algorithm_that_owns_it_train_the_same():
    learner, model = RewardLearner(**BESIDE), ppo(toys())
    model.learn(6 * 2 * ITERATION, callback=learner)
    assert not differences(all_of(trained(6)), all_of(model, learner))


@pytest.mark.parametrize("n_before", [3, 4], ids=["between means", "after one"])
def test_a_saved_run_goes_on_as_if_it_had_not_been_interrupted(n_before, tmp_path):
    set_generators(start := generators())
    whole = trained(8, toys(1, horizon=16, p_end=0.0))
    set_generators(start)
    env = toys(1, horizon=16, p_end=0.0)
    trained(n_before, env).save(tmp_path / "model")
    second = TAREPPO.load(tmp_path / "model", env=env, force_reset=False)
    second.learn((8 - n_before) * ITERATION, reset_num_timesteps=False)
    assert not differences(all_of(whole), all_of(second))


# Refusals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "implicit", "hypergradient_share": 0.1}, "needs return_decomposition=True, got False"),
        ({"n_reward_updates": 1}, "needs n_reward_updates=0, got 1"),
        ({"validation": "split"}, "needs validation='next_rollout', got 'split'"),
        ({"hypergradient_share": -0.1}, "hypergradient_share must be"),
        ({"hypergradient_rollouts": 0}, "hypergradient_rollouts must be a whole number of at least 1"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(settings, message):
    given = settings if "preset" in settings else {**BESIDE, **settings}
    with pytest.raises(ValueError, match=message):
        RewardLearner(**given)


@pytest.mark.parametrize("settings", [{"interleave": True}, {"n_reward_updates": 2}], ids=str)
def test_a_mean_makes_one_step(settings):
    with pytest.raises(ValueError, match="hypergradient_rollouts=3 averages gradients before one step"):
        RewardLearner(preset="implicit", hypergradient_rollouts=3, **settings)


def test_a_mean_waits_for_the_next_fit_where_rollouts_are_too_short_for_one_each():
    """Fits come every three rollouts, and nothing is learned before the first, so that there its gradient is zero."""
    with_mean = [n for n in range(2, 8) if "averaged_hypergradient_norm" in logged(trained(n, reward_every=3 * 2 * ITERATION))]
    assert with_mean == [6]

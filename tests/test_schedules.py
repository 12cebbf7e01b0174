"""Numbers that change along a run: their text, their course, and runs that resume with them to the bit."""

import json

import numpy as np
import pytest
import torch
from off_policy_toys import FAST, tiny
from stable_baselines3 import SAC
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from toys import ITERATION, SMALL, awr, implicit_learner, ppo, tare, tare_awr, vec_env

from sb3_tare import AWR, LIRPG, RewardLearner, RewardSettings
from sb3_tare.utils.schedules import value_at, written

RATES = ("learning_rate", "critic_learning_rate", "decomposition_learning_rate", "reward_coef")
ADDED = {"preset": "implicit", "reward_every": 0}
FIT = {"preset": "decomposition", "reward_every": 0, "decomposition_updates": 2}


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("lin_0.001", [1e-3, 5e-4, 0.0, 0.0]),
        ("lin_1e-3_1e-4", [1e-3, 5.5e-4, 1e-4, 1e-4]),
        ("lin_0.001_0.0001_0.25", [1e-3, 1e-4, 1e-4, 1e-4]),
        (LinearSchedule(1e-3, 2e-3, 0.5), [1e-3, 2e-3, 2e-3, 2e-3]),
        (FloatSchedule(FloatSchedule(LinearSchedule(1e-3, 0.0, 1.0))), [1e-3, 5e-4, 0.0, 0.0]),
        (FloatSchedule(0.003), [3e-3] * 4),
        (ConstantSchedule(0.003), [3e-3] * 4),
        (0.003, [3e-3] * 4),
    ],
    ids=str,
)
def test_a_schedule_is_written_as_text_that_says_the_same(given, expected):
    plain = written("learning_rate", given, above=0.0)
    assert json.loads(json.dumps(plain)) == plain
    assert written("learning_rate", plain, above=0.0) == plain
    values = [value_at(plain, progress) for progress in (1.0, 0.5, 0.0, -0.01)]  # a last rollout runs over
    np.testing.assert_allclose(values, expected, atol=1e-12)
    if isinstance(given, LinearSchedule):
        assert values == [given(progress) for progress in (1.0, 0.5, 0.0, -0.01)]


@pytest.mark.parametrize("name", RATES)
@pytest.mark.parametrize(
    ("value", "message"),
    [
        pytest.param(lambda _: 1e-3, "cannot be written to a file.*'lin_0.001' falls to zero", id="a function"),
        ("lin_fast", "='lin_fast' is no schedule: 'lin_0.001'"),
        ("lin_1_2_3_4", "is no schedule"),
        ("lin_-1", "where it starts, must be a number"),
        ("lin_1_-1", "where it ends, must be a number at least 0.0"),
        ("lin_1_0_2", "in its share of the run, must be a number"),
        ("3e-4", "yaml reads 3e-4 as text"),
    ],
    ids=str,
)
def test_what_is_no_schedule_is_refused_with_what_is_one(name, value, message):
    settings = {"decomposition_learning_rate": {}, "reward_coef": ADDED}.get(name, ADDED)
    with pytest.raises(ValueError, match=f"{name}.*{message}"):
        RewardSettings(**settings, **{name: value})


def test_settings_with_schedules_are_equal_to_what_they_are_saved_as():
    settings = RewardSettings(**ADDED, **dict.fromkeys(RATES, LinearSchedule(1e-2, 1e-3, 0.5)))
    assert RewardSettings(**json.loads(json.dumps(settings.flat()))) == settings
    assert settings.step.learning_rate == "lin_0.01_0.001_0.5"


def bits(model) -> torch.Tensor:
    reward = model.reward_learner.trainer.reward_model
    return torch.cat([each.detach().flatten() for each in (*model.policy.parameters(), *reward.parameters())])


@pytest.mark.parametrize("settings", [ADDED, FIT, {**ADDED, "validation": "next_rollout"}], ids=str)
@pytest.mark.parametrize("algorithm", [tare, tare_awr])
def test_a_schedule_that_stands_still_is_the_number(algorithm, settings):
    settings = {**settings, **({"reward_coef": 0.5} if settings is ADDED else {})}
    names = [name for name in RATES if name != "reward_coef" or name in settings]
    numbers = {**dict.fromkeys(names, 0.01), **settings}
    schedules = {**settings, **{name: f"lin_{numbers[name]}_{numbers[name]}" for name in names}}
    runs = [algorithm(**each).learn(3 * ITERATION) for each in (numbers, schedules)]
    assert torch.equal(*map(bits, runs))


@pytest.mark.parametrize("settings", [ADDED, FIT], ids=str)
@pytest.mark.parametrize("make", [tare, lambda **kwargs: LIRPG("MlpPolicy", vec_env(), reward_kwargs=kwargs, **SMALL)])
def test_a_run_with_schedules_resumes_to_the_bit(settings, make, tmp_path):
    if make is not tare:
        settings = {}
    rates = {name: "lin_0.01_0.001" for name in RATES if name != "reward_coef"}
    if not settings:
        rates.pop("decomposition_learning_rate")
    model = make(**settings, **rates).learn(2 * ITERATION)
    model.save(tmp_path / "model")
    loaded = type(model).load(tmp_path / "model", env=vec_env())
    model.set_env(vec_env())
    for each in (model, loaded):
        torch.manual_seed(0)
        each._last_obs = each._continuation = None
        np.random.seed(0)  # noqa: NPY002
        each.reward_learner.go_on_from([0])
        each.get_env().seed(0)
        each.learn(2 * ITERATION, reset_num_timesteps=False)
    assert torch.equal(bits(model), bits(loaded))


def test_step_sizes_follow_their_schedules():
    model = tare(**ADDED, learning_rate="lin_0.01_0.002", critic_learning_rate="lin_0.02_0.004_0.5").learn(2 * ITERATION)
    rates = {name: each.param_groups[0]["lr"] for name, each in model.reward_learner.trainer.optimisers._by_name.items()}
    assert rates == pytest.approx({"reward": 0.002, "critic": 0.004})
    fitted = tare(**FIT, decomposition_learning_rate="lin_0.01_0.002").learn(2 * ITERATION)
    assert fitted.reward_learner.trainer.decomposer.fits._optimizer.param_groups[0]["lr"] == pytest.approx(0.002)


def test_a_coefficient_that_falls_to_zero_leaves_the_host_alone():
    model = tare(**ADDED, reward_coef="lin_1.0_0.0_0.5").learn(3 * ITERATION)
    assert model.reward_learner.trainer.advantages._coefficient == 0.0
    assert model.logger.name_to_value["reward/learned_std"] > 0.0


@pytest.mark.parametrize("host", ["ppo", "sac"])
def test_a_callback_follows_schedules_too_and_goes_on_with_them(host, tmp_path):
    rate = "lin_0.01_0.002"
    settings = {**FAST, "decomposition_learning_rate": rate} if host == "sac" else {**ADDED, "learning_rate": rate}
    learner = RewardLearner(**settings)
    model = tiny(SAC) if host == "sac" else ppo()
    model.learn(4 * ITERATION, callback=learner)
    learner.save(tmp_path / "learner")
    assert RewardLearner.load(tmp_path / "learner").settings == learner.settings
    trainer = learner.trainer
    optimiser = trainer.decomposer.fits._optimizer if host == "sac" else trainer.optimisers._by_name["reward"]
    assert 0.002 <= optimiser.param_groups[0]["lr"] < 0.005


def test_awr_takes_schedules_as_text(tmp_path):
    model = awr(learning_rate="lin_0.01_0.001", critic_learning_rate="lin_0.02").learn(ITERATION)
    assert model.policy.actor_optimizer.param_groups[0]["lr"] == pytest.approx(0.001)
    assert model.policy.critic_optimizer.param_groups[0]["lr"] == 0.0
    model.save(tmp_path / "model")
    assert AWR.load(tmp_path / "model").critic_lr_schedule(0.5) == pytest.approx(0.01)
    with pytest.raises(ValueError, match="critic_learning_rate='lin_fast' is no schedule"):
        awr(critic_learning_rate="lin_fast")


def test_a_bare_learner_says_what_a_function_should_be():
    with pytest.raises(ValueError, match=r"learning_rate=<function .* cannot be written"):
        implicit_learner(learning_rate=lambda progress: progress)

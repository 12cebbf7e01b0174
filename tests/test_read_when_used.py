"""A learner keeps nothing of its host: what is changed on the model between rollouts counts from then on."""

from typing import Any

import pytest
import torch
from toys import (
    AS_HOST,
    BOX,
    OBSERVATION,
    Toy,
    Watch,
    awr,
    awr_of,
    differences,
    implicit_learner,
    policy_of,
    ppo,
    tare,
    tare_awr,
    vec_env,
)

from sb3_tare import TAREPPO, RewardLearner

N_STEPS = 4 * 2 * 64


def walks() -> Any:
    return vec_env(2, lambda: Toy(OBSERVATION, BOX, horizon=9, p_end=0.05))


def changing(name: str, value: Any, place: str = "model") -> Watch:
    """A callback that sets an attribute of the model, or of its buffer, when the second rollout starts."""

    def change(callback: Watch) -> None:
        if callback.num_timesteps > 0:
            setattr(callback.model if place == "model" else getattr(callback.model, place), name, value)

    return Watch(rollout_start=change)


CHANGES = [
    ("gamma", 0.5, "model"),
    ("gamma", 0.5, "rollout_buffer"),
    ("gae_lambda", 0.3, "rollout_buffer"),
    ("normalize_advantage", False, "model"),
    ("clip_range", lambda progress: 0.01, "model"),
    ("ent_coef", 0.1, "model"),
    ("n_epochs", 1, "model"),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: f"{change[2]}.{change[0]}")
@pytest.mark.parametrize("critics", [1, 2])
def test_a_frozen_learner_follows_ppo_where_a_callback_changes_the_model(change, critics):
    plain = ppo(walks()).learn(N_STEPS, callback=changing(*change))
    learned = tare(walks(), critics=critics, **AS_HOST).learn(N_STEPS, callback=changing(*change))
    assert not differences(policy_of(plain), policy_of(learned))
    assert differences(policy_of(plain), policy_of(ppo(walks()).learn(N_STEPS)))


def other_policy(model: Any) -> Any:
    """One with weights of its own, of the same kind."""
    return type(model)("MlpPolicy", walks(), seed=7, policy_kwargs={"net_arch": [16]}).policy


def test_a_frozen_learner_follows_ppo_on_another_policy():
    plain, learned = ppo(walks()), tare(walks(), **AS_HOST)
    for model in (plain, learned):
        model.policy = other_policy(ppo())
        assert model.policy.state_dict().keys() == ppo().policy.state_dict().keys()
        model.learn(N_STEPS)
    assert not differences(policy_of(plain), policy_of(learned))


def test_the_reward_is_learned_from_the_policy_that_the_model_has_now():
    model = tare(walks())
    model.policy = other_policy(model)
    before = [parameter.detach().clone() for parameter in model.policy.parameters()]
    model.learn(N_STEPS)
    assert model.reward_learner.trainer.gradients.host.policy is model.policy
    assert not all(torch.equal(a, b) for a, b in zip(before, model.policy.parameters(), strict=True))


@pytest.mark.parametrize(("name", "value"), [("td_lambda", 0.3), ("gamma", 0.5), ("temperature", 0.2), ("max_weight", 1.5)])
def test_a_learner_of_awr_that_earns_nothing_follows_awr_where_a_callback_changes_the_model(name, value):
    zero = {"validation": "next_rollout", "n_reward_updates": 0}
    plain = awr(walks()).learn(N_STEPS, callback=changing(name, value))
    learned = tare_awr(walks(), **zero).learn(N_STEPS, callback=changing(name, value))
    assert not [place for place in differences(awr_of(plain), awr_of(learned)) if "reward_learner" not in place]


def test_the_objective_of_awr_has_its_coefficients_of_now():
    model = tare_awr(walks()).learn(2 * 64)
    objective = model.reward_learner.trainer.host.objective
    log_probs, advantages = torch.tensor([-1.0, -2.0]), torch.tensor([0.5, -0.5])
    model.temperature = 3.0
    changed = model.reward_learner.trainer.host.objective
    assert float(objective.value(log_probs, None, advantages)) != float(changed.value(log_probs, None, advantages))


def test_a_learner_whose_model_has_another_policy_than_when_it_was_attached_can_be_saved(tmp_path):
    model = tare(walks())
    model.policy = other_policy(model)
    model.learn(N_STEPS)
    model.save(tmp_path / "model")
    assert not differences(policy_of(TAREPPO.load(tmp_path / "model", env=walks())), policy_of(model))
    learner = implicit_learner()
    host = ppo(walks())
    learner.attach(host)
    host.policy = other_policy(host)
    host.learn(N_STEPS, callback=learner)
    learner.save(tmp_path / "learner")
    assert RewardLearner.load(tmp_path / "learner").settings == learner.settings

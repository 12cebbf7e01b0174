"""Numbers that are not finite stop a run before anything is updated: who, where and when is said, and the last good stays."""

import re

import numpy as np
import pytest
import torch
from stable_baselines3 import SAC, TD3
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn
from toys import (
    ITERATION,
    TINY_NET,
    Broken,
    Toy,
    Watch,
    awr,
    awr_of,
    differences,
    implicit_learner,
    not_finite,
    policy_of,
    ppo,
    tare,
    tare_awr,
    vec_env,
)

from sb3_tare import LIRPG, RewardLearner
from sb3_tare.utils.checks import check_finite
from sb3_tare.utils.last_good import last_good

NAN = float("nan")
BAD = np.array([0.0, NAN, 0.0], dtype=np.float32)


def refused(error, *fragments):
    """``pytest.raises`` for a message that holds all ``fragments``, in any order."""
    return pytest.raises(error, match="".join(f"(?=.*{re.escape(fragment)})" for fragment in fragments))


def second_of_two(at, **broken):
    """Two environments, the second of which breaks at its step ``at``."""
    made = []

    def make():
        made.append(None)
        return Toy() if len(made) == 1 else Broken(at, **broken)

    return vec_env(2, make)


class OneStep(Toy):
    """Episodes of a single step."""

    def __init__(self):
        super().__init__(horizon=1)


def sac(env):
    return SAC("MlpPolicy", env, learning_starts=8, batch_size=8, buffer_size=200, seed=0, policy_kwargs=dict(TINY_NET))


# Where and when


@pytest.mark.parametrize("what", ["reward", "observation"])
@pytest.mark.parametrize("kind", ["TAREPPO", "callback", "SAC"])
def test_what_an_environment_returned_is_named_with_its_index_and_the_step(what, kind):
    env = second_of_two(11, **{what: NAN if what == "reward" else BAD})
    model = {"TAREPPO": tare, "callback": ppo, "SAC": sac}[kind](env)
    learner = {"callback": implicit_learner, "SAC": RewardLearner}.get(kind, lambda: None)()
    with refused(ValueError, f"the environment returned a {what}", "in environment 1 at step 22"):
        model.learn(100, callback=learner)


@pytest.mark.parametrize("what", ["reward", "observation"])
@pytest.mark.parametrize("make", [awr, tare_awr])
def test_awr_names_the_step_of_the_episode(what, make):
    with refused(ValueError, what, "in environment 1 at step 11 of its episode"):
        make(second_of_two(11, **{what: NAN if what == "reward" else BAD})).learn(128)


@pytest.mark.parametrize("kind", ["TAREPPO", "SAC"])
def test_an_infinity_that_statistics_at_rest_would_clip_away_is_found(kind):
    env = VecNormalize(second_of_two(11, reward=float("inf")), training=False)
    learner = RewardLearner() if kind == "SAC" else None
    with refused(ValueError, "reward", "in environment 1 at step 22"):
        {"TAREPPO": tare, "SAC": sac}[kind](env).learn(100, callback=learner)


@pytest.mark.parametrize(
    ("attribute", "name"),
    [("actions", "action"), ("log_probs", "log-probability"), ("values", "value"), ("advantages", "advan")],
)
@pytest.mark.parametrize("bare", [True, False])
def test_what_the_policy_gave_is_named_before_anything_is_updated(attribute, name, bare):
    def poison(watch):
        getattr(watch.model.rollout_buffer, attribute)[5, 1] = NAN

    model = ppo(vec_env(2)) if bare else tare(vec_env(2))
    before, watch = policy_of(model), Watch(rollout_end=poison)
    with refused(ValueError, f"the policy gave a {name}" if name != "advan" else "advantage", "in environment 1 at step 12:"):
        model.learn(2 * ITERATION, callback=[watch, implicit_learner()] if bare else watch)
    assert not differences(before, policy_of(model))


def test_an_action_that_an_off_policy_algorithm_draws_is_named():
    def poison(watch):
        if watch.num_timesteps == 20:
            for parameter in watch.model.actor.parameters():
                parameter.data.fill_(NAN)

    model = TD3("MlpPolicy", vec_env(), learning_starts=8, batch_size=8, buffer_size=200, seed=0, policy_kwargs=dict(TINY_NET))
    with refused(ValueError, "the policy drew a action", "in environment 0 at step 21"):
        model.learn(40, callback=[Watch(step=poison), RewardLearner()])


class OneBad(nn.Module):
    """A reward network that has no number for the step of row 70."""

    sees_reward = False

    def __init__(self, observation_dim, action_dim):
        super().__init__()
        self.head = nn.Linear(observation_dim + action_dim, 1)

    def forward(self, inputs):
        rewards = self.head(inputs.state_action).squeeze(1)
        return torch.where(torch.arange(len(rewards)) == 70, NAN, rewards)


def test_a_learned_reward_is_named_with_its_environment_and_step():
    model = tare(vec_env(2), architecture=OneBad, validation="next_rollout")
    with refused(FloatingPointError, "the reward network", "in environment 1 at step 7 of its rollout"):
        model.learn(2 * ITERATION)


def test_an_entry_of_data_is_named_by_its_own_place():
    values = np.zeros((4, 3, 2))
    values[2, 1, 0] = np.inf
    with refused(ValueError, "at 2, 1, 0"):
        check_finite(values, "number", place=lambda *indices: f"at {', '.join(map(str, indices))}")


def test_where_all_is_finite_nobody_asks_for_the_place():
    check_finite({"a": np.ones(3), "b": 1e200 * np.ones(2)}, "number", place=lambda *_: pytest.fail("asked"))


# The last good parameters


def poisoned(parameters, optimiser):
    sum(parameter.sum() for parameter in parameters).backward()
    optimiser.step()
    parameters[0].data.fill_(NAN)


@pytest.mark.parametrize("steps_before", [0, 2])
def test_an_update_that_leaves_nan_is_undone_with_its_optimiser(steps_before):
    layer = nn.Linear(2, 2)
    optimiser = torch.optim.Adam(layer.parameters())
    for _ in range(steps_before):
        layer(torch.ones(1, 2)).sum().backward()
        optimiser.step()
    weights = [parameter.detach().clone() for parameter in layer.parameters()]
    moments = [entry["exp_avg"].clone() for entry in optimiser.state.values()]
    with (
        refused(FloatingPointError, "the thing", "undone", "do this"),
        last_good(layer.parameters(), optimiser, "thing", "do this"),
    ):
        poisoned(list(layer.parameters()), optimiser)
    assert all(map(torch.equal, weights, layer.parameters()))
    assert all(map(torch.equal, moments, (entry["exp_avg"] for entry in optimiser.state.values())))
    assert len(moments) == len(optimiser.state)


def test_an_interrupted_update_whose_numbers_are_finite_stays_as_far_as_it_got():
    layer = nn.Linear(1, 1)

    def interrupted():
        layer.weight.data.fill_(3.0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), last_good(layer.parameters(), None, "thing", "do this"):
        interrupted()
    assert float(layer.weight) == 3.0


@pytest.mark.parametrize("make", [awr, tare_awr])
@pytest.mark.parametrize("lean", [True, False])
def test_enormous_rewards_leave_the_networks_of_awr_as_they_were(make, lean):
    env = vec_env(1, lambda: Broken(1, reward=1e30))
    model = awr(env, lean=lean) if make is awr else tare_awr(env)
    before = awr_of(model)
    with refused(FloatingPointError, "not finite", "undone", "very large size"):
        model.learn(64)
    after = awr_of(model)
    changed = [name for name in differences(before, after) if "normalizer" not in name and "reward_model" not in name]
    assert not changed
    assert not not_finite(after)


def test_a_poisoned_second_critic_is_noticed_before_the_policy_learns_from_it():
    model = tare(vec_env(2)).learn(2 * ITERATION)
    before = policy_of(model)
    for parameter in model.reward_learner.trainer.reward_model.critic.parameters():
        parameter.data.fill_(NAN)
    with refused(FloatingPointError, "critic", "in environment 0 at step 1 of its rollout"):
        model.learn(2 * ITERATION, reset_num_timesteps=False)
    assert not differences(before, policy_of(model))


@pytest.mark.parametrize("lean", [True, False])
def test_a_policy_that_its_own_update_ruins_is_put_back(lean):
    model = tare(host={"lean": lean, "max_grad_norm": 1e30})
    policy, before = model.policy, policy_of(model)
    policy.optimizer.step = lambda *_, **__: policy.action_net.weight.data.fill_(NAN)
    with pytest.raises((FloatingPointError, ValueError)):
        model.learn(ITERATION)
    after = policy_of(model)
    assert not not_finite(after)
    assert not [name for name in differences(before, after) if name.startswith("/policy")]


@pytest.mark.parametrize("name", ["reward", "critic"])
def test_a_reward_model_that_its_own_steps_ruin_is_put_back(name):
    model = tare().learn(ITERATION)
    optimisers = model.reward_learner.trainer.optimisers
    parameters = optimisers.parameters(name)
    before = [parameter.detach().clone() for parameter in parameters]
    with refused(FloatingPointError, "undone"), optimisers.undoing(name):
        parameters[0].data.fill_(NAN)
    assert all(map(torch.equal, before, parameters))


def test_a_decomposition_that_its_own_fit_ruins_is_put_back():
    model = tare(preset="decomposition", reward_every=0)
    fits = model.reward_learner.trainer.decomposer.fits
    fits._optimizer.step = lambda: fits.parameters[0].data.fill_(NAN)
    with refused(FloatingPointError, "decomposed reward", "undone"):
        model.learn(2 * ITERATION)
    assert all(torch.isfinite(parameter).all() for parameter in fits.parameters)


# Arguments


@pytest.mark.parametrize("value", [0, -1])
def test_a_host_without_epochs_to_train_is_refused(value):
    with refused(ValueError, "n_epochs must be a whole number of at least 1", f"got {value}"):
        tare(host={"n_epochs": value})
    with refused(ValueError, "n_epochs", f"got {value}"):
        ppo(n_epochs=value).learn(ITERATION, callback=implicit_learner())


def test_an_episode_of_one_step_is_too_little_to_split():
    model = tare_awr(vec_env(1, OneStep), host={"train_freq": (1, "episode")})
    before = awr_of(model)
    with refused(ValueError, "train_freq=(1, 'episode') has collected 1", "train_freq=2048", "validation='next_rollout'"):
        model.learn(8)
    assert not [name for name in differences(before, awr_of(model)) if "normalizer" not in name]


def test_adamw_is_told_of_the_decay_that_nobody_gave():
    policy_kwargs = {**TINY_NET, "optimizer_class": torch.optim.AdamW}
    with refused(ValueError, "AdamW with weight_decay=0.01", "its defaults", "torch.optim.Adam"):
        LIRPG("MlpPolicy", vec_env(), n_steps=64, policy_kwargs=policy_kwargs)


@pytest.mark.parametrize("owned", [True, False])
def test_a_learner_that_is_loaded_into_other_spaces_is_refused_with_both(tmp_path, owned):
    if owned:
        tare().save(tmp_path / "file")
    else:
        learner = implicit_learner()
        ppo().learn(ITERATION, callback=learner)
        learner.save(tmp_path / "file")
    wider = Toy().observation_space.__class__(-2.0, 2.0, (3,), dtype=np.float32)
    with refused(ValueError, "observation_space Box(-inf, inf, (3,), float32)", "Box(-2.0, 2.0, (3,), float32)"):
        ppo(vec_env(1, lambda: Toy(wider))).learn(ITERATION, callback=RewardLearner.load(tmp_path / "file"))
    louder = Toy().action_space.__class__(-3.0, 3.0, (2,), dtype=np.float32)
    with refused(ValueError, "action_space Box(-1.0, 1.0, (2,), float32)", "Box(-3.0, 3.0, (2,), float32)"):
        ppo(vec_env(1, lambda: Toy(action_space=louder))).learn(ITERATION, callback=RewardLearner.load(tmp_path / "file"))
    ppo().learn(ITERATION, callback=RewardLearner.load(tmp_path / "file"))

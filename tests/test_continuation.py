"""What goes on, and what must not, when models, learners, parameters and rewards change hands."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from torch import nn
from toys import IMPLICIT, implicit_learner

import sb3_tare
from sb3_tare import TAREPPO, RewardLearner, RewardSettings
from sb3_tare.utils.files import write_atomically

torch.set_num_threads(1)
N_STEPS = 64


class Walk(gym.Env):
    """A random walk without an end; ``pay`` for a positive action."""

    observation_space = spaces.Box(-np.inf, np.inf, (2,), dtype=np.float32)
    action_space = spaces.Box(-1, 1, (1,), dtype=np.float32)

    def __init__(self, pay: float = 1.0) -> None:
        self.pay = pay

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.normal(size=2).astype(np.float32), {}

    def step(self, action):
        return self.np_random.normal(size=2).astype(np.float32), self.pay * float(action[0] > 0), False, False, {}


def tare(env: gym.Env | None = None, seed: int = 0, **reward_kwargs) -> TAREPPO:
    host = {"n_steps": N_STEPS, "n_epochs": 2, "seed": seed, "device": "cpu"}
    return TAREPPO("MlpPolicy", env or Walk(), reward_kwargs={**IMPLICIT, **reward_kwargs}, **host)


def policy_parameters(model: PPO) -> torch.Tensor:
    return nn.utils.parameters_to_vector(model.policy.parameters()).detach().clone()


class Restores(BaseCallback):
    """Puts a model's own parameters back in the middle of a rollout, or at its end."""

    def __init__(self, at_end: bool) -> None:
        super().__init__()
        self.at_end = at_end

    def restore(self) -> None:
        self.model.set_parameters(self.model.get_parameters())

    def _on_step(self) -> bool:
        if not self.at_end and self.n_calls % N_STEPS == N_STEPS // 2:
            self.restore()
        return True

    def _on_rollout_end(self) -> None:
        if self.at_end:
            self.restore()


@pytest.mark.parametrize("at_end", [True, False])
def test_parameters_that_are_set_during_a_run_leave_its_rollout_and_clock_alone(at_end):
    plain, restored = tare().learn(3 * N_STEPS), tare()
    restored.learn(3 * N_STEPS, callback=Restores(at_end))
    assert torch.equal(policy_parameters(plain), policy_parameters(restored))
    assert restored.reward_learner.times == [3 * N_STEPS]


def test_a_rollout_waits_for_the_policy_that_was_updated_on_it_and_for_no_other():
    model = tare(validation="next_rollout").learn(N_STEPS)
    trainer, parameters = model.reward_learner.trainer, model.get_parameters()
    assert trainer.take_waiting() is not None
    other = tare(seed=1, validation="next_rollout").learn(N_STEPS)
    own = {name: parameters[name] for name in ("reward_model", "reward_optimisation")}
    other.set_parameters(own, exact_match=False)
    assert other.reward_learner.trainer.take_waiting() is None
    model.set_parameters(parameters)
    assert model.reward_learner.trainer.take_waiting() is not None


def test_a_rollout_does_not_wait_where_the_next_one_will_not_validate_it(tmp_path):
    host = {"n_steps": N_STEPS, "n_epochs": 1, "seed": 0, "device": "cpu"}
    learner, model = implicit_learner(validation="next_rollout"), PPO("MlpPolicy", Walk(), **host)
    model.learn(N_STEPS, callback=learner)
    assert learner.state_dict()["waiting"] is not None
    learner.save(tmp_path / "learner")
    for changes in ({"validation": "split"}, {"curvature": "hessian", "curvature_episodes": "training"}):
        loaded = RewardLearner.load(tmp_path / "learner", **changes)
        loaded.attach(model)
        assert loaded.state_dict()["waiting"] is None


def test_a_learner_that_could_not_be_loaded_is_not_a_fresh_one_at_the_second_try(tmp_path):
    learner, host = implicit_learner(), {"n_steps": N_STEPS, "device": "cpu"}
    PPO("MlpPolicy", Walk(), **host).learn(N_STEPS, callback=learner)
    learner.save(tmp_path / "learner")
    loaded, model = RewardLearner.load(tmp_path / "learner", critics=1), PPO("MlpPolicy", Walk(), **host)
    for _ in range(2):
        with pytest.raises(RuntimeError, match="critic"):
            model.learn(N_STEPS, callback=loaded)


def test_a_loaded_preset_overrides_what_was_saved(tmp_path):
    learner = RewardLearner(preset="implicit")
    learner.attach(PPO("MlpPolicy", Walk(), n_steps=N_STEPS, device="cpu"))
    learner.save(tmp_path / "learner")
    settings = RewardLearner.load(tmp_path / "learner", preset="paper", swap=False).settings
    assert (settings.advantage.reward_mode, settings.advantage.gae_lambda, settings.schedule.swap) == ("replace", 1.0, False)
    assert settings == RewardSettings(preset="paper", swap=False)


@pytest.mark.parametrize("how", ["argument", "set_random_seed"])
def test_another_seed_counts_more_than_saved_generators(how, tmp_path):
    tare().learn(N_STEPS).save(tmp_path / "model")

    def continued(seed: int) -> torch.Tensor:
        model = TAREPPO.load(tmp_path / "model", env=Walk(), **({"seed": seed} if how == "argument" else {}))
        if how == "set_random_seed":
            model.set_random_seed(seed)
        return policy_parameters(model.learn(N_STEPS, reset_num_timesteps=False))

    assert torch.equal(continued(1), continued(1))
    assert not torch.equal(continued(1), continued(2))


def test_a_trained_model_can_be_pickled():
    model = tare().learn(N_STEPS)
    assert torch.equal(policy_parameters(pickle.loads(pickle.dumps(model))), policy_parameters(model))


def test_a_link_goes_on_pointing_to_the_file_that_is_written(tmp_path):
    (tmp_path / "target").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "target")
    write_atomically(tmp_path / "link", lambda file: file.write(b"new"))
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"new"


class Bonus(BaseCallback):
    """Edits rewards where they are on their way to the buffer."""

    def _on_step(self) -> bool:
        self.locals["rewards"] += 1.0
        return True


def test_rewards_that_are_edited_in_place_are_refused_before_they_are_lost():
    model = tare()
    before = policy_parameters(model)
    with pytest.raises(RuntimeError, match="something edits them in place"):
        model.learn(N_STEPS, callback=Bonus())
    assert torch.equal(policy_parameters(model), before)


def test_a_model_has_one_learner_and_has_it_once(monkeypatch):
    host = {"n_steps": N_STEPS, "n_epochs": 1, "device": "cpu"}
    learner = implicit_learner()
    with pytest.raises(ValueError, match="another RewardLearner in the list"):
        PPO("MlpPolicy", Walk(), **host).learn(N_STEPS, callback=[implicit_learner(), implicit_learner()])
    monkeypatch.setattr(sb3_tare.learning.learner, "callbacks_in", lambda callback: ())  # where a list does not show them
    with pytest.raises(RuntimeError, match="another RewardLearner has taken it"):
        PPO("MlpPolicy", Walk(), **host).learn(N_STEPS, callback=[implicit_learner(), implicit_learner()])
    with pytest.raises(ValueError, match="twice"):
        PPO("MlpPolicy", Walk(), **host).learn(N_STEPS, callback=[learner, learner])


def test_as_long_as_nothing_was_paid_nothing_is_learned():
    model = tare(Walk(pay=0.0), reward_mode="replace").learn(3 * N_STEPS)
    network = model.reward_learner.trainer.reward_model.network
    fresh = tare(Walk(pay=0.0), reward_mode="replace").reward_learner.trainer.reward_model.network
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(network.parameters(), fresh.parameters(), strict=True))
    assert model.logger.name_to_value["reward/learned_std"] == 0.0


def test_a_reward_step_is_on_the_rewards_that_trained_the_policy():
    model = tare(Walk(pay=1e-3), validation="next_rollout", reward_mode="replace").learn(N_STEPS)
    trainer = model.reward_learner.trainer
    rollout = trainer.take_waiting().sample
    before = trainer.learned_rewards(rollout)
    trainer.reward_model.observe(100.0 * torch.randn(10_000, generator=torch.Generator().manual_seed(0)))
    assert trainer.reward_model.unit.scale > 10.0
    assert torch.equal(trainer.learned_rewards(rollout), before)


@pytest.mark.parametrize("architecture", ["LSTMb", "LSTMf"])
def test_every_network_takes_every_kind_of_space(architecture):
    class Board(Walk):
        observation_space = spaces.MultiDiscrete([3, 4])
        action_space = spaces.MultiDiscrete([2, 3])

        def reset(self, *, seed=None, options=None):
            return np.array([0, 1]), {}

        def step(self, action):
            return np.array([1, 3]), float(action[0]), False, False, {}

    assert np.isfinite(policy_parameters(tare(Board(), architecture=architecture).learn(N_STEPS)).numpy()).all()


def test_a_frozen_network_has_nothing_to_learn():
    class Frozen(nn.Module):
        def __init__(self, observation_dim: int, action_dim: int) -> None:
            super().__init__()
            self.head = nn.Linear(observation_dim, 1).requires_grad_(False)

    with pytest.raises(ValueError, match="no parameters to learn"):
        tare(architecture=Frozen)


def test_an_environment_that_starts_at_nan_is_named():
    class Broken(Walk):
        def reset(self, *, seed=None, options=None):
            return np.full(2, np.nan, dtype=np.float32), {}

    with pytest.raises(ValueError, match="observation that is not finite"):
        tare(Broken()).learn(N_STEPS)


def test_settings_that_are_no_mapping_are_refused():
    with pytest.raises(TypeError, match="reward_kwargs must be a mapping"):
        TAREPPO("MlpPolicy", Walk(), reward_kwargs="paper")
    with pytest.raises(TypeError, match="settings are keyword arguments"):
        RewardLearner("paper")


def test_what_tareppo_has_learned_can_go_on_as_a_callback(tmp_path):
    model = tare().learn(3 * N_STEPS)
    model.save(tmp_path / "model")
    learner = RewardLearner.load(tmp_path / "model")
    learner.attach(PPO("MlpPolicy", Walk(), n_steps=N_STEPS, device="cpu"))
    ours, theirs = (owner.trainer.reward_model.state_dict() for owner in (learner, model.reward_learner))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours if isinstance(ours[name], torch.Tensor))

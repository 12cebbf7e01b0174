"""A trained PPO goes on on a learned reward, and what has learned on one goes on as a PPO."""

import subprocess
import sys

import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO, RecurrentPPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.utils import LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize
from toys import AS_HOST, BOX, ITERATION, SMALL, Toy, awr, ppo, tare, tare_awr, vec_env

from sb3_tare import AWR, TAREAWR, TAREPPO, LeanPPO
from sb3_tare.utils.generators import generator_states

WITHOUT_THE_PACKAGE = """
import sys
sys.modules["sb3_tare"] = None  # which makes importing it fail
from stable_baselines3 import PPO
model = PPO.load(sys.argv[1])
assert type(model) is PPO and not [name for name in sys.modules if name.startswith("sb3_tare.")]
print(model.num_timesteps, model.predict(model.observation_space.sample())[0].shape)
"""


def parameters(model) -> torch.Tensor:
    return torch.nn.utils.parameters_to_vector(model.policy.parameters()).detach().clone()


def go_on(model) -> torch.Tensor:
    """Parameters after one more iteration, from the same numbers of the global generators."""
    torch.manual_seed(1)
    np.random.seed(1)  # noqa: NPY002, as SB3 shuffles by it
    return parameters(model.learn(ITERATION, reset_num_timesteps=False))


@pytest.mark.parametrize("kind", [PPO, LeanPPO])
def test_where_no_reward_is_learned_a_ppo_goes_on_as_if_it_were_still_one(kind, tmp_path):
    schedules = {"learning_rate": LinearSchedule(1e-2, 1e-4, 0.8), "clip_range": lambda left: 0.1 + 0.2 * left}
    model = kind("MlpPolicy", vec_env(), **SMALL, **schedules).learn(2 * ITERATION)
    model.save(tmp_path / "model")
    expected = go_on(kind.load(tmp_path / "model", env=vec_env()))
    torch.manual_seed(7)
    before = generator_states()["torch"]
    taken = TAREPPO.from_ppo(model, AS_HOST, env=vec_env())
    assert np.array_equal(generator_states()["torch"], before)
    assert taken.num_timesteps == 2 * ITERATION
    assert torch.equal(go_on(taken), expected)
    assert torch.equal(go_on(TAREPPO.from_ppo(tmp_path / "model", AS_HOST, env=vec_env())), expected)
    assert not torch.equal(parameters(model), expected)  # the model itself is as it was


def test_a_model_keeps_its_environment_and_statistics():
    env = VecNormalize(vec_env())
    taken = TAREPPO.from_ppo(ppo(env).learn(ITERATION), AS_HOST)
    assert taken.get_env() is taken.get_vec_normalize_env() is env


def test_a_file_in_the_place_of_statistics_that_holds_none_is_named(tmp_path):
    ppo().save(tmp_path / "ppo")
    (tmp_path / "vecnormalize.pkl").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"vecnormalize\.pkl is damaged: a VecNormalize cannot be read \(UnpicklingError"):
        TAREPPO.from_ppo(tmp_path / "ppo.zip", env=vec_env())


@pytest.mark.parametrize("bare", [True, False])
def test_statistics_that_lie_beside_a_file_are_taken_where_the_environment_has_none(bare, tmp_path):
    env = VecNormalize(vec_env())
    ppo(env).learn(ITERATION).save(tmp_path / "best_model")
    env.save(str(tmp_path / "vecnormalize.pkl"))
    given = Toy() if bare else vec_env()
    normalised = TAREPPO.from_ppo(tmp_path / "best_model", env=given).get_vec_normalize_env()
    assert np.array_equal(normalised.obs_rms.mean, env.obs_rms.mean)
    own = VecNormalize(vec_env())
    assert TAREPPO.from_ppo(tmp_path / "best_model", env=own).get_vec_normalize_env() is own


def test_the_learned_reward_is_learned_with_the_settings_that_are_given():
    taken = TAREPPO.from_ppo(ppo().learn(ITERATION), {"decomposition_updates": 3, "reward_every": 0})
    taken.learn(2 * ITERATION, reset_num_timesteps=False)
    assert taken.num_timesteps == 3 * ITERATION
    assert taken.reward_learner.settings.decomposition.decomposition_updates == 3
    assert "reward/decomposition_loss" in taken.logger.name_to_value


def test_a_plain_ppo_goes_on_where_the_reward_was_left():
    model, twin = (tare(**AS_HOST).learn(ITERATION + 8) for _ in range(2))
    plain = model.as_ppo()
    assert (type(plain), plain.num_timesteps, plain.get_env()) == (PPO, 2 * ITERATION, model.get_env())
    before = parameters(model)
    assert torch.equal(go_on(plain), go_on(twin))  # in the middle of an episode
    assert torch.equal(parameters(model), before)


def test_a_plain_ppo_loads_where_this_package_is_not(tmp_path):
    tare(preset="decomposition", host={"learning_rate": LinearSchedule(1e-3, 0.0, 1.0)}).learn(ITERATION).as_ppo().save(
        tmp_path / "plain"
    )
    command = [sys.executable, "-c", WITHOUT_THE_PACKAGE, str(tmp_path / "plain.zip")]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.stdout == f"{ITERATION} {BOX.shape}\n", result.stderr


class Discrete(Toy):
    """Two actions, both of them allowed at all times."""

    def __init__(self) -> None:
        super().__init__(action_space=gym.spaces.Discrete(2))

    def action_masks(self):
        return [True, True]


@pytest.mark.parametrize(("kind", "policy"), [(MaskablePPO, "MlpPolicy"), (RecurrentPPO, "MlpLstmPolicy"), (A2C, "MlpPolicy")])
def test_another_algorithm_is_refused_with_what_to_do(kind, policy, tmp_path):
    model = kind(policy, Discrete(), n_steps=16, device="cpu")
    with pytest.raises(TypeError, match=f"goes on from LeanPPO or PPO, .* not from {kind.__name__}"):
        TAREPPO.from_ppo(model)
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match="is no model of PPO"):
        TAREPPO.from_ppo(tmp_path / "model")


def test_what_learns_a_reward_already_is_refused(tmp_path):
    model = tare()
    with pytest.raises(TypeError, match="learns a reward already"):
        TAREPPO.from_ppo(model)
    model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"learns a reward already: TAREPPO\.load"):
        TAREPPO.from_ppo(tmp_path / "model")


def test_an_environment_with_other_spaces_is_refused():
    with pytest.raises(ValueError, match="Action spaces do not match"):
        TAREPPO.from_ppo(ppo(), env=Discrete())


def test_an_awr_goes_on_on_a_learned_reward_and_back(tmp_path):
    model = awr().learn(2 * ITERATION)
    taken = TAREAWR.from_awr(model, {"decomposition_updates": 2})
    assert taken.replay_buffer is model.replay_buffer
    taken.learn(ITERATION, reset_num_timesteps=False)
    assert taken.num_timesteps == 3 * ITERATION
    plain = taken.as_awr()
    assert (type(plain), plain.num_timesteps) == (AWR, 3 * ITERATION)
    assert plain.replay_buffer is taken.replay_buffer
    assert torch.equal(parameters(plain), parameters(taken))
    plain.learn(ITERATION, reset_num_timesteps=False).save(tmp_path / "plain")
    again = TAREAWR.from_awr(tmp_path / "plain", env=vec_env())
    assert torch.equal(parameters(again), parameters(plain))
    assert (again.num_timesteps, again.replay_buffer.size()) == (4 * ITERATION, 0)


def test_only_an_awr_goes_on_as_a_tareawr(tmp_path):
    tare_awr().save(tmp_path / "model")
    with pytest.raises(ValueError, match="learns a reward already"):
        TAREAWR.from_awr(tmp_path / "model")
    with pytest.raises(TypeError, match="goes on from AWR"):
        TAREAWR.from_awr(ppo())

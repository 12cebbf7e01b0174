"""MiniGrid: its view as an array, the convolution that policy, critic and reward share, and learning with it."""

import re
import subprocess
import sys
import warnings

import gymnasium as gym
import minigrid.wrappers
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from minigrid.core.constants import COLOR_TO_IDX, DIR_TO_VEC, OBJECT_TO_IDX, STATE_TO_IDX
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as check_env_for_sb3
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from toys import IMPLICIT, Toy, policy_of, recorded_rollouts, snapshot

from sb3_tare import LIRPG, TAREPPO
from sb3_tare.envs import NoisyReward
from sb3_tare.envs.minigrid import HIGHEST_CODES, GridFeatures, PartialView, convolution
from sb3_tare.zoo import main

DOOR_KEY, EMPTY = "MiniGrid-DoorKey-5x5-v0", "MiniGrid-Empty-8x8-v0"


def images(env: gym.Env, seed: int = 0, steps: int = 40) -> list[np.ndarray]:
    """What random moves show, as arrays."""
    env.action_space.seed(seed)
    observations = [env.reset(seed=seed)[0]]
    observations += [env.step(env.action_space.sample())[0] for _ in range(steps)]
    return [observation["image"] if isinstance(observation, dict) else observation for observation in observations]


@pytest.mark.parametrize("task", [DOOR_KEY, EMPTY])
def test_the_registered_tasks_are_minigrids_own_but_for_what_they_show(task):
    ours, theirs = gym.make(f"sb3_tare/{task}"), gym.make(f"minigrid:{task}")
    assert ours.unwrapped.max_steps == theirs.unwrapped.max_steps
    assert np.array_equal(images(ours), images(theirs))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning)
        warnings.filterwarnings("ignore", message=".*is different from the unwrapped version")
        warnings.filterwarnings("ignore", message=".*observation space  is an image|The minimal resolution for an image")
        check_env(gym.make(f"sb3_tare/{task}", disable_env_checker=True), skip_render_check=True)
        check_env_for_sb3(ours, skip_render_check=True)


def test_the_declared_codes_are_minigrids():
    assert HIGHEST_CODES[:2] == (max(OBJECT_TO_IDX.values()), max(COLOR_TO_IDX.values()))
    assert HIGHEST_CODES[2] == max(len(DIR_TO_VEC) - 1, *STATE_TO_IDX.values())


def test_codes_reach_the_convolution_unscaled_and_in_their_places():
    env = make_vec_env(f"sb3_tare/{DOOR_KEY}", n_envs=2, seed=0)
    model = PPO("MlpPolicy", env, policy_kwargs=convolution(), device="cpu")
    seen = []
    first_layer = model.policy.features_extractor.convolution[0]
    first_layer.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    observations = env.reset()
    model.predict(observations)
    assert observations.max() == OBJECT_TO_IDX["key"]
    assert np.array_equal(seen[0].numpy(), np.moveaxis(observations, -1, 1))


def test_features_depend_on_all_cells_that_the_convolutions_reach_and_on_all_codes():
    torch.manual_seed(0)
    features = GridFeatures(PartialView(gym.make(f"minigrid:{EMPTY}")).observation_space)
    views = torch.rand(16, 7, 7, 3, requires_grad=True)
    made = features(views)
    assert made.shape == (16, features.features_dim) == (16, 64)
    (gradient,) = torch.autograd.grad(made.sum(), views)
    assert (gradient.abs().sum(0) > 0).all()


def test_the_reward_sees_exactly_the_policys_features_and_its_steps_leave_the_convolution_alone():
    env = make_vec_env(f"sb3_tare/{EMPTY}", n_envs=2, seed=0, wrapper_class=NoisyReward)
    model = TAREPPO(
        "MlpPolicy",
        env,
        n_steps=32,
        batch_size=32,
        n_epochs=1,
        learning_rate=0.0,
        seed=0,
        device="cpu",
        policy_kwargs=convolution(),
        reward_kwargs={**IMPLICIT, "validation": "next_rollout", "architecture": "StateAction"},
    )
    policy, reward_model = model.policy, model.reward_learner.trainer.reward_model
    assert policy.pi_features_extractor is policy.vf_features_extractor is policy.features_extractor
    rollouts, seen = recorded_rollouts(model.reward_learner), []
    reward_model.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].observations))
    before = snapshot(policy.state_dict()), snapshot(reward_model.network.state_dict())
    model.learn(3 * 64)
    features = torch.cat([policy.features_extractor(rollout.policy.observations.float()) for rollout in rollouts])
    assert len(features) == 3 * 64
    assert all((states[:, None] == features).all(2).any(1).all() for states in seen)  # each row is one of them
    assert len(seen) > 0
    assert not any(states.requires_grad for states in seen)
    after = snapshot(policy.state_dict()), snapshot(reward_model.network.state_dict())
    assert all(torch.equal(before[0][name], after[0][name]) for name in before[0])
    assert not all(torch.equal(before[1][name], after[1][name]) for name in before[1])


def test_with_the_default_reward_the_convolution_learns_with_the_policy_and_is_loaded_with_it(tmp_path):
    env = make_vec_env(f"sb3_tare/{EMPTY}", n_envs=2, seed=0, wrapper_class=NoisyReward)
    model = TAREPPO(
        "MlpPolicy", env, n_steps=32, batch_size=32, seed=0, device="cpu", policy_kwargs=convolution(), reward_kwargs=IMPLICIT
    )
    before = model.policy.features_extractor.convolution[0].weight.detach().clone()
    model.learn(2 * 64)
    assert not torch.equal(model.policy.features_extractor.convolution[0].weight, before)
    model.save(tmp_path / "model.zip")
    loaded = TAREPPO.load(tmp_path / "model.zip", env, device="cpu")
    first, second = policy_of(model), policy_of(loaded)
    assert all(np.array_equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ("env", "got"),
    [
        (minigrid.wrappers.ImgObsWrapper(gym.make(f"minigrid:{EMPTY}")), "shape [3, 7, 7], uint8 from 0 to 255"),
        (PartialView(gym.make(f"minigrid:{EMPTY}", agent_view_size=5)), "shape [5, 5, 3], uint8 from 0 to 10"),
        (Toy(), "shape [3], float32 from -inf to inf"),
    ],
    ids=["a picture", "a small view", "a vector"],
)
def test_observations_that_the_convolution_cannot_take_are_an_error(env, got):
    with pytest.raises(ValueError, match=rf"GridFeatures needs codes as .*PartialView.*7 x 7.*got {re.escape(got)}"):
        PPO("MlpPolicy", env, policy_kwargs=convolution(), device="cpu")


def test_a_view_of_something_else_is_an_error():
    with pytest.raises(ValueError, match=r"PartialView needs MiniGrid's own observations.*got Box\(-inf"):
        PartialView(Toy())


def test_without_minigrid_everything_can_be_imported_and_only_its_tasks_cannot_be_made():
    script = (
        "import sys; sys.modules['minigrid'] = None\n"
        "import gymnasium, sb3_tare.envs.minigrid, sb3_tare.experiments.studies\n"
        "gymnasium.make('sb3_tare/Chain-v0')\n"
        f"gymnasium.make('sb3_tare/{EMPTY}')"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert result.stderr.splitlines()[-1].startswith("ModuleNotFoundError: No module named 'minigrid")


@pytest.mark.parametrize(("algorithm", "model_class"), [("tare_ppo", TAREPPO), ("lirpg", LIRPG)])
def test_rl_zoo3_builds_the_convolution_from_the_yaml_file(algorithm, model_class, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    main(
        "train",
        [
            "--algo",
            algorithm,
            "--env",
            DOOR_KEY,
            "-n",
            "64",
            "--eval-freq",
            "-1",
            "-params",
            "n_envs:2",
            "n_steps:32",
            "batch_size:32",
        ],
    )
    main("enjoy", ["--algo", algorithm, "--env", DOOR_KEY, "-f", "logs", "--no-render", "-n", "20"])
    (saved,) = tmp_path.glob(f"logs/{algorithm}/{DOOR_KEY}_1/{DOOR_KEY}.zip")
    assert isinstance(model_class.load(saved, device="cpu").policy.features_extractor, GridFeatures)


def mean_return(model: TAREPPO, task: str) -> float:
    env = make_vec_env(f"sb3_tare/{task}", n_envs=16, seed=1000)
    mean, _ = evaluate_policy(model, env, n_eval_episodes=32, deterministic=False)
    return float(np.mean(mean))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("task", "steps", "reward_kwargs"), [(EMPTY, 24 * 2048, {}), (DOOR_KEY, 56 * 2048, {**IMPLICIT, "reward_coef": 0.1})]
)
def test_tareppo_finds_the_goal(task, steps, reward_kwargs):
    """With the settings of tare_ppo.yml, but for the number of steps."""
    env = make_vec_env(f"sb3_tare/{task}", n_envs=16, seed=0)
    model = TAREPPO(
        "MlpPolicy",
        env,
        n_steps=128,
        batch_size=256,
        n_epochs=4,
        learning_rate=1e-3,
        ent_coef=0.01,
        seed=0,
        device="cpu",
        policy_kwargs=convolution(),
        reward_kwargs=reward_kwargs,
    )
    before = mean_return(model, task)
    model.learn(steps)
    assert before < 0.2
    assert mean_return(model, task) > 0.7

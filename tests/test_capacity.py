"""PPO with more capacity: what its policies see, of which sizes they are, and that they train."""

import re

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.utils.env_checker import check_env
from sb3_contrib import RecurrentPPO
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from toys import ITERATION, OBSERVATION, TINY_NET, Toy, ppo, tare, vec_env

from sb3_tare import LIRPG
from sb3_tare.experiments.baselines import capacity
from sb3_tare.experiments.baselines.capacity import NORMALISED_KEYS, History, lstm_ppo, lstmbmul_ppo, parameter_counts

torch.set_num_threads(1)

SMALL = {"n_steps": 64, "batch_size": 32, "n_epochs": 1, "device": "cpu"}


# What they see


class Script(gym.Env):
    """Observes the time and pays ten times it."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), dtype=np.float32)

    def __init__(self, action_space: spaces.Space) -> None:
        self.action_space = action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        self.time += 1
        return np.array([self.time], dtype=np.float32), 10.0 * self.time, False, self.time == 3, {}


@pytest.mark.parametrize(
    ("action_space", "actions", "encoded"),
    [
        (spaces.Discrete(3), [2, 0, 1], [[0, 0, 0], [0, 0, 1], [1, 0, 0], [0, 1, 0]]),
        (spaces.Box(-1, 1, (2,)), np.float32([[0.5, 1], [0, 0], [1, 0]]), [[0, 0], [0.5, 1], [0, 0], [1, 0]]),
        (spaces.MultiDiscrete([2, 2]), [[0, 1], [1, 1], [0, 0]], [[0] * 4, [1, 0, 0, 1], [0, 1, 0, 1], [1, 0, 1, 0]]),
    ],
    ids=["discrete", "continuous", "multi-discrete"],
)
def test_a_history_shows_the_action_and_reward_before_each_observation(action_space, actions, encoded):
    env = History(Script(action_space))
    for _ in range(2):  # the second episode knows nothing of the first
        seen = [env.reset()[0], *(env.step(action)[0] for action in actions)]
        np.testing.assert_array_equal([one["observation"] for one in seen], [[0], [1], [2], [3]])
        np.testing.assert_array_equal([one["action"] for one in seen], encoded)
        np.testing.assert_array_equal([one["reward"] for one in seen], [[0], [10], [20], [30]])
        np.testing.assert_allclose([one["time"] for one in seen], np.log10([[1], [2], [3], [4]]) / 3, rtol=1e-6)


def test_gymnasiums_checker_passes_on_a_history():
    env = History(gym.make("Pendulum-v1").unwrapped)
    check_env(env, skip_render_check=True)
    assert env.observation_space.contains(env.reset(seed=0)[0])


def test_a_history_of_dictionaries_is_refused():
    with pytest.raises(ValueError, match=re.escape("History needs an environment whose observations are arrays, got Dict")):
        History(Toy(spaces.Dict({"vector": OBSERVATION})))


def test_a_policy_of_histories_refuses_other_environments():
    with pytest.raises(ValueError, match="lstmbmul_ppo needs environments wrapped in History, got observations in Box"):
        lstmbmul_ppo(vec_env())


def histories() -> VecNormalize:
    env = DummyVecEnv([lambda: gym.wrappers.TimeLimit(History(Toy(p_end=0.05)), 30)] * 2)
    return VecNormalize(env, norm_obs_keys=NORMALISED_KEYS)


def actions_of(model: RecurrentPPO, observations: list) -> list:
    """Deterministic actions along one episode."""
    state, actions = None, []
    for time, observation in enumerate(observations):
        action, state = model.predict(observation, state, np.array([time == 0]), deterministic=True)
        actions.append(action)
    return actions


def test_a_policy_of_histories_remembers_what_was_and_heeds_each_part_of_it():
    model = lstmbmul_ppo(histories(), seed=0, **SMALL)
    generator = np.random.default_rng(0)
    observation = {key: generator.normal(size=(1, *space.shape)) for key, space in model.observation_space.items()}
    same = [observation] * 3
    reference = actions_of(model, same)
    assert not np.allclose(reference[0], reference[1])  # the memory alone has changed
    for key in observation:
        other = {**observation, key: observation[key] + 1.0}
        changed = actions_of(model, [other, *same[1:]])
        assert not np.allclose(changed[0], reference[0], atol=1e-7)
        assert not np.allclose(changed[2], reference[2], atol=1e-9)


def test_the_state_is_seen_at_an_episodes_first_step_where_reward_and_time_are_zero():
    policy = lstmbmul_ppo(histories(), seed=0, **SMALL).policy
    observations = {key: torch.zeros(2, *space.shape) for key, space in policy.observation_space.items()}
    observations["observation"] = torch.tensor([[1.0, 2.0, -1.0], [0.0, -1.0, 1.0]])
    first, second = policy.features_extractor(observations)
    assert first.any()
    assert second.any()
    assert not torch.allclose(first, second)


# Their sizes


def test_parts_are_counted_by_hand():
    policy, critic = 3 * 16 + 16 + 16 * 2 + 2 + 2, 3 * 16 + 16 + 16 + 1
    assert parameter_counts(ppo()) == {"policy": policy, "critic": critic, "reward": 0, "total": policy + critic}
    second_critic = 3 * 64 + 64 + 64 * 64 + 64 + 64 + 1
    reward = 5 * 64 + 64 + 64 * 64 + 64 + 64 + 1
    model = LIRPG("MlpPolicy", vec_env(), policy_kwargs=TINY_NET, device="cpu")
    assert parameter_counts(model) == {
        "policy": policy, "critic": critic + second_critic, "reward": reward, "total": policy + critic + second_critic + reward
    }  # fmt: skip
    assert parameter_counts(tare(critics=1, architecture="StateActionTanh"))["total"] == policy + critic + reward


def test_a_recurrent_critic_is_a_critic():
    with_lstm = parameter_counts(lstmbmul_ppo(histories(), **SMALL))
    without = parameter_counts(lstmbmul_ppo(histories(), policy_kwargs={"enable_critic_lstm": False}, **SMALL))
    lstm, linear = 4 * 32 * (64 + 32 + 2) + 4 * 32 * (32 + 32 + 2), 64 * 32 + 32
    assert with_lstm["critic"] - without["critic"] == lstm - linear
    assert with_lstm["policy"] == without["policy"]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_the_policy_with_an_lstm_is_as_large_as_tareppo(env_id):
    counts = {name: parameter_counts(model)["total"] for name, model in capacity.models(env_id).items()}
    assert counts["TAREPPO"] <= counts["PPO, LSTM"] < 1.03 * counts["TAREPPO"]
    assert counts["PPO"] < counts["LIRPG"] < counts["LIRPG, LSTMbMul"] == counts["TAREPPO"] < counts["PPO, LSTMbMul"]


def test_the_size_can_be_chosen():
    assert lstm_ppo(vec_env(), policy_kwargs={"lstm_hidden_size": 5}, **SMALL).policy.lstm_actor.hidden_size == 5


def test_the_command_prints_the_numbers(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["capacity", "--envs", "Pendulum-v1"])
    capacity.main()
    printed = capsys.readouterr().out
    assert all(name in printed for name in ("PPO, LSTMbMul", "TAREPPO", "total"))
    assert re.search(r"Pendulum-v1\s*│ PPO\s*│ 4,482\s*│ 4,481\s*│ 0\s*│ 8,963", printed)


# Training


@pytest.mark.parametrize(("build", "env"), [(lstm_ppo, vec_env), (lstmbmul_ppo, histories)])
def test_they_train_and_come_back_from_a_file(build, env, tmp_path):
    trained = [build(env(), seed=seed, **SMALL).learn(2 * ITERATION) for seed in (0, 0, 1)]
    parameters = [torch.nn.utils.parameters_to_vector(model.policy.parameters()) for model in trained]
    assert torch.equal(parameters[0], parameters[1])
    assert not torch.equal(parameters[0], parameters[2])
    trained[0].save(tmp_path / "model")
    loaded = RecurrentPPO.load(tmp_path / "model", env=env())
    assert torch.equal(torch.nn.utils.parameters_to_vector(loaded.policy.parameters()), parameters[0])
    before = torch.nn.utils.parameters_to_vector(build(env(), seed=0, **SMALL).policy.parameters())
    assert torch.isfinite(parameters[0]).all()
    assert not torch.equal(before, parameters[0])

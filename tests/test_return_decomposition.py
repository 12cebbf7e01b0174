"""A reward that is fitted to what whole episodes paid, and trains the policy in its place."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from sb3_contrib import TRPO, MaskablePPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import VecNormalize
from toys import (
    IMPLICIT,
    ITERATION,
    OBSERVATION,
    TINY_NET,
    Delayed,
    LinearReward,
    Toy,
    Watch,
    all_of,
    differences,
    generators,
    not_finite,
    policy_of,
    ppo,
    set_generators,
    snapshot,
    tare,
    vec_env,
)

from sb3_tare import TAREPPO, LearnedReward, LearnedRewardWrapper, RewardLearner, RewardSettings
from sb3_tare.analysis import slope

FAST = {"preset": "decomposition", "reward_every": 0, "decomposition_updates": 5, "architecture_kwargs": {"hidden_size": 16}}
N_STEPS = 6 * 2 * ITERATION


class Episodic(Toy):
    """Each step earns what its action says and costs its square; all of it is paid at the end."""

    def __init__(self, horizon: int = 25, p_end: float = 0.02, **spaces_of: Any) -> None:
        super().__init__(horizon=horizon, p_end=p_end, **spaces_of)
        self.owed = 0.0

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        self.owed = 0.0
        return super().reset(**kwargs)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, _ = super().step(action)
        values = np.atleast_1d(np.asarray(action, dtype=np.float64))
        earned = float(values[0] - 0.5 * np.square(values).sum())
        self.owed += earned
        ended = terminated or truncated
        return observation, self.owed if ended else 0.0, terminated, truncated, {"undelayed_reward": earned}


class Paying(Toy):
    """Each step pays the same."""

    def __init__(self, reward: float = 1.0, horizon: int = 20) -> None:
        super().__init__(horizon=horizon)
        self.reward = reward

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        observation, _, terminated, truncated, info = super().step(action)
        return observation, self.reward, terminated, truncated, info


def episodic(n_envs: int = 2, **kwargs: Any) -> Any:
    return vec_env(n_envs, lambda: Episodic(**kwargs))


def decomposed(env: Any = None, host: Any = (), **settings: Any) -> TAREPPO:
    return tare(episodic() if env is None else env, host=dict(host), **{**FAST, **settings})


def logged(model: Any) -> dict[str, float]:
    return {name.removeprefix("reward/"): value for name, value in model.logger.name_to_value.items()}


# The default


@pytest.mark.parametrize("built", [lambda: TAREPPO("MlpPolicy", episodic(), n_steps=64).reward_learner, RewardLearner])
def test_it_is_what_happens_by_default(built):
    assert built().settings == RewardSettings(preset="decomposition") == RewardSettings()
    assert built().settings.decomposition.return_decomposition


@pytest.mark.parametrize(
    ("settings", "host", "times"),
    [(FAST, {"verbose": 1}, 1), (FAST, {"verbose": 0}, 0), (IMPLICIT, {"verbose": 1}, 0)],
    ids=["aloud", "quiet", "implicit"],
)
def test_it_says_once_what_the_policy_is_paid(settings, host, times, capsys):
    model = tare(episodic(), host=host, **settings)
    model.learn(2 * ITERATION).learn(2 * ITERATION, reset_num_timesteps=False)
    assert capsys.readouterr().out.count("The policy is paid learned rewards in place of the extrinsic ones") == times


def test_a_callback_says_so_as_well(capsys):
    ppo(episodic()).learn(2 * ITERATION, callback=RewardLearner(verbose=1, **FAST))
    assert capsys.readouterr().out.count("The policy is paid learned rewards") == 1


# Learning


def test_it_finds_what_steps_earned_although_it_sees_totals_alone():
    model = decomposed(episodic(horizon=12), decomposition_updates=50, host={"learning_rate": 0.0})
    model.learn(30 * 2 * ITERATION)
    assert logged(model)["correlation_undistorted"] > 0.8
    assert logged(model)["action_cost"] == pytest.approx(-0.5, abs=0.15)
    assert logged(model)["action_cost_t"] < -4.0


def test_the_policy_learns_from_it_what_pays_in_the_end():
    host = {"n_steps": 256, "n_epochs": 10, "learning_rate": 3e-3, "gamma": 0.5}
    model = decomposed(host=host, decomposition_updates=50)
    observations = torch.randn(200, 3, generator=torch.Generator().manual_seed(0))

    def mean_action() -> float:
        return float(model.policy.get_distribution(observations).distribution.mean[:, 0].mean())

    before = mean_action()
    model.learn(20 * 2 * 256)
    assert abs(before) < 0.1
    assert mean_action() > 0.4


@pytest.mark.parametrize("action_cost", [True, False])
def test_a_strongly_shrunk_reward_is_blind_to_what_actions_cost_unless_it_is_solved(action_cost):
    """As in Ant: noise of actions is independent from step to step, so that shrinkage removes what it costs."""
    settings = {"action_cost": action_cost, "decomposition_steps": 1, "decomposition_updates": 50}
    model = decomposed(episodic(horizon=20, p_end=0.0), host={"learning_rate": 0.0}, **settings).learn(30 * 2 * ITERATION)
    generator = np.random.default_rng(0)
    observations, actions = generator.normal(size=(4_000, 3)), generator.uniform(-1, 1, size=(4_000, 2))
    learned = LearnedReward.of(model).relabel(observations, actions, np.zeros(4_000), [4_000])
    cost = -0.5 * np.square(actions).sum(1)
    if action_cost:
        assert slope(learned, cost) == pytest.approx(1.0, abs=0.3)
    else:
        assert abs(slope(learned, cost)) < 0.3


def test_what_actions_cost_is_solved_where_one_episode_at_most_ends_in_a_rollout():
    host = {"learning_rate": 0.0, "n_steps": 16, "batch_size": 16}
    env = episodic(horizon=20, p_end=0.0, n_envs=1)
    model = decomposed(env, host, reward_every=160).learn(30 * 160)
    assert logged(model)["action_cost"] == pytest.approx(-0.5, abs=0.15)


def test_without_the_exact_part_no_cost_of_actions_is_solved():
    model = decomposed(action_cost=False).learn(N_STEPS)
    assert "action_cost" not in logged(model)
    assert float(model.reward_learner.trainer.reward_model.network.action_cost) == 0.0


def test_a_cost_that_was_loaded_is_logged_as_long_as_it_is_paid():
    model = decomposed()
    model.reward_learner.trainer.decomposer.reward.action_cost.fill_(-0.5)
    model.learn(2 * ITERATION)
    assert (logged(model)["action_cost"], logged(model)["action_cost_t"]) == (-0.5, 0.0)


def test_before_an_episode_has_ended_nothing_is_paid_and_nothing_learned():
    model = decomposed(episodic(horizon=10_000, p_end=0.0))
    before = [parameter.detach().clone() for parameter in model.reward_learner.trainer.reward_model.parameters()]
    model.learn(2 * 2 * ITERATION)
    assert logged(model)["learned_std"] == 0.0
    after = model.reward_learner.trainer.reward_model.parameters()
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(before, after, strict=True))


def test_constant_totals_are_spread_evenly_over_their_steps():
    model = decomposed(vec_env(2, lambda: Paying(horizon=20))).learn(N_STEPS)
    assert logged(model)["learned_mean"] * logged(model)["decomposition_scale"] == pytest.approx(1.0, abs=0.2)
    assert not not_finite(policy_of(model))


def test_rewards_that_are_all_zero_are_left_at_zero():
    model = decomposed(vec_env(2, lambda: Paying(0.0))).learn(N_STEPS)
    assert logged(model)["learned_std"] == 0.0
    assert "decomposition_loss" not in logged(model)
    assert not not_finite(policy_of(model))


def test_episodes_that_never_end_enter_in_parts_of_a_thousand_steps():
    env = vec_env(1, lambda: Paying(horizon=10**9))
    model = decomposed(env, host={"n_steps": 512, "n_epochs": 1}, decomposition_updates=1).learn(5 * 512)
    memory = model.reward_learner.trainer.decomposer.memory
    assert memory.lengths.tolist() == memory.totals.tolist() == [1_000, 1_000]


def test_what_is_logged_tells_how_far_it_is():
    model = decomposed(episodic(horizon=8)).learn(N_STEPS)
    assert logged(model).keys() >= {"decomposition_loss", "decomposition_r2", "decomposition_episodes", "decomposition_scale"}
    assert logged(model)["decomposition_episodes"] == len(model.reward_learner.trainer.decomposer.memory)
    assert logged(model)["decomposition_r2"] <= 1.0


# Whole episodes


def test_rewards_of_a_rollout_are_computed_before_a_fit_and_after_it_and_no_third_time(monkeypatch):
    model = tare(episodic(), **FAST)
    network, rollouts = model.reward_learner.trainer.decomposer.reward, []
    forward = network.forward
    monkeypatch.setattr(network, "forward", lambda inputs: (rollouts.append(len(inputs.rewards)), forward(inputs))[1])
    model.learn(3 * 2 * ITERATION)
    assert rollouts == [2 * ITERATION] * (1 + 2 + 2)  # before the first fit it foretells nothing


def test_every_episode_that_ends_enters_with_its_length_and_its_total():
    totals: list[tuple[int, float]] = []

    def note(callback: Watch) -> None:
        totals.extend((info["episode"]["l"], info["episode"]["r"]) for info in callback.locals["infos"] if "episode" in info)

    model = decomposed(host={"n_steps": 40}).learn(5 * 2 * 40, callback=Watch(step=note))
    memory = model.reward_learner.trainer.decomposer.memory
    found = sorted(zip(memory.lengths.tolist(), memory.totals.tolist(), strict=True))
    assert len(found) == len(totals) > 5
    for (length, total), (expected_length, expected_total) in zip(found, sorted(totals), strict=True):
        assert length == expected_length
        assert total == pytest.approx(expected_total, abs=1e-4)


def test_a_large_reward_does_not_swallow_the_value_that_follows_a_time_limit():
    added, expected = [], []

    def read(watch):
        host = watch.model.reward_learner.trainer.host
        record = host.record()
        part = host.read(record)
        assert part.edits is None  # the host's own advantages to the bit
        for (step, env), observation in record.terminal_observations.items():
            added.append(float(part.policy_critic.bootstraps[env * ITERATION + step]))
            value = watch.model.policy.predict_values(watch.model.policy.obs_to_tensor(observation)[0])
            expected.append(watch.model.gamma * float(value.detach()))

    decomposed(vec_env(2, lambda: Paying(1e8))).learn(2 * ITERATION, callback=Watch(rollout_end=read))
    assert added == pytest.approx(expected)
    assert len(added) == 2 * (ITERATION // 20)


def test_behind_vecnormalize_totals_are_the_environments_own():
    model = decomposed(VecNormalize(episodic(), clip_reward=0.1)).learn(N_STEPS)
    memory = model.reward_learner.trainer.decomposer.memory
    assert float(memory.totals.abs().max()) > 1.0


def test_behind_vecnormalize_old_steps_look_like_new_ones_in_the_same_state():
    seen, env = set(), VecNormalize(episodic(1))

    def note(_: Any) -> None:
        seen.add(tuple(env.get_original_obs()[0]))

    model = decomposed(env).learn(N_STEPS, callback=Watch(rollout_start=note, step=note))
    decomposer = model.reward_learner.trainer.decomposer
    states = decomposer.memory.sample(8, 4, torch.Generator().manual_seed(0)).states
    assert {tuple(state) for state in states.numpy()} <= seen
    np.testing.assert_allclose(decomposer._seen(states), env.normalize_obs(states.numpy()), rtol=1e-6)


@pytest.mark.parametrize("at_first", [True, False])
def test_a_memory_does_not_mix_normalised_observations_with_others(at_first):
    plain, normalised = episodic(), VecNormalize(episodic())
    model = decomposed(normalised if at_first else plain).learn(ITERATION)
    model.set_env(plain if at_first else normalised)
    with pytest.raises(RuntimeError, match="VecNormalize came or went"):
        model.learn(N_STEPS, reset_num_timesteps=False)


# Kinds of hosts, observations and actions


@pytest.mark.parametrize(
    ("algorithm", "host"),
    [
        (PPO, {"batch_size": 32, "n_epochs": 2}),
        (A2C, {}),
        (TRPO, {"batch_size": 32}),
        (MaskablePPO, {"batch_size": 32, "n_epochs": 2}),
    ],
    ids=["PPO", "A2C", "TRPO", "MaskablePPO"],
)
def test_as_a_callback_it_serves_every_host(algorithm, host):
    masked = {"use_masking": False} if algorithm is MaskablePPO else {}
    env = episodic(action_space=spaces.Discrete(3)) if masked else episodic()
    model = algorithm("MlpPolicy", env, n_steps=ITERATION, seed=0, policy_kwargs=dict(TINY_NET), **host)
    learner = RewardLearner(**FAST)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(N_STEPS, callback=learner, **masked)
    assert len(learner.trainer.decomposer.memory) > 5
    assert any(not torch.equal(value, before[name]) for name, value in model.policy.state_dict().items())
    assert not not_finite(policy_of(model))


def test_a_bare_callback_and_an_algorithm_that_owns_it_train_the_same_policy():
    learner = RewardLearner(**FAST)
    model = ppo(episodic())
    model.learn(N_STEPS, callback=learner)
    assert not differences(all_of(decomposed().learn(N_STEPS)), all_of(model, learner))


@pytest.mark.parametrize(
    "action_space",
    [spaces.Box(-1.0, 1.0, (1,)), spaces.Discrete(4), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)],
    ids=lambda space: type(space).__name__,
)
def test_it_takes_every_kind_of_action(action_space):
    model = decomposed(episodic(action_space=action_space)).learn(N_STEPS)
    assert logged(model)["learned_std"] > 0.0
    assert ("action_cost" in logged(model)) == isinstance(action_space, spaces.Box)


@pytest.mark.parametrize("features", ["policy", "own"])
@pytest.mark.parametrize(
    ("space", "policy"),
    [
        (OBSERVATION, "MlpPolicy"),
        (spaces.Dict({"position": OBSERVATION, "mode": spaces.Discrete(3)}), "MultiInputPolicy"),
        (spaces.Box(0, 255, (36, 36, 1), dtype=np.uint8), "CnnPolicy"),
    ],
    ids=["vector", "dictionary", "image"],
)
def test_it_takes_every_kind_of_observation(space, policy, features):
    host = {"policy_kwargs": {}, "n_steps": 32} if policy == "CnnPolicy" else {}
    model = tare(episodic(observation_space=space, horizon=9), policy, host=host, features=features, **FAST)
    model.learn(3 * 2 * model.n_steps)
    assert logged(model)["learned_std"] > 0.0
    if features == "own" and policy == "CnnPolicy":
        stored = model.reward_learner.trainer.decomposer.memory.state_dict()["rows"]["states"]
        assert stored.dtype == torch.uint8


# Saved


@pytest.mark.parametrize(
    "settings",
    [{}, {"shrinkage": "none"}, {"features": "own", "decomposition_memory": 1_000}, {"reward_every": 3 * ITERATION}],
    ids=str,
)
@pytest.mark.parametrize("wrap", [lambda env: env, VecNormalize], ids=["plain", "VecNormalize"])
def test_a_saved_run_goes_on_as_if_it_had_not_been_interrupted(settings, wrap, tmp_path):
    set_generators(start := generators())
    whole = decomposed(wrap(episodic(1, horizon=16, p_end=0.0)), **settings).learn(8 * ITERATION)
    set_generators(start)
    first = decomposed(wrap(episodic(1, horizon=16, p_end=0.0)), **settings)
    env = first.get_env()
    first.learn(4 * ITERATION)
    first.save(tmp_path / "model")
    second = TAREPPO.load(tmp_path / "model", env=env, force_reset=False)
    second.learn(4 * ITERATION, reset_num_timesteps=False)
    assert not differences(all_of(whole), all_of(second))


def test_what_was_loaded_is_a_copy_that_its_source_does_not_disturb():
    source, copy = decomposed().learn(N_STEPS), decomposed(decomposition_learning_rate=0.5)
    copy.reward_learner.load_state_dict(source.reward_learner.state_dict())
    before = snapshot(copy.reward_learner.state_dict())
    source.learn(N_STEPS)
    assert not differences(before, snapshot(copy.reward_learner.state_dict()))
    groups = copy.reward_learner.state_dict()["decomposition"]["fits"]["optimizer"]["param_groups"]
    assert [group["lr"] for group in groups] == [0.5]


def test_returns_are_discounted_as_the_host_does_it_now():
    model = decomposed()
    model.rollout_buffer.gamma = 0.5
    model.learn(N_STEPS)
    assert model.reward_learner.trainer.decomposer.scale.discount == 0.5


def test_an_exported_reward_pays_what_was_learned(tmp_path):
    model = decomposed(VecNormalize(episodic())).learn(N_STEPS)
    reward = LearnedReward.of(model)
    reward.save(tmp_path / "reward")
    generator = np.random.default_rng(0)
    observations, actions = generator.normal(size=(30, 3)).astype(np.float32), generator.uniform(-2, 2, size=(30, 2))
    loaded = LearnedReward.load(tmp_path / "reward").relabel(observations, actions, np.zeros(30), [30])
    np.testing.assert_allclose(reward.relabel(observations, actions, np.zeros(30), [30]), loaded)
    clipped = reward.relabel(observations, actions.clip(-1, 1), np.zeros(30), [30])
    np.testing.assert_allclose(loaded, clipped, rtol=1e-6)
    env = LearnedRewardWrapper(Episodic(), tmp_path / "reward")
    env.reset(seed=0)
    _, paid, _, _, info = env.step(np.array([0.5, 0.5], dtype=np.float32))
    assert paid == info["learned_reward"] != 0.0


# Refusals


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reward_mode": "add"}, r"return_decomposition=True needs reward_mode='replace', got 'add': preset="),
        ({**FAST, "critics": 2}, "needs critics=1, got 2"),
        ({**FAST, "architecture": "LSTMbMul", "architecture_kwargs": {}}, "LSTMbMul does not say of itself"),
        ({**FAST, "architecture": LinearReward, "architecture_kwargs": {}}, "LinearReward does not say of itself"),
        ({**FAST, "shrinkage": "none", "decomposition_steps": 5}, "decomposition_steps must be even"),
        (
            {**FAST, "shrinkage": "penalty", "decomposition_steps": 1},
            "decomposition_steps must be a whole number of at least 2",
        ),
        ({**FAST, "decomposition_memory": 10}, "at least 1000, one episode of decomposition_length=1000, got 10"),
        ({**FAST, "decomposition_length": 0}, "decomposition_length must be a whole number of at least 1, got 0"),
    ],
    ids=str,
)
def test_settings_that_cannot_work_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        RewardLearner(**settings)


def test_episodic_tasks_pay_at_the_end_alone():
    env = gym.make("sb3_tare/EpisodicHopper-v5")
    env.reset(seed=0)
    paid, earned, ended = [], 0.0, False
    while not ended:
        _, reward, terminated, truncated, info = env.step(np.zeros(3, dtype=np.float32))
        ended = terminated or truncated
        paid.append(reward)
        earned += info["undelayed_reward"]
    assert paid[:-1] == [0.0] * (len(paid) - 1)
    assert paid[-1] == pytest.approx(earned)


@pytest.mark.parametrize(("length", "n_parts"), [(32, 1), (16, 2), (12, 3)])
def test_episodes_are_cut_after_as_many_steps_as_are_said(length, n_parts):
    model = decomposed(vec_env(1, lambda: Delayed(delay=8)), decomposition_length=length).learn(4 * ITERATION)
    lengths = model.reward_learner.trainer.decomposer.memory.lengths
    assert len(lengths) == n_parts * (4 * ITERATION // 32)
    assert lengths.max() == length


def test_a_delayed_reward_is_a_reward_of_whole_episodes_too():
    model = decomposed(vec_env(2, lambda: Delayed(delay=8))).learn(N_STEPS)
    assert len(model.reward_learner.trainer.decomposer.memory) == 2 * (6 * ITERATION // 32)

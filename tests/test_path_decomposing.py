"""Return decomposition beside AWR, whose replay memory is the memory of episodes."""

from typing import Any

import numpy as np
import pytest
import torch
from builders import LAWS, episodes_of, layouts
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.vec_env import VecNormalize
from test_return_decomposition import Episodic, Paying, episodic, logged
from toys import (
    ITERATION,
    OBSERVATION,
    SMALL_AWR,
    TINY_NET,
    Toy,
    Watch,
    awr_of,
    differences,
    generators,
    not_finite,
    ppo,
    set_generators,
    tare_awr,
    vec_env,
)

from sb3_tare import TAREAWR, LearnedReward, RewardLearner
from sb3_tare.algorithms.memory_settings import MemorySettings
from sb3_tare.data.episodes import End, Episodes
from sb3_tare.learning.path_decomposing import whole_episodes

FAST = {"preset": "decomposition", "decomposition_updates": 3, "architecture_kwargs": {"hidden_size": 16}}
N_STEPS = 5 * 2 * ITERATION


def decomposed(env: Any = None, policy: str = "MlpPolicy", host: Any = (), **settings: Any) -> TAREAWR:
    env = episodic() if env is None else env
    return tare_awr(env, policy, {**SMALL_AWR, "buffer_size": 512, **dict(host)}, **{**FAST, **settings})


def memory_of(model: TAREAWR) -> Any:
    return model.reward_learner.trainer.decomposer.memory


# Whole episodes


@LAWS
@given(layouts(max_length=30), st.integers(1, 12))
def test_whole_episodes_are_those_of_a_plain_loop(episodes: Episodes, longest: int):
    expected, row = [], 0
    pieces = (episodes.lengths.tolist(), episodes.first_times.tolist(), episodes.ends.tolist())
    for length, time, end in zip(*pieces, strict=True):
        begin = None
        for offset in range(length):
            if (time + offset) % longest == 0:
                begin = offset
            is_last = offset == length - 1 and end != int(End.CUT)
            if begin is not None and (is_last or (time + offset + 1) % longest == 0):
                expected.append((row + begin, offset - begin + 1, not is_last))
                begin = None
        row += length
    found = whole_episodes(episodes, longest)
    assert list(zip(*(each.tolist() for each in found), strict=True)) == expected


def test_what_lacks_its_beginning_or_its_end_is_no_episode():
    episodes = episodes_of([4, 3, 5], first_times=[2, 0, 0], ends=[End.TERMINATION, End.TIMEOUT, End.CUT])
    begins, lengths, goes_on = whole_episodes(episodes, 1_000)
    assert (begins.tolist(), lengths.tolist(), goes_on.tolist()) == ([4], [3], [False])


def test_the_memory_holds_the_totals_that_monitor_reports():
    totals: list[float] = []

    def note(callback: Watch) -> None:
        totals.extend(info["episode"]["r"] for info in callback.locals["infos"] if "episode" in info)

    model = decomposed(host={"buffer_size": 2_048}, decomposition_updates=1).learn(N_STEPS, callback=Watch(step=note))
    assert len(totals) > 10
    assert sorted(memory_of(model).totals.tolist()) == pytest.approx(sorted(totals), abs=1e-4)


def test_episodes_leave_as_their_steps_do():
    model = decomposed(episodic(1, horizon=10, p_end=0.0), host={"buffer_size": 128}).learn(4 * ITERATION)
    assert memory_of(model).lengths.tolist() == [10] * 12
    assert memory_of(model).state_dict() == {}


def test_a_draw_is_of_steps_that_lie_in_the_memory():
    model = decomposed().learn(N_STEPS)
    draw = memory_of(model).sample(6, 4, torch.Generator().manual_seed(0))
    stored = memory_of(model).states(model.replay_buffer.paths().rows)
    assert all((stored == row).all(1).any() for row in draw.states)
    assert draw.actions.abs().max() <= 1.0
    assert len(draw.states) == len(draw.actions) == 24
    assert set(draw.totals.tolist()) <= set(memory_of(model).totals.tolist())


def test_endless_episodes_enter_in_parts_of_a_thousand_steps():
    env = vec_env(1, lambda: Toy(horizon=10**9))
    model = decomposed(env, host={"buffer_size": 4_096, "train_freq": 512, "critic_steps": 1, "actor_steps": 1})
    model.learn(2_560)
    assert memory_of(model).lengths.tolist() == [1_000, 1_000]
    rewards = torch.as_tensor(model.replay_buffer.rewards[:2_000, 0]).double()
    torch.testing.assert_close(memory_of(model).totals, rewards.view(2, 1_000).sum(1))


# Learning


def test_a_memory_that_is_too_short_for_an_episode_is_warned_of_once():
    model = decomposed(vec_env(2, lambda: Episodic(horizon=300, p_end=0.0)))
    with pytest.warns(
        UserWarning,
        match="no whole episode .* with 256 steps of each of 2 .* trained on the environment.s own .*: raise buffer_size",
    ) as told:
        model.learn(2 * (256 + 2 * ITERATION))
    assert sum("no whole episode" in str(each.message) for each in told) == 1


def test_it_finds_what_steps_earned_although_it_sees_totals_alone():
    host = {"learning_rate": 1e-9, "buffer_size": 4_096, "critic_steps": 1, "actor_steps": 1}
    model = decomposed(episodic(horizon=12), host=host, decomposition_updates=40)
    model.learn(20 * 2 * ITERATION)
    assert logged(model)["correlation_undistorted"] > 0.8
    assert logged(model)["action_cost"] == pytest.approx(-0.5, abs=0.2)


def test_critic_and_actor_learn_from_the_learned_rewards():
    model, seen = decomposed(), []
    rewards_of = model.rewards_of
    model.rewards_of = lambda paths: seen.append(rewards_of(paths)) or seen[-1]
    model.learn(N_STEPS)
    extrinsic = model.replay_buffer.rewards_at(model.replay_buffer.paths().rows)
    assert float(seen[-1].std()) > 0.0
    assert torch.equal(seen[-1], seen[-2])
    assert not torch.equal(seen[-1].cpu(), extrinsic.cpu())
    assert model._relabelled is None


def test_it_has_one_critic():
    assert decomposed().reward_learner.trainer.reward_model.critic is None


def test_of_rewards_that_are_all_zero_nothing_is_learned():
    model = decomposed(vec_env(2, lambda: Paying(0.0))).learn(N_STEPS)
    assert not logged(model).keys() & {"learned_std", "decomposition_loss"}
    assert not not_finite(awr_of(model))


def test_before_an_episode_has_ended_the_environments_own_rewards_are_paid():
    env = vec_env(2, lambda: Toy(horizon=10**9))
    host, seen = {"buffer_size": 4_096}, []
    model = decomposed(env, host=host)
    rewards_of = model.rewards_of
    model.rewards_of = lambda paths: seen.append(rewards_of(paths)) or seen[-1]
    model.learn(2 * ITERATION)
    assert torch.equal(seen[-1].cpu(), model.replay_buffer.rewards_at(model.replay_buffer.paths().rows).cpu())
    assert float(seen[-1].std()) > 0.0


@pytest.mark.parametrize(
    "action_space",
    [spaces.Box(-2.0, 6.0, (1,)), spaces.Discrete(4), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)],
    ids=lambda space: type(space).__name__,
)
def test_it_takes_every_kind_of_action(action_space):
    model = decomposed(episodic(action_space=action_space)).learn(N_STEPS)
    assert logged(model)["learned_std"] > 0.0
    if isinstance(action_space, spaces.Box):
        assert memory_of(model).squared_actions.max() <= memory_of(model).lengths.max()


@pytest.mark.parametrize("features", ["policy", "own"])
@pytest.mark.parametrize(
    ("space", "policy"),
    [
        (spaces.Dict({"position": OBSERVATION, "mode": spaces.Discrete(3)}), "MultiInputPolicy"),
        (spaces.Box(0, 255, (36, 36, 1), dtype=np.uint8), "CnnPolicy"),
    ],
    ids=["dictionary", "image"],
)
def test_it_takes_every_kind_of_observation(space, policy, features):
    host = {"policy_kwargs": {}, "train_freq": 16, "critic_steps": 1, "actor_steps": 1} if policy == "CnnPolicy" else {}
    settings = {"decomposition_steps": 4, "decomposition_episodes": 4}
    model = decomposed(episodic(observation_space=space, horizon=9), policy, host, features=features, **settings)
    model.learn(3 * 2 * 16)
    assert logged(model)["learned_std"] > 0.0


def test_offline_it_learns_from_what_the_memory_holds_and_solves_no_cost_of_actions():
    model = decomposed()
    model.use_memory(decomposed().learn(N_STEPS).replay_buffer)
    model.learn(3 * 2_048, collect=False)
    assert logged(model)["learned_std"] > 0.0
    assert logged(model).keys().isdisjoint({"decomposition_r2", "action_cost", "correlation_undistorted"})


# Saved


@pytest.mark.parametrize("settings", [{}, {"features": "own", "shrinkage": "none"}], ids=str)
def test_a_saved_run_goes_on_as_if_it_had_not_been_interrupted(settings, tmp_path):
    def built() -> TAREAWR:
        return decomposed(VecNormalize(episodic(1, horizon=16, p_end=0.0)), **settings)

    set_generators(start := generators())
    whole = built().learn(8 * ITERATION)
    set_generators(start)
    first = built().learn(4 * ITERATION)
    first.save(tmp_path / "model")
    first.save_replay_buffer(tmp_path / "memory")
    second = TAREAWR.load(tmp_path / "model", env=first.get_env(), force_reset=False)
    second.load_replay_buffer(tmp_path / "memory")
    second.learn(4 * ITERATION, reset_num_timesteps=False)
    assert not differences(awr_of(whole), awr_of(second))


def test_a_model_without_its_memory_goes_on_with_the_episodes_that_it_collects(tmp_path):
    decomposed().learn(N_STEPS).save(tmp_path / "model")
    loaded = TAREAWR.load(tmp_path / "model", env=episodic(horizon=200, p_end=0.0))
    loaded.learn(2 * ITERATION)
    assert len(memory_of(loaded)) == 0
    assert not not_finite(awr_of(loaded))


def test_a_reward_whose_episodes_are_in_a_replay_memory_does_not_go_on_with_rollouts(tmp_path):
    decomposed().learn(2 * ITERATION).save(tmp_path / "model")
    with pytest.raises(
        ValueError, match="saved beside another kind of algorithm than PPO: carry its reward over with Learned"
    ):
        ppo(episodic()).learn(ITERATION, callback=RewardLearner.load(tmp_path / "model"))


def test_an_exported_reward_says_what_the_memory_was_relabelled_with(tmp_path):
    space = spaces.Box(-2.0, 6.0, (2,))
    model = decomposed(episodic(action_space=space)).learn(N_STEPS)
    LearnedReward.of(model).save(tmp_path / "reward")
    drawn = np.random.default_rng(0).normal(size=(9, 2)).astype(np.float32)
    observations = np.zeros((9, 3), dtype=np.float32)
    states = model.reward_learner.trainer.host.states(torch.as_tensor(observations))
    network = model.reward_learner.trainer.reward_model.network
    decomposer = model.reward_learner.trainer.decomposer
    executed = network.executed(torch.as_tensor(drawn))
    expected = decomposer.fits.rewards(states, executed, float(network.action_cost))
    actions = model.policy.unscale_action(drawn.clip(-1.0, 1.0))
    loaded = LearnedReward.load(tmp_path / "reward")
    assert loaded.action_space == space
    found = loaded.relabel(observations, actions, np.zeros(9), [9])
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-6)


def test_a_part_that_was_paid_nothing_is_told_of():
    with pytest.warns(UserWarning, match="decomposition_length=4: where this environment pays at an episode's end"):
        model = decomposed(decomposition_length=4).learn(64)
    assert memory_of(model).lengths.max() == 4


# Settings


def test_it_is_the_default():
    model = TAREAWR("MlpPolicy", vec_env(1, Episodic), policy_kwargs=TINY_NET)
    assert model.reward_learner.settings == MemorySettings(preset="decomposition")
    assert model.reward_learner.decomposes


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"decomposition_memory": 5_000}, "decomposition_memory=5000 does not go with .*buffer_size"),
        ({"gae_lambda": 0.9}, "gae_lambda=0.9 does not go with .*td_lambda"),
        ({"n_reward_updates": 1}, "n_reward_updates=1 does not go with .*preset='implicit'"),
        ({"critics": 2}, "needs critics=1, got 2"),
        ({"hypergradient_share": 0.1}, "AWR takes none beside a decomposition: leave it out, or use TAREPPO"),
        ({"preset": "implicit", "critics": 1}, "critics=1 would train AWR's critic on rewards that change"),
    ],
    ids=str,
)
def test_settings_that_do_not_fit_awr_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        MemorySettings(**settings)

"""AWR learns from memories that were filled beforehand, without taking a step."""

from __future__ import annotations

import re
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import SAC
from stable_baselines3.common.buffers import DictReplayBuffer, NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize
from toys import BOX, OBSERVATION, Toy, Watch, awr, awr_of, differences, not_finite, tare_awr, vec_env

from sb3_tare.awr.offline import memory_from_minari, memory_from_replay_buffer, memory_from_transitions
from sb3_tare.data.episodes import End

UNEVEN = spaces.Box(np.float32([-2.0, 0.0]), np.float32([6.0, 1.0]), dtype=np.float32)
NAMED = spaces.Dict({"body": OBSERVATION, "mode": spaces.Discrete(3)})


def refused(error, *fragments):
    return pytest.raises(error, match="".join(f"(?=.*{re.escape(fragment)})" for fragment in fragments))


# Replay buffers


@pytest.mark.parametrize(("n_envs", "n_steps"), [(1, 30), (1, 100), (3, 100)])
def test_a_replay_buffer_of_sac_is_read_in_time_order_through_its_wrap_around(n_envs, n_steps):
    kwargs = {"buffer_size": 48 * n_envs, "learning_starts": 10_000, "policy_kwargs": {"net_arch": [8]}, "seed": 0}
    source = SAC("MlpPolicy", vec_env(n_envs, lambda: Toy(horizon=20, p_end=0.05)), **kwargs).learn(n_steps * n_envs)
    buffer = source.replay_buffer
    memory = memory_from_replay_buffer(buffer)
    paths = memory.paths()
    kept = min(n_steps, 48)
    order = [step % 48 for step in range(n_steps - kept, n_steps)]
    expected = np.concatenate([buffer.observations[order, env] for env in range(n_envs)])
    np.testing.assert_array_equal(memory.observations_at(paths.rows), expected)
    np.testing.assert_array_equal(memory.actions_at(paths.rows), buffer.actions[order].swapaxes(0, 1).reshape(-1, 2))
    dones, timeouts = buffer.dones[order] > 0, buffer.timeouts[order] > 0
    dones[-1] = True
    assert len(paths.episodes) == dones.sum()
    ends = paths.episodes.ends.tolist()
    assert ends.count(End.TIMEOUT) == timeouts.sum()
    assert ends.count(End.CUT) == n_envs - (buffer.dones[order][-1] > 0).sum()
    inner = (paths.episodes.offsets[1:] > 0).numpy()
    followed = memory.next_observations_at(paths.rows)
    assert torch.equal(followed[:-1][inner], memory.observations_at(paths.rows)[1:][inner])


def filled(buffer: ReplayBuffer, n_steps: int, length: int = 10) -> ReplayBuffer:
    """Paths of ``length`` steps that end by a time limit, as an algorithm of SB3 would add them."""
    rng = np.random.default_rng(0)
    draw = (lambda: {"body": rng.normal(size=(1, 3)), "mode": rng.integers(3, size=(1,))}) if isinstance(
        buffer.observation_space, spaces.Dict
    ) else (lambda: rng.normal(size=(1, 3)).astype(np.float32))  # fmt: skip
    observation = draw()
    for step in range(n_steps):
        following, done = draw(), np.array([(step + 1) % length == 0])
        action = rng.uniform(-1.0, 1.0, size=(1, 2))
        buffer.add(observation, following, action, rng.normal(size=1), done, [{"TimeLimit.truncated": bool(done[0])}])
        observation = draw() if done[0] else following
    return buffer


def test_a_replay_buffer_of_dictionaries_is_read_too():
    memory = memory_from_replay_buffer(filled(DictReplayBuffer(24, NAMED, BOX, "cpu"), 34))
    episodes = memory.paths().episodes  # steps 10 to 33
    assert episodes.lengths.tolist() == [10, 10, 4]
    assert episodes.first_times.tolist() == [0, 0, 0]
    assert episodes.ends.tolist() == [End.TIMEOUT, End.TIMEOUT, End.CUT]
    model = awr(vec_env(1, lambda: Toy(NAMED)), "MultiInputPolicy")
    model.use_memory(memory)
    assert not not_finite(awr_of(model.learn(2048, collect=False)))


def test_a_path_that_was_left_unfinished_is_found_by_its_observations():
    buffer = filled(ReplayBuffer(50, OBSERVATION, BOX, "cpu"), 7, length=100)
    memory = memory_from_replay_buffer(filled(buffer, 5, length=100))  # begins elsewhere
    episodes = memory.paths().episodes
    assert (episodes.lengths.tolist(), episodes.first_times.tolist()) == ([7, 5], [0, 0])
    assert episodes.ends.tolist() == [End.CUT, End.CUT]


@pytest.mark.parametrize(
    ("make", "fragments"),
    [
        (lambda: ReplayBuffer(8, OBSERVATION, BOX, "cpu"), ("empty",)),
        (lambda: NStepReplayBuffer(8, OBSERVATION, BOX, "cpu"), ("NStepReplayBuffer",)),
        (
            lambda: ReplayBuffer(8, OBSERVATION, BOX, "cpu", optimize_memory_usage=True, handle_timeout_termination=False),
            ("optimize_memory_usage",),
        ),
    ],
    ids=["empty", "n steps", "no terminal observations"],
)
def test_a_buffer_without_paths_is_refused(make, fragments):
    with refused(ValueError, *fragments):
        memory_from_replay_buffer(make())


# Transitions


def transitions(n: int = 20, seed: int = 0, **changes):
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(n + 1, 3)).astype(np.float32)
    data = {
        "observations": states[:-1],
        "actions": rng.uniform(UNEVEN.low, UNEVEN.high, size=(n, 2)).astype(np.float32),
        "rewards": rng.normal(size=n),
        "next_observations": states[1:].copy(),
        "terminations": np.arange(n) == 6,
        "timeouts": np.arange(n) == 13,
    }
    return {**data, **changes}


def model_of(**kwargs):
    return awr(vec_env(1, lambda: Toy(action_space=UNEVEN)), **kwargs)


def test_transitions_become_paths_and_actions_are_scaled():
    data = transitions()
    data["next_observations"][16] += 1.0  # the step behind does not go on from here
    memory = memory_from_transitions(model_of(), **data)
    paths = memory.paths()
    assert paths.episodes.lengths.tolist() == [7, 7, 3, 3]
    assert paths.episodes.ends.tolist() == [End.TERMINATION, End.TIMEOUT, End.CUT, End.CUT]
    assert paths.episodes.times.tolist() == [*range(7), *range(7), *range(3), *range(3)]
    np.testing.assert_array_equal(memory.observations_at(paths.rows), data["observations"])
    np.testing.assert_allclose(memory.rewards_at(paths.rows), data["rewards"], rtol=1e-6)
    back = UNEVEN.low + 0.5 * (memory.actions_at(paths.rows).numpy() + 1.0) * (UNEVEN.high - UNEVEN.low)
    np.testing.assert_allclose(back, data["actions"], atol=1e-5)


def test_an_end_for_good_is_one_even_if_the_time_limit_fell_there_too():
    data = transitions(timeouts=np.arange(20) == 6)
    assert memory_from_transitions(model_of(), **data).paths().episodes.ends.tolist() == [End.TERMINATION, End.CUT]
    data = {name: value for name, value in data.items() if name != "timeouts"}
    assert memory_from_transitions(model_of(), **data).paths().episodes.ends.tolist() == [End.TERMINATION, End.CUT]


@pytest.mark.parametrize(
    ("changes", "fragments"),
    [
        ({"rewards": np.zeros((20, 1))}, ("rewards must have shape (n,)", "(20, 1)")),
        ({"rewards": np.zeros(0)}, ("at least 1",)),
        ({"actions": np.zeros((20, 3))}, ("actions must have shape (20, 2)", "(20, 3)")),
        ({"observations": np.zeros((20, 4))}, ("observations must have shape (20, 3)", "(20, 4)")),
        ({"next_observations": np.zeros((19, 3))}, ("next_observations", "(19, 3)")),
        ({"terminations": np.zeros(19)}, ("terminations must have shape (20,)",)),
        ({"timeouts": np.zeros(21)}, ("timeouts must have shape (20,)",)),
        ({"rewards": np.full(20, np.nan)}, ("rewards", "not finite", "nan")),
        ({"observations": np.full((20, 3), np.inf)}, ("observations", "not finite", "inf")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_transitions_of_a_wrong_shape_or_that_are_not_finite_are_refused(changes, fragments):
    with refused(ValueError, *fragments):
        memory_from_transitions(model_of(), **transitions(**changes))


def test_observations_with_other_names_are_refused():
    model = awr(vec_env(1, lambda: Toy(NAMED, action_space=UNEVEN)), "MultiInputPolicy")
    with refused(ValueError, "observations must be a dictionary of body, mode"):
        memory_from_transitions(model, **transitions(observations={"body": np.zeros((20, 3))}))


# Minari


def episode(n: int, seed: int, end: str):
    rng = np.random.default_rng(seed)
    flags = {name: np.arange(n) == (n - 1 if name == end else -1) for name in ("terminations", "truncations")}
    return SimpleNamespace(
        observations=rng.normal(size=(n + 1, 3)).astype(np.float32),
        actions=rng.uniform(UNEVEN.low, UNEVEN.high, size=(n, 2)).astype(np.float32),
        rewards=rng.normal(size=n),
        **flags,
    )


def test_a_minari_data_set_becomes_its_episodes():
    episodes = [episode(5, 0, "terminations"), episode(8, 1, "truncations"), episode(3, 2, "nothing")]
    memory = memory_from_minari(model_of(), SimpleNamespace(iterate_episodes=lambda: iter(episodes)))
    paths = memory.paths()
    assert paths.episodes.lengths.tolist() == [5, 8, 3]
    assert paths.episodes.ends.tolist() == [End.TERMINATION, End.TIMEOUT, End.CUT]
    np.testing.assert_array_equal(memory.observations_at(paths.rows), np.concatenate([e.observations[:-1] for e in episodes]))
    np.testing.assert_array_equal(
        memory.next_observations_at(paths.rows), np.concatenate([e.observations[1:] for e in episodes])
    )


def test_a_minari_data_set_of_dictionaries_becomes_its_episodes():
    episodes = [episode(5, 0, "terminations"), episode(8, 1, "truncations")]
    for each in episodes:
        each.observations = {"body": each.observations, "mode": np.arange(len(each.observations)) % 3}
    model = awr(vec_env(1, lambda: Toy(NAMED, action_space=UNEVEN)), "MultiInputPolicy")
    memory = memory_from_minari(model, SimpleNamespace(iterate_episodes=lambda: iter(episodes)))
    assert memory.paths().episodes.lengths.tolist() == [5, 8]
    assert memory.observations_at(memory.paths().rows)["mode"].flatten().tolist() == [0, 1, 2, 0, 1, 0, 1, 2, 0, 1, 2, 0, 1]


@pytest.mark.parametrize("nested", [False, True], ids=["image", "dictionary"])
def test_images_of_a_minari_data_set_may_be_channel_last(nested):
    last, rng = spaces.Box(0, 255, (36, 40, 3), dtype=np.uint8), np.random.default_rng(0)
    images = rng.integers(256, size=(6, *last.shape), dtype=np.uint8)
    each = episode(5, 0, "terminations")
    each.observations = {"view": images, "body": each.observations} if nested else images
    space = spaces.Dict({"view": last, "body": OBSERVATION}) if nested else last
    model = awr(vec_env(1, lambda: Toy(space, action_space=UNEVEN)), "MultiInputPolicy" if nested else "MlpPolicy")
    memory = memory_from_minari(model, SimpleNamespace(iterate_episodes=lambda: iter([each])))
    seen = memory.observations_at(memory.paths().rows)
    np.testing.assert_array_equal((seen["view"] if nested else seen), images[:-1].transpose(0, 3, 1, 2))


def test_a_data_set_on_this_machine_is_read_by_its_name(tmp_path, monkeypatch):
    import minari

    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path))
    episodes = [episode(5, 0, "terminations"), episode(8, 1, "truncations")]
    buffers = [minari.data_collector.EpisodeBuffer(id=n, **vars(each)) for n, each in enumerate(episodes)]
    spaces_of_it = {"observation_space": OBSERVATION, "action_space": UNEVEN}
    named = dict.fromkeys(["algorithm_name", "author", "author_email", "code_permalink", "description"], "none")
    minari.create_dataset_from_buffers("toy/test-v0", buffers, requirements=[], **named, **spaces_of_it)
    memories = (
        memory_from_minari(model_of(), "toy/test-v0"),
        memory_from_minari(model_of(), SimpleNamespace(iterate_episodes=lambda: episodes)),
    )
    for name in ("observations", "next_observations", "actions", "rewards", "dones", "timeouts", "times", "cuts"):
        np.testing.assert_array_equal(*(getattr(memory, name) for memory in memories))


def test_a_name_needs_minari_which_is_imported_only_then(monkeypatch):
    monkeypatch.setitem(sys.modules, "minari", None)
    with refused(ImportError, "pip install 'sb3-tare[minari]'"):
        memory_from_minari(model_of(), "pen/human-v0")


# Learning


def bandit_data(n: int = 1000, seed: int = 0):
    """Random actions, which pay if they have the sign of the first observation."""
    rng = np.random.default_rng(seed)
    states = rng.normal(size=(n + 1, 3)).astype(np.float32)
    actions = rng.uniform(-1.0, 1.0, size=(n, 2)).astype(np.float32)
    rewards = actions[:, 0] * np.sign(states[:-1, 0])
    return {
        "observations": states[:-1],
        "actions": actions,
        "rewards": rewards,
        "next_observations": states[1:],
        "terminations": np.zeros(n, dtype=bool),
        "timeouts": np.arange(n) % 50 == 49,
    }


def earned(model) -> float:
    states = np.random.default_rng(1).normal(size=(400, 3)).astype(np.float32)
    actions, _ = model.predict(states, deterministic=True)
    return float(np.mean(actions[:, 0] * np.sign(states[:, 0])))


OFFLINE = {
    "gamma": 0.5,
    "critic_steps": 100,
    "actor_steps": 100,
    "critic_learning_rate": 3e-3,
    "policy_kwargs": {"net_arch": [32], "optimizer_class": torch.optim.Adam},
}


@pytest.mark.parametrize("make", [awr, tare_awr], ids=["AWR", "TAREAWR"])
def test_from_random_actions_alone_it_learns_which_ones_pay(make):
    model = awr(vec_env(1), **OFFLINE) if make is awr else tare_awr(vec_env(1), host=OFFLINE)
    model.use_memory(memory_from_transitions(model, **bandit_data()))
    assert abs(earned(model)) < 0.1
    assert model.learn(3 * 2048, collect=False) is model
    assert earned(model) > 0.2
    assert model.replay_buffer.size() == 1000


def test_callbacks_see_time_pass_as_if_steps_were_taken():
    steps, rollouts, ends = [], [], []
    watch = Watch(
        step=lambda watch: steps.append((watch.num_timesteps, watch.model.num_timesteps)),
        rollout_start=lambda watch: rollouts.append(watch.model._n_updates),
        rollout_end=lambda watch: rollouts.append(watch.model._n_updates),
        training_end=lambda watch: ends.append(watch.num_timesteps),
    )
    model = awr(vec_env(1))
    model.use_memory(memory_from_transitions(model, **bandit_data(100)))
    model.learn(2 * 2048, callback=watch, collect=False)
    assert steps == [(n, n) for n in range(1, 2 * 2048 + 1)]
    assert rollouts == [0, 0, 1, 1]
    assert ends == [2 * 2048]
    assert model.num_timesteps == 2 * 2048


def test_a_callback_may_stop_it():
    model = awr(vec_env(1))
    model.use_memory(memory_from_transitions(model, **bandit_data(100)))
    model.learn(3 * 2048, callback=Watch(step=lambda watch: watch.num_timesteps < 3000), collect=False)
    assert (model.num_timesteps, model._n_updates) == (3000, 1)
    assert model.replay_buffer.n_new == 0


@pytest.mark.parametrize("make", [awr, tare_awr], ids=["AWR", "TAREAWR"])
def test_it_may_learn_offline_again_and_again(make):
    model = make(vec_env(1))
    model.use_memory(memory_from_transitions(model, **bandit_data(100)))
    before = awr_of(model.learn(2048, collect=False))
    after = awr_of(model.learn(2048, collect=False, reset_num_timesteps=False))
    assert model.num_timesteps == 4096
    assert differences(before, after)
    assert not not_finite(after)


def test_after_collecting_it_may_go_on_offline_and_collect_again():
    model = tare_awr(vec_env(2)).learn(256)
    model.learn(2048, collect=False, reset_num_timesteps=False)
    assert model.replay_buffer.paths().episodes.n_steps == 256
    model.learn(128, reset_num_timesteps=False)
    assert model.num_timesteps == 256 + 2048 + 128


def test_a_memory_of_more_environments_may_be_learned_from_but_not_added_to():
    source = awr(vec_env(2)).learn(256)
    model = awr()
    model.use_memory(source.replay_buffer)
    with refused(ValueError, "memory holds steps of 2 environments", "there are 1", "collect=False"):
        model.learn(64)
    before = awr_of(model)
    assert differences(before, awr_of(model.learn(2048, collect=False)))


def test_what_is_collected_beside_a_memory_starts_paths_of_its_own():
    model = awr(vec_env(1, lambda: Toy(horizon=1000))).learn(64)
    other = awr(vec_env(1, lambda: Toy(horizon=1000)), seed=1).learn(64)
    model.use_memory(other.replay_buffer)
    model.learn(64, reset_num_timesteps=False)
    assert model.replay_buffer.paths().episodes.lengths.tolist() == [64, 64]


def test_a_whole_memory_of_images_passes_by_without_statistics():
    space = spaces.Box(0, 255, (3, 36, 36), dtype=np.uint8)
    model = awr(vec_env(1, lambda: Toy(space)), "CnnPolicy", policy_kwargs=None, actor_steps=2, critic_steps=2)
    model.learn(64)
    fresh = awr(vec_env(1, lambda: Toy(space)), "CnnPolicy", policy_kwargs=None, actor_steps=2, critic_steps=2)
    fresh.use_memory(model.replay_buffer)
    assert not not_finite(awr_of(fresh.learn(2048, collect=False)))


def test_behind_vec_normalize_offline_learning_uses_its_statistics():
    source = awr(VecNormalize(vec_env(2))).learn(256)
    model = awr(source.get_env())
    model.use_memory(source.replay_buffer)
    assert not not_finite(awr_of(model.learn(2048, collect=False)))


def test_an_empty_memory_is_refused():
    with refused(ValueError, "collect=False", "use_memory", "load_replay_buffer"):
        awr().learn(64, collect=False)


def test_next_rollout_needs_steps_to_be_collected():
    model = tare_awr(validation="next_rollout").learn(128)
    with refused(ValueError, "validation='next_rollout'", "'split'"):
        model.learn(64, collect=False)


@pytest.mark.parametrize(
    ("memory", "error", "fragments"),
    [
        (lambda: ReplayBuffer(8, OBSERVATION, BOX, "cpu"), TypeError, ("ReplayBuffer", "memory_from_replay_buffer")),
        (lambda: model_of().replay_buffer, ValueError, ("action_space",)),
    ],
    ids=["no paths", "other actions"],
)
def test_a_memory_that_does_not_fit_is_refused(memory, error, fragments):
    with refused(error, *fragments):
        awr().use_memory(memory())

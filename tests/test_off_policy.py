"""RewardLearner as a callback of off-policy algorithms that do not know of it."""

import copy
import pickle
import warnings

import numpy as np
import pytest
import torch
from gymnasium import spaces
from off_policy_toys import ALL, CONTINUOUS, DICT, FAST, STEPS, Seen, logged, rewards_of, seen, tiny, trained
from stable_baselines3 import DQN, SAC, TD3
from stable_baselines3.common.callbacks import EveryNTimesteps
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from stable_baselines3.common.vec_env import VecNormalize
from toys import (
    Broken,
    Watch,
    differences,
    flat,
    generators,
    not_finite,
    ppo,
    set_generators,
    snapshot,
    vec_env,
)

import sb3_tare
from sb3_tare import AWR, LearnedReplayBuffer, LearnedReward, LearnedRewardWrapper, RewardLearner
from sb3_tare.learning import replaying, unlearned
from sb3_tare.learning.replaying import ReplayTrainer
from sb3_tare.rewards.decomposition import unit_of


def weights(model):
    return snapshot({name: value for name, value in model.get_parameters().items() if isinstance(value, dict)})


def all_of(model, learner):
    return {**weights(model), **snapshot({"learner": learner.state_dict()})}


def pay(monkeypatch, payer):
    """Let ``payer`` stand for the learned reward."""
    monkeypatch.setattr(ReplayTrainer, "paid", lambda self, observations, actions: payer(observations, actions))


def first_number(observations, actions):
    return (observations["position"] if isinstance(observations, dict) else observations)[:, 0]


# The host stays as it is


HOSTS = {
    **{algorithm.__name__: (algorithm, {}, {}) for algorithm in ALL},
    "n-step returns": (SAC, {"n_steps": 3}, {}),
    "n-step returns around the edge": (DQN, {"n_steps": 3, "buffer_size": 60}, {}),
    "many steps before an update": (TD3, {"train_freq": 7, "gradient_steps": 3}, {}),
    "episodes before an update": (SAC, {"train_freq": (1, "episode"), "gradient_steps": -1}, {"n_envs": 1}),
    "a dictionary": (SAC, {"policy": "MultiInputPolicy"}, {"observation_space": DICT}),
    "a ring that is small": (SAC, {"buffer_size": 50}, {}),
    "timeouts that count as ends": (SAC, {"replay_buffer_kwargs": {"handle_timeout_termination": False}}, {}),
}


def dense(algorithm, env_kwargs):
    action_space = {} if algorithm in CONTINUOUS else {"action_space": spaces.Discrete(3)}
    return seen(**{**action_space, **env_kwargs})


@pytest.mark.parametrize("name", HOSTS)
def test_frozen_at_the_extrinsic_reward_a_host_trains_bit_for_bit_as_alone(name, monkeypatch):
    pay(monkeypatch, first_number)
    algorithm, kwargs, env_kwargs = HOSTS[name]
    alone = tiny(algorithm, dense(algorithm, env_kwargs), **kwargs).learn(STEPS)
    learned = tiny(algorithm, dense(algorithm, env_kwargs), **kwargs).learn(STEPS, callback=RewardLearner(**FAST))
    assert not differences(weights(alone), weights(learned))
    assert np.array_equal(rewards_of(alone), rewards_of(learned))


def test_behind_vecnormalize_learned_rewards_are_scaled_as_extrinsic_ones_are(monkeypatch):
    pay(monkeypatch, first_number)

    def trained(callback):
        return tiny(SAC, VecNormalize(seen(), norm_obs=False, clip_reward=0.5)).learn(STEPS, callback=callback)

    assert not differences(weights(trained(None)), weights(trained(RewardLearner(**FAST))))


def test_the_law_does_not_hold_by_itself(monkeypatch):
    alone = tiny(SAC).learn(STEPS)
    assert differences(weights(alone), weights(tiny(SAC).learn(STEPS, callback=RewardLearner(**FAST))))
    pay(monkeypatch, lambda observations, actions: observations[:, 1])
    assert differences(weights(tiny(SAC, seen()).learn(STEPS)), weights(tiny(SAC, seen()).learn(STEPS, RewardLearner(**FAST))))


def test_the_callback_draws_no_number_of_the_global_generators():
    states = []
    for callback in (None, RewardLearner(**FAST)):
        tiny(SAC).learn(STEPS, callback=callback)
        states.append(dict(flat(generators())))
    assert all(np.array_equal(ours, states[1][name]) for name, ours in states[0].items())


# Learning


@pytest.mark.parametrize("algorithm", ALL)
def test_every_algorithm_learns_its_reward(algorithm):
    model, learner = tiny(algorithm), RewardLearner(**FAST)
    learner.attach(model)
    before = all_of(model, learner)
    model.learn(STEPS, callback=learner)
    after = all_of(model, learner)
    assert not not_finite(after)
    changed = differences(before, after)
    assert any(name.startswith("/policy/") for name in changed)
    assert any(name.startswith("/learner/reward_model/network") for name in changed)


def test_it_finds_what_steps_earned_although_it_sees_totals_alone():
    learner = RewardLearner(preset="decomposition", decomposition_updates=500)
    model = tiny(SAC, seen(dense=False, horizon=8), learning_starts=10_000, buffer_size=10_000).learn(1_500, callback=learner)
    assert logged(model)["correlation_undistorted"] > 0.9


def test_rewards_are_paid_in_the_units_of_the_environment():
    learner = RewardLearner(preset="decomposition", decomposition_updates=500)
    model = tiny(SAC, seen(dense=False, horizon=8), learning_starts=10_000, buffer_size=10_000).learn(1_500, callback=learner)
    assert 0.5 < logged(model)["learned_std"] < 2.0  # steps earn numbers of variance 1, and episodes pay sums of 8
    observations, actions = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), torch.zeros(50, 2)
    before = learner.trainer.paid(observations, actions)
    learner.trainer.decomposer.reward.unit.mul_(3.0)
    assert torch.allclose(learner.trainer.paid(observations, actions), 3.0 * before, atol=1e-5)


def counting_updates(model, learner):
    """Steps of Adam in each fit of a learner that is given to ``model``."""
    learner.attach(model)
    updates, fit = [], learner.trainer.decomposer.fits.fit
    learner.trainer.decomposer.fits.fit = lambda *args: (updates.append(args[3]), fit(*args))[1]
    return updates


def test_the_reward_is_trained_in_proportion_to_the_steps():
    learner = RewardLearner(**{**FAST, "decomposition_updates": 512})  # one for every four steps
    model = tiny(SAC, seen(dense=False, p_end=0.0), learning_starts=10_000)
    updates = counting_updates(model, learner)
    model.learn(20 * 15 * 2, callback=learner)
    assert sum(updates) == 20 * 15 * 2 // 4
    assert max(updates) <= 8


def test_a_long_episode_is_trained_on_in_proportion_and_a_buffer_that_was_taken_over_within_bounds(monkeypatch):
    monkeypatch.setattr(replaying, "MOST_UPDATES", 4)
    settings = {**FAST, "decomposition_updates": 2048}  # one for every step
    model = tiny(SAC, seen(1, dense=False, horizon=40, p_end=0.0), learning_starts=10_000)
    first, second = RewardLearner(**settings), RewardLearner(**settings)
    updates = counting_updates(model, first)
    model.learn(80, callback=first)
    assert updates == [40, 40]
    updates = counting_updates(model, second)
    model.learn(40, callback=second, reset_num_timesteps=False)
    assert updates == [4 + 1, 39]


def test_before_anything_is_learned_the_environments_own_rewards_are_paid():
    alone = tiny(SAC, endless()).learn(STEPS)
    learned = tiny(SAC, endless()).learn(STEPS, callback=RewardLearner(**FAST))
    assert not logged(learned).keys() & {"decomposition_loss", "learned_mean"}
    assert not differences(weights(alone), weights(learned))


def endless(**kwargs):
    """Environments whose episodes do not end."""
    return seen(horizon=10_000, p_end=0.0, **kwargs)


def told(env, **kwargs):
    """What is said of a run."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tiny(SAC, env, **kwargs).learn(2 * STEPS, callback=RewardLearner(**FAST))
    return [text for text in (str(each.message) for each in caught) if "learned" in text]


def test_it_is_said_once_that_nothing_is_learned_and_why(monkeypatch):
    monkeypatch.setattr(unlearned, "PATIENCE", 100)
    (endlessly,) = told(endless())
    assert "100 steps after it started, nothing is learned of the reward of SAC" in endlessly
    assert "no whole episode is in the replay buffer" in endlessly
    (for_nothing,) = told(vec_env(2, lambda: Seen(paid=0.0)))
    assert "every episode so far has paid nothing in total" in for_nothing
    assert told(seen(dense=False)) == told(seen(), buffer_size=50) == told(endless(), learning_starts=10_000) == []


def test_a_ring_that_is_full_of_an_episode_has_taught_nothing():
    (full,) = told(endless(), buffer_size=40)
    assert "42 steps after it started" in full


def test_it_is_said_that_an_episode_is_longer_than_the_buffer():
    (longer,) = told(seen(dense=False, horizon=30, p_end=0.0), buffer_size=40, learning_starts=10_000)
    assert "an episode of 20 steps or more ended, and the replay buffer keeps 20 of each environment" in longer


def test_a_full_buffer_that_was_taken_over_is_no_reason_for_a_warning():
    model = tiny(SAC, seen(1, dense=False, horizon=30, p_end=0.0), buffer_size=40, learning_starts=10_000).learn(75)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        model.learn(10, callback=RewardLearner(**FAST), reset_num_timesteps=False)


def test_what_is_logged_tells_how_far_it_is():
    names = set()
    tiny(SAC).learn(400, callback=[Watch(step=lambda watch: names.update(logged(watch.model))), RewardLearner(**FAST)])
    assert names >= {"decomposition_loss", "decomposition_r2", "decomposition_episodes", "learned_std", "seconds"}


class First(Seen):
    """The first episode pays in its own way."""

    n_episodes = 0

    def __init__(self, first):
        super().__init__(dense=False, horizon=8, p_end=0.0)
        self.first = first

    def reset(self, **kwargs):
        self.n_episodes += 1
        return super().reset(**kwargs)

    def step(self, action):
        observation, paid, *ended, info = super().step(action)
        return observation, self.first(self.time, paid) if self.n_episodes == 1 else paid, *ended, info


@pytest.mark.parametrize("first", [lambda time, paid: 1e-3 * paid, lambda time, paid: -0.7 if time == 8 else 0.1])
def test_a_first_episode_that_pays_next_to_nothing_does_not_set_the_unit_for_long(first):
    learner, env = RewardLearner(**{**FAST, "decomposition_updates": 500}), vec_env(1, lambda: First(first))
    tiny(SAC, env, learning_starts=10_000).learn(8 * 9, callback=learner)
    memory = learner.trainer.memory
    assert abs(float(memory.totals[0])) < 0.1
    assert (float(memory.totals[0]) == 0.0) == (first(8, 1.0) < 0.0)  # what is rounding alone counts as nothing
    assert learner.trainer.decomposer.fits.unit == unit_of(memory.totals, memory.lengths)


@pytest.mark.parametrize(("most", "first_fit"), [(1_000, 8 + 8), (5, 5 + 8)])
def test_steps_that_paid_nothing_count_for_the_first_fit(monkeypatch, most, first_fit):
    monkeypatch.setattr(replaying, "MOST_UPDATES", most)
    learner = RewardLearner(**{**FAST, "decomposition_updates": 2048})  # one for every step
    model = tiny(SAC, vec_env(1, lambda: First(lambda time, paid: 0.0)), learning_starts=10_000)
    updates = counting_updates(model, learner)
    model.learn(8 * 4, callback=learner)
    assert updates == [8, first_fit, 8, 8]


def test_a_start_is_paid_until_the_first_fit(tmp_path):
    source = RewardLearner(**FAST)
    tiny(SAC).learn(STEPS, callback=source)
    LearnedReward.of(source).save(tmp_path / "reward")
    learner, paid = RewardLearner(**FAST, initial_reward=str(tmp_path / "reward")), []
    look = Watch(rollout_end=lambda watch: paid.append(watch.model.replay_buffer.payer is not None))
    tiny(SAC, endless()).learn(60, callback=[learner, look])
    assert all(paid)
    assert learner.trainer.decomposer.reward.unit == source.trainer.decomposer.reward.unit


def test_observations_of_many_numbers_are_learned_from():
    wide = spaces.Box(-1.0, 1.0, (2_100,), dtype=np.float32)
    model = tiny(SAC, seen(dense=False, observation_space=wide), buffer_size=200, learning_starts=10_000)
    model.learn(STEPS, callback=RewardLearner(**FAST))
    assert logged(model)["decomposition_episodes"] > 0


def test_images_are_seen_through_an_extractor_of_the_rewards_own():
    space = spaces.Box(0, 255, (36, 36, 1), dtype=np.uint8)
    env = vec_env(1, lambda: _Pictures(space))
    model = tiny(DQN, env, "CnnPolicy", policy_kwargs={}, buffer_size=100)
    with pytest.raises(ValueError, match="features='policy' would show the reward of DQN old steps"):
        model.learn(10, callback=RewardLearner(**FAST))
    model.learn(60, callback=RewardLearner(**FAST, features="own"))
    assert logged(model)["learned_std"] > 0.0


class Dropping(BaseFeaturesExtractor):
    """Has nothing to learn, and hides half of the observation while the policy is trained."""

    def __init__(self, space):
        super().__init__(space, 3)
        self.dropout = torch.nn.Dropout(0.5)

    def forward(self, observations):
        return self.dropout(observations)


class Frozen(Dropping):
    """Has parameters that do not learn."""

    def __init__(self, space):
        super().__init__(space)
        self.layer = torch.nn.Linear(3, 3).requires_grad_(False)


@pytest.mark.parametrize("extractor", [Dropping, Frozen])
def test_an_extractor_that_does_not_learn_shows_the_reward_the_same_while_the_policy_is_trained(extractor):
    model = tiny(SAC, policy_kwargs={"net_arch": [8], "features_extractor_class": extractor})
    model.learn(STEPS, callback=(learner := RewardLearner(**FAST)))
    observations, actions = torch.ones(5, 3), torch.zeros(5, 2)
    model.policy.set_training_mode(True)
    paid = learner.trainer.paid(observations, actions)
    assert float(paid[0]) != 0.0
    assert torch.allclose(paid, paid[:1].expand(5))
    assert model.policy.actor.features_extractor.dropout.training


class _Pictures(Seen):
    def __init__(self, space):
        super().__init__(dense=False, observation_space=space, action_space=spaces.Discrete(2))

    def step(self, action):
        observation, _, terminated, truncated, info = super(Seen, self).step(action)
        return observation, float(observation.mean()) if terminated or truncated else 0.0, terminated, truncated, info


# Saved


def test_a_saved_run_goes_on_as_if_it_had_not_been_interrupted(tmp_path):
    set_generators(start := generators())
    learner = RewardLearner(**FAST)
    whole = tiny(SAC, seen(dense=False), buffer_size=200).learn(2 * STEPS, callback=learner)
    set_generators(start)
    first, first_learner = tiny(SAC, seen(dense=False), buffer_size=200), RewardLearner(**FAST)
    env = first.get_env()
    first.learn(STEPS, callback=first_learner)
    first.save(tmp_path / "model")
    first.save_replay_buffer(tmp_path / "memory")
    first_learner.save(tmp_path / "reward")
    states = generators()
    second = SAC.load(tmp_path / "model", env=env, force_reset=False, device="cpu")
    second.load_replay_buffer(tmp_path / "memory")
    second_learner = RewardLearner.load(tmp_path / "reward", device="cpu")
    set_generators(states)
    second.learn(STEPS, callback=second_learner, reset_num_timesteps=False)
    assert not differences(all_of(whole, learner), all_of(second, second_learner))


def test_without_its_memory_a_loaded_reward_pays_what_it_has_learned(tmp_path):
    learner = RewardLearner(**FAST)
    model = tiny(SAC).learn(STEPS, callback=learner)
    learner.save(tmp_path / "reward")
    loaded = RewardLearner.load(tmp_path / "reward", device="cpu")
    loaded.attach(tiny(SAC))
    observations, actions = torch.randn(5, 3), torch.rand(5, 2)
    assert torch.equal(loaded.trainer.paid(observations, actions), learner.trainer.paid(observations, actions))
    assert model.replay_buffer.payer is None


def test_a_reward_that_was_loaded_without_its_memory_is_learned_from_every_step_of_the_new_one(tmp_path):
    learner = RewardLearner(**FAST)
    trained(learner, steps=15, env=seen(1, dense=False, p_end=0.0))
    learner.save(tmp_path / "reward")
    loaded = RewardLearner.load(tmp_path / "reward", device="cpu")
    longer = seen(1, dense=False, p_end=0.0, horizon=30)  # when its first episode ends, there are more than were learned from
    trained(loaded, steps=30, env=longer, train_freq=(1, "episode"))
    assert loaded.trainer.decomposer.reward.moments.count == 15 + 30


@pytest.mark.parametrize("wrapped", [False, True])
def test_vecnormalize_neither_comes_nor_goes_between_saving_and_loading(wrapped, tmp_path):
    learner = RewardLearner(**FAST)
    tiny(SAC, VecNormalize(seen()) if wrapped else seen()).learn(60, callback=learner)
    learner.save(tmp_path / "reward")
    was, other = ("behind", seen()) if wrapped else ("without", VecNormalize(seen()))
    with pytest.raises(ValueError, match=f"this RewardLearner was saved {was} VecNormalize, and the model is"):
        tiny(SAC, other).learn(60, callback=RewardLearner.load(tmp_path / "reward"))
    tiny(SAC, VecNormalize(seen()) if wrapped else seen()).learn(0, callback=RewardLearner.load(tmp_path / "reward"))


def test_a_reward_learned_on_policy_is_not_taken_for_one_off_policy(tmp_path):
    learner = RewardLearner(**FAST)
    ppo().learn(128, callback=learner)
    learner.save(tmp_path / "reward")
    with pytest.raises(
        ValueError, match="saved beside another kind of algorithm than SAC: carry its reward over with Learned"
    ):
        tiny(SAC).learn(10, callback=RewardLearner.load(tmp_path / "reward"))


def test_an_exported_reward_pays_what_was_learned(tmp_path):
    learner = RewardLearner(**FAST)
    wide = spaces.Box(-2.0, 2.0, (2,), dtype=np.float32)
    tiny(SAC, seen(dense=False, action_space=wide)).learn(STEPS, callback=learner)
    LearnedReward.of(learner).save(tmp_path / "reward")
    observations, actions = np.random.default_rng(0).normal(size=(6, 3)).astype(np.float32), np.full((6, 2), 0.8)
    paid = learner.trainer.paid(torch.from_numpy(observations), torch.full((6, 2), 0.4))
    exported = LearnedReward.load(tmp_path / "reward").relabel(observations, actions, np.zeros(6), [6])
    np.testing.assert_allclose(exported, paid, rtol=1e-5, atol=1e-6)
    env = LearnedRewardWrapper(Seen(action_space=wide), tmp_path / "reward")
    env.reset(seed=0)
    assert env.step(np.array([0.5, 0.5], dtype=np.float32))[1] != 0.0


def test_learner_and_model_can_be_copied_and_pickled_in_the_midst_of_training():
    copies = []

    def copy_all(watch):
        copies.append((copy.deepcopy(watch.model.replay_buffer), pickle.loads(pickle.dumps(watch.model.replay_buffer))))

    learner = RewardLearner(**FAST)
    model = tiny(SAC)
    model.learn(60, callback=[learner, Watch(rollout_end=copy_all)])
    for both in copies:
        assert all(type(each) is LearnedReplayBuffer and each.payer is None for each in both)
    twin = copy.deepcopy(learner)
    assert not differences(snapshot(learner.state_dict()), snapshot(twin.state_dict()))


# Faults


def test_a_reward_that_is_not_finite_is_refused():
    model = tiny(SAC, vec_env(1, lambda: Broken(at=30, reward=np.nan)))
    with pytest.raises(ValueError, match="the environment returned a reward that is not finite"):
        model.learn(STEPS, callback=RewardLearner(**FAST))


@pytest.mark.parametrize("name", ["rewards", "observations", "actions"])
def test_a_number_that_is_not_finite_in_a_buffer_that_was_taken_over_is_refused(name):
    model = tiny(SAC, seen(2, dense=False, p_end=0.0)).learn(60)
    getattr(model.replay_buffer, name)[10, 1] = np.nan
    what = name.removesuffix("s")
    for _ in range(2):
        with pytest.raises(
            ValueError, match=f"the replay buffer holds a {what} that is not finite in environment 1 at row 10: "
        ):
            model.learn(60, callback=RewardLearner(**FAST))


def test_a_learned_reward_that_is_not_finite_is_refused_before_the_policy_has_seen_it():
    def diverge(watch):
        if watch.num_timesteps == 40:
            learner.trainer.decomposer.reward.unit.fill_(np.nan)
        before.update(weights(watch.model))

    model, before = tiny(SAC, seen(1, dense=False, horizon=30, p_end=0.0), learning_starts=0), {}
    learner = RewardLearner(**{**FAST, "decomposition_updates": 2048})
    with pytest.raises(
        FloatingPointError, match=r"rewards that are not finite, first in environment 0 .*; the policy was not updated"
    ):
        model.learn(STEPS, callback=[learner, Watch(step=diverge)])
    assert not differences(before, weights(model))


@pytest.mark.parametrize("when", ["step", "rollout_end"])
def test_after_an_interruption_the_host_trains_on_as_alone_and_the_learner_goes_on(when):
    def interrupt(watch):
        if watch.num_timesteps >= 60:
            raise KeyboardInterrupt

    learner, model = RewardLearner(**FAST), tiny(SAC)
    with pytest.raises(KeyboardInterrupt):
        model.learn(STEPS, callback=[learner, Watch(**{when: interrupt})])
    model.learn(20)
    assert model.replay_buffer.payer is None
    model.learn(STEPS, callback=learner)
    assert model.replay_buffer.payer is None


def test_a_fit_that_was_interrupted_counts_no_step_twice(monkeypatch):
    learner, model = RewardLearner(**{**FAST, "decomposition_updates": 2048}), tiny(SAC, seen(1, p_end=0.0))
    learner.attach(model)
    with monkeypatch.context() as patch:
        patch.setattr(learner.trainer.decomposer.fits, "fit", interrupt_at_once)
        with pytest.raises(KeyboardInterrupt):
            model.learn(20, callback=learner)
    model.learn(45, callback=learner)
    assert len(learner.trainer.memory) == 4
    assert learner.trainer.decomposer.reward.moments.count == 4 * 15


def interrupt_at_once(*args):
    raise KeyboardInterrupt


def test_a_look_at_the_memory_that_was_interrupted_leaves_it_as_it_was(monkeypatch):
    learner, model = RewardLearner(**FAST), tiny(SAC, seen(1, dense=False, p_end=0.0), learning_starts=10_000)
    model.learn(20, callback=learner)
    memory = learner.trainer.memory
    with monkeypatch.context() as patch:
        patch.setattr(type(memory), "_squared_actions", interrupt_at_once)
        with pytest.raises(KeyboardInterrupt):
            model.learn(20, callback=learner)
    assert len(memory) == len(memory.totals) == len(memory.lengths) == 1
    model.learn(15, callback=learner)
    assert len(memory) == len(memory.totals) == len(memory.squared_actions) == 3


def interrupted(algorithm=SAC):
    """A model whose training was interrupted while its learner's reward was lent, and that learner."""
    learner, model = RewardLearner(**FAST), tiny(algorithm)

    def interrupt(watch):
        if model.replay_buffer.payer is not None and watch.num_timesteps >= 60:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.learn(STEPS, callback=[learner, Watch(rollout_end=interrupt)])
    return model, learner


def test_a_learner_that_an_interruption_left_behind_takes_nothing_from_the_next():
    model, first = interrupted()
    suspended = first._suspended
    payers = []

    def look(watch):
        suspended.close()  # as when it is collected
        payers.append(watch.model.replay_buffer.payer)

    model.learn(20, callback=[RewardLearner(**FAST), Watch(rollout_end=look)])
    assert all(payer is not None for payer in payers)


def test_after_an_interruption_a_learner_can_be_copied():
    model, learner = interrupted()
    _, twin = copy.deepcopy((model, learner))
    assert not differences(snapshot(learner.state_dict()), snapshot(twin.state_dict()))
    pickle.loads(pickle.dumps(learner))


def test_once_training_has_ended_nothing_is_paid_and_another_call_goes_on():
    learner, model = RewardLearner(**FAST), tiny(SAC)
    for _ in range(2):
        model.learn(60, callback=learner, reset_num_timesteps=False)
        assert model.replay_buffer.payer is None
        assert set(np.unique(model.replay_buffer.sample(64).rewards)) <= set(np.unique(rewards_of(model)))


def test_a_callback_that_stops_training_stops_it():
    learner, model = RewardLearner(**FAST), tiny(SAC)
    model.learn(STEPS, callback=[learner, Watch(step=lambda watch: watch.num_timesteps < 50)])
    assert model.num_timesteps == 50
    model.learn(40, callback=learner)


def test_it_must_see_every_rollout(monkeypatch):
    with pytest.raises(ValueError, match="RewardLearner must see every step and rollout"):
        tiny(SAC).learn(40, callback=EveryNTimesteps(10, RewardLearner(**FAST)))
    learner = RewardLearner(**FAST)
    with pytest.raises(ValueError, match="stands twice in the list"):
        tiny(SAC).learn(40, callback=[learner, learner])
    with pytest.raises(ValueError, match="another RewardLearner in the list"):
        tiny(SAC).learn(40, callback=[RewardLearner(**FAST), RewardLearner(**FAST)])
    monkeypatch.setattr(sb3_tare.learning.learner, "callbacks_in", lambda callback: ())  # where a list does not show them
    with pytest.raises(RuntimeError, match="another RewardLearner pays for this replay buffer already"):
        tiny(SAC).learn(STEPS, callback=[RewardLearner(**FAST), RewardLearner(**FAST)])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"preset": "implicit"}, "a reward for SAC by return decomposition alone, as its updates have no implicit gradient"),
        ({**FAST, "n_reward_updates": 1}, "n_reward_updates=1 means nothing to SAC, whose reward has no implicit gradient"),
        ({**FAST, "cg_steps": 3}, "cg_steps=3 means nothing to SAC"),
        ({**FAST, "center": True}, "center=True means nothing to SAC"),
        ({**FAST, "learning_rate": 0.1}, "learning_rate=0.1 means nothing to SAC"),
        ({**FAST, "decomposition_memory": 5_000}, "decomposition_memory=5000 means nothing to SAC"),
        ({**FAST, "decomposition_length": 500}, "decomposition_length=500 means nothing to SAC"),
    ],
    ids=str,
)
def test_settings_without_meaning_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        tiny(SAC).learn(10, callback=RewardLearner(**settings))


def test_awr_is_sent_to_tareawr():
    with pytest.raises(TypeError, match="for AWR there is TAREAWR"):
        AWR("MlpPolicy", "Pendulum-v1").learn(10, callback=RewardLearner(**FAST))

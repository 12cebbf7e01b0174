"""A learned reward away from its algorithm: what is exported, what wrappers pay, and what starts from it."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO, SAC
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from toys import IMPLICIT, ITERATION, SMALL, LinearReward, TinyCNN, Toy, implicit_learner, recorded_rollouts, tare, vec_env

from sb3_tare import TAREAWR, TAREPPO, LearnedReward, RewardLearner
from sb3_tare.networks.registry import ARCHITECTURES
from sb3_tare.rewards.wrappers import LearnedRewardWrapper, VecLearnedReward
from sb3_tare.settings.groups import NetworkSettings

STEPWISE = ("LSTMf", "MLPMul", "MLPConcat", "StateAction", "StateActionTanh", "StateActionUnbounded")
DISCRETE, DICT = spaces.Discrete(3), spaces.Dict(a=spaces.Box(-1, 1, (2,)), b=spaces.Discrete(3))
BODY = spaces.Box(-np.inf, np.inf, (3,), dtype=np.float32)
IMAGE = spaces.Box(0, 255, (3, 16, 16), dtype=np.uint8)


def trained(architecture, env=None, **settings):
    """A model whose reward is neither zero nor without a unit."""
    return tare(env, architecture=architecture, zero_head=False, **settings).learn(ITERATION)


def an_episode(env, reset, step):
    """Observations, actions, extrinsic rewards and what was paid, of one episode of random actions."""
    env.action_space.seed(3)
    observation, rows, done = reset(), [], False
    while not done:
        action = env.action_space.sample()
        following, paid, done, info = step(action)
        rows.append((observation, action, info["extrinsic_reward"], paid, info["learned_reward"]))
        observation = following
    return [list(column) for column in zip(*rows, strict=True)]


def through_gym(env):
    def step(action):
        observation, reward, terminated, truncated, info = env.step(action)
        return observation, reward, terminated or truncated, info

    return an_episode(env, lambda: env.reset(seed=0)[0], step)


def stacked(observations):
    if isinstance(observations[0], dict):
        return {key: np.stack([observation[key] for observation in observations]) for key in observations[0]}
    return np.stack(observations)


class Known(LinearReward):
    """Rewards that are known beforehand."""

    context = "step"

    def forward(self, inputs):
        return inputs.observations[:, 0] + 10 * inputs.actions[:, 1] + 100 * inputs.rewards + inputs.episodes.times


def test_a_wrapper_pays_exactly_what_the_network_gives(tmp_path):
    model = tare(architecture=Known, normalize_reward=False)
    LearnedReward.of(model).save(tmp_path / "reward")
    reward = LearnedReward.load(tmp_path / "reward", network=Known)
    observations, actions, extrinsic, paid, learned = through_gym(LearnedRewardWrapper(Toy(), reward))
    expected = [
        o[0] + 10 * a[1] + 100 * r + t for t, (o, a, r) in enumerate(zip(observations, actions, extrinsic, strict=True))
    ]
    np.testing.assert_allclose(paid, expected, rtol=1e-5)
    assert paid == learned


@pytest.mark.parametrize("nested", [False, True], ids=["image", "dictionary"])
def test_images_are_paid_for_channel_last_as_environments_give_them(nested):
    last = spaces.Box(0, 255, (36, 40, 3), dtype=np.uint8)
    space = {"observation_space": spaces.Dict({"view": last, "body": BODY}) if nested else last}
    policy = "MultiInputPolicy" if nested else "MlpPolicy"
    model = tare(vec_env(make=lambda: Toy(**space)), policy, architecture="StateAction", zero_head=False)
    reward = LearnedReward.of(model.learn(ITERATION))
    observations, actions, _, paid, _ = through_gym(LearnedRewardWrapper(Toy(**space), reward))
    images = [each["view"] if nested else each for each in observations]
    first = np.stack(images).transpose(0, 3, 1, 2)
    seen = {"view": first, "body": np.stack([each["body"] for each in observations])} if nested else first
    whole = reward.relabel(seen, np.stack(actions), np.zeros(len(paid)), [len(paid)])
    np.testing.assert_allclose(paid, whole, rtol=1e-4, atol=1e-6)
    assert np.std(paid) > 0
    copies = [VecLearnedReward(venv, reward) for venv in (vec_env(make=lambda: Toy(**space)), model.get_env())]
    pays = []
    for copy in copies:  # as it is, and in the VecTransposeImage that SB3 puts around it
        copy.seed(0)
        copy.reset()
        pays.append([copy.step(action[None])[1] for action in actions[:5]])
    np.testing.assert_allclose(*pays, rtol=1e-5)


def test_the_learned_reward_can_be_added_with_a_coefficient():
    env = LearnedRewardWrapper(Toy(), LearnedReward.of(trained("StateAction")), mode="add", coef=0.5)
    _, _, extrinsic, paid, learned = through_gym(env)
    np.testing.assert_allclose(paid, np.array(extrinsic) + 0.5 * np.array(learned))
    assert np.std(learned) > 0


@pytest.mark.parametrize("architecture", STEPWISE)
@pytest.mark.parametrize("spaces_of", [{}, {"action_space": DISCRETE}, {"observation_space": DICT}], ids=str)
def test_steps_one_by_one_are_paid_as_whole_episodes_are_relabelled(architecture, spaces_of):
    policy = "MultiInputPolicy" if "observation_space" in spaces_of else "MlpPolicy"
    reward = LearnedReward.of(trained(architecture, vec_env(make=lambda: Toy(**spaces_of)), policy=policy))
    observations, actions, extrinsic, paid, _ = through_gym(LearnedRewardWrapper(Toy(**spaces_of), reward))
    whole = reward.relabel(stacked(observations), np.stack(actions), np.array(extrinsic), [len(paid)])
    np.testing.assert_allclose(paid, whole, rtol=1e-4, atol=1e-6)
    assert np.std(paid) > 0


@pytest.mark.parametrize("architecture", ["MLPConcat", "LSTMf"])
def test_copies_of_an_environment_are_paid_each_by_its_own_episode(architecture):
    reward = LearnedReward.of(trained(architecture))
    horizons = (5, 8)
    env = VecLearnedReward(DummyVecEnv([lambda horizon=horizon: Toy(horizon=horizon) for horizon in horizons]), reward)
    alone = [LearnedRewardWrapper(Toy(horizon=horizon), reward) for horizon in horizons]
    env.seed(7)
    env.reset()
    for index, single in enumerate(alone):
        single.reset(seed=7 + index)
    env.action_space.seed(0)
    for _ in range(20):
        actions = np.stack([env.action_space.sample() for _ in horizons])
        _, paid, _, _ = env.step(actions)
        for index, single in enumerate(alone):
            _, expected, terminated, truncated, _ = single.step(actions[index])
            assert paid[index] == pytest.approx(expected, rel=1e-4, abs=1e-6)
            if terminated or truncated:
                single.reset()


@pytest.mark.parametrize("architecture", ["LSTMbMul", "LSTMb", LinearReward])
def test_a_network_that_may_look_ahead_is_refused_step_by_step(architecture):
    reward = LearnedReward.of(tare(architecture=architecture))
    for wrap in (lambda: LearnedRewardWrapper(Toy(), reward), lambda: VecLearnedReward(vec_env(), reward)):
        with pytest.raises(ValueError, match=r"may look at later steps .* LearnedReward.relabel gives rewards of whole"):
            wrap()


def test_the_refusal_names_every_network_that_can_pay_each_step():
    with pytest.raises(ValueError, match=f"Of the built-in networks, {', '.join(STEPWISE)} can pay each step"):
        LearnedRewardWrapper(Toy(), LearnedReward.of(tare(architecture="LSTMb")))
    assert all(f"``{name}``" in (NetworkSettings.__doc__ or "") for name in ARCHITECTURES)


def test_every_network_of_ours_says_what_it_depends_on():
    contexts = {name: network.context for name, network in ARCHITECTURES.items()}
    looks_ahead = {name for name, context in contexts.items() if context == "episode"}
    assert looks_ahead == {"LSTMbMul", "LSTMb"} == set(ARCHITECTURES) - set(STEPWISE)
    assert {name for name, context in contexts.items() if context == "past"} == {"LSTMf"}


@pytest.mark.parametrize("architecture", ["LSTMbMul", "LSTMf", "MLPConcat"])
@pytest.mark.parametrize("features", ["policy", "own"])
def test_whole_episodes_are_relabelled_as_the_trainer_does_it(architecture, features, tmp_path):
    settings = {"n_reward_updates": 0, "validation": "next_rollout", "features": features}
    model = tare(architecture=architecture, zero_head=False, **settings)
    rollouts = recorded_rollouts(model.reward_learner)
    model.learn(ITERATION)
    (rollout,) = rollouts
    LearnedReward.of(model).save(tmp_path / "reward")
    relabelled = LearnedReward.load(tmp_path / "reward").relabel(
        rollout.policy.observations.numpy(),
        rollout.policy.actions.numpy(),
        rollout.reward.rewards.numpy(),
        rollout.reward.episodes.lengths.numpy(),
        rollout.reward.episodes.first_times.numpy(),
    )
    expected = model.reward_learner.trainer.learned_rewards(rollout).detach().numpy()
    np.testing.assert_allclose(relabelled, expected, rtol=1e-5, atol=1e-7)
    assert expected.std() > 0


def test_the_statistics_of_vecnormalize_come_along(tmp_path):
    normalized = VecNormalize(vec_env())
    model = trained("MLPConcat", normalized, validation="next_rollout", n_reward_updates=0)
    rollouts = recorded_rollouts(model.reward_learner)
    normalized.training = False
    model.learn(ITERATION, reset_num_timesteps=False)
    LearnedReward.of(model).save(tmp_path / "reward")
    rollout = rollouts[-1]
    relabelled = LearnedReward.load(tmp_path / "reward").relabel(
        normalized.unnormalize_obs(rollout.policy.observations.numpy()),
        rollout.policy.actions.numpy(),
        normalized.unnormalize_reward(rollout.reward.rewards.numpy()),
        rollout.reward.episodes.lengths.numpy(),
        rollout.reward.episodes.first_times.numpy(),
    )
    learned = model.reward_learner.trainer.learned_rewards(rollout).detach().numpy()
    np.testing.assert_allclose(relabelled, normalized.unnormalize_reward(learned), rtol=1e-3, atol=1e-5)
    assert not np.allclose(relabelled, learned)


def test_actions_of_awr_are_read_in_its_own_units():
    bounds = spaces.Box(np.array([-2.0, 0.0], dtype=np.float32), np.array([2.0, 8.0], dtype=np.float32))
    model = TAREAWR(
        "MlpPolicy",
        vec_env(make=lambda: Toy(action_space=bounds)),
        device="cpu",
        reward_kwargs={**IMPLICIT, "architecture": Known},
    )
    reward = LearnedReward.of(model)
    learned = reward.relabel(np.zeros((2, 3)), np.array([[0.0, 8.0], [0.0, 2.0]]), np.zeros(2), [1, 1])
    np.testing.assert_allclose(learned, [10.0, -5.0], rtol=1e-6)


@pytest.mark.parametrize(
    ("algorithm", "arguments"),
    [(SAC, {"learning_starts": 8, "batch_size": 8}), (A2C, {"n_steps": 8}), (PPO, {"n_steps": 32, "batch_size": 16})],
)
def test_any_algorithm_trains_on_an_exported_reward(algorithm, arguments, tmp_path):
    LearnedReward.of(trained("StateAction")).save(tmp_path / "reward")
    env = VecNormalize(VecLearnedReward(vec_env(), tmp_path / "reward", mode="add"), norm_reward=False)
    model = algorithm("MlpPolicy", env, policy_kwargs={"net_arch": [8]}, device="cpu", **arguments)
    before = {name: value.clone() for name, value in model.policy.state_dict().items()}
    model.learn(64)
    assert any(not torch.equal(before[name], value) for name, value in model.policy.state_dict().items())


def test_gymnasium_can_make_a_wrapped_environment_again(tmp_path):
    LearnedReward.of(trained("StateAction", "Pendulum-v1")).save(tmp_path / "reward")
    env = LearnedRewardWrapper(gym.make("Pendulum-v1"), str(tmp_path / "reward"), mode="add")
    again = gym.make(env.spec)
    assert isinstance(again, LearnedRewardWrapper)
    assert through_gym(env)[3] == through_gym(again)[3]


def test_wrong_spaces_are_a_clear_error():
    reward = LearnedReward.of(trained("StateAction"))
    with pytest.raises(ValueError, match=r"learned with action_space Box.*not Discrete\(3\): they must be equal"):
        LearnedRewardWrapper(Toy(action_space=DISCRETE), reward)
    with pytest.raises(ValueError, match="learned with observation_space"):
        VecLearnedReward(vec_env(make=lambda: Toy(observation_space=IMAGE)), reward)


def test_other_mistakes_are_clear_errors(tmp_path):
    reward = LearnedReward.of(trained("StateAction"))
    with pytest.raises(ValueError, match="put VecNormalize outside"):
        VecLearnedReward(VecNormalize(vec_env()), reward)
    with pytest.raises(ValueError, match="mode must be one of 'replace', 'add', got 'both'"):
        LearnedRewardWrapper(Toy(), reward, mode="both")
    with pytest.raises(TypeError, match="PPO learns no reward"):
        LearnedReward.of(PPO("MlpPolicy", vec_env(), **SMALL))
    with pytest.raises(RuntimeError, match="no model yet"):
        LearnedReward.of(implicit_learner())
    with pytest.raises(ValueError, match="lengths sum to 3"):
        reward.relabel(np.zeros((2, 3)), np.zeros((2, 2)), np.zeros(2), [3])
    tare().save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"model.zip holds no LearnedReward: it is a model in format 4, .* LearnedReward.of"):
        LearnedReward.load(tmp_path / "model")


# starting from an exported reward


def weights(model):
    network = model.reward_learner.trainer.reward_model.network
    return {name: value.clone() for name, value in network.state_dict().items()}


def equal(first, second):
    return all(torch.equal(first[name], second[name]) for name in first)


def test_a_frozen_start_leaves_the_reward_as_it_was_and_another_moves_it(tmp_path):
    source = trained("MLPMul")
    LearnedReward.of(source).save(tmp_path / "reward")
    start = {"architecture": "MLPMul", "initial_reward": str(tmp_path / "reward")}
    frozen, free = tare(n_reward_updates=0, **start), tare(**start)
    assert equal(weights(source), weights(frozen))
    assert equal(weights(source), weights(free))
    assert equal(weights(source), weights(frozen.learn(2 * ITERATION)))
    assert not equal(weights(source), weights(free.learn(2 * ITERATION)))


def test_a_saved_model_goes_on_without_the_file_it_started_from(tmp_path):
    LearnedReward.of(trained("MLPMul")).save(tmp_path / "reward")
    model = tare(architecture="MLPMul", initial_reward=str(tmp_path / "reward")).learn(ITERATION)
    model.save(tmp_path / "model")
    (tmp_path / "reward.zip").unlink()
    loaded = TAREPPO.load(tmp_path / "model", env=vec_env())
    assert equal(weights(model), weights(loaded))
    loaded.learn(ITERATION, reset_num_timesteps=False)
    learner = RewardLearner.load(tmp_path / "model")
    PPO("MlpPolicy", vec_env(), **SMALL).learn(0, callback=learner)
    assert equal(weights(model), {k: v for k, v in learner.trainer.reward_model.network.state_dict().items()})


def test_a_callback_starts_from_an_exported_reward(tmp_path):
    source = trained("MLPMul")
    LearnedReward.of(source).save(tmp_path / "reward")
    learner = implicit_learner(architecture="MLPMul", initial_reward=str(tmp_path / "reward"))
    PPO("MlpPolicy", vec_env(), **SMALL).learn(0, callback=learner)
    assert equal(weights(source), learner.trainer.reward_model.network.state_dict())


@pytest.fixture
def decomposed(tmp_path):
    """Path of an exported reward that return decomposition has learned, with a cost of actions."""
    source = decomposing().learn(4 * ITERATION)
    reward = source.reward_learner.trainer.decomposer.reward
    reward.action_cost.fill_(-0.7)
    LearnedReward.of(source).save(tmp_path / "reward")
    return str(tmp_path / "reward"), weights(source)


def decomposing(env=None, **settings):
    return tare(env, **{"preset": "decomposition", "architecture_kwargs": {"hidden_size": 8}, **settings})


def test_a_start_is_paid_and_asked_what_it_foretells_until_the_first_fit(decomposed):
    path, learned = decomposed
    model = decomposing(vec_env(1, lambda: Toy(horizon=10_000, p_end=0.0)), initial_reward=path).learn(2 * ITERATION)
    decomposer = model.reward_learner.trainer.decomposer
    assert float(learned["unit"]) > 0.0
    assert (decomposer.reward.unit, decomposer.reward.action_cost) == (learned["unit"], -0.7)
    assert decomposer.fits.unit == float(learned["unit"])  # so that it foretells payments, by which it is trusted


def test_a_loaded_cost_of_actions_stays_until_another_is_known(decomposed):
    path, _ = decomposed
    model = decomposing(initial_reward=path).learn(ITERATION)
    decomposer = model.reward_learner.trainer.decomposer
    assert decomposer.cost.estimate() == (0.0, 0.0)
    assert decomposer.fits.has_fitted
    assert decomposer.reward.action_cost == -0.7


def test_a_loaded_cost_of_actions_is_dropped_where_there_is_to_be_none(decomposed, tmp_path):
    path, _ = decomposed
    model = decomposing(initial_reward=path)
    model.reward_learner.save(tmp_path / "learner")
    learner = RewardLearner.load(tmp_path / "learner", action_cost=False)
    PPO("MlpPolicy", vec_env(), **SMALL).learn(0, callback=learner)
    started = decomposing(initial_reward=path, action_cost=False)
    assert [float(each.trainer.decomposer.reward.action_cost) for each in (model.reward_learner, learner)] == [-0.7, 0.0]
    assert float(started.reward_learner.trainer.decomposer.reward.action_cost) == 0.0


def test_a_start_that_would_mean_something_else_is_refused(tmp_path):
    path = str(tmp_path / "reward.zip")
    LearnedReward.of(trained("MLPMul")).save(path)
    for match, settings in (
        ("learned with architecture='MLPMul', not 'LSTMbMul'", {}),
        ("learned with normalize_reward=True", {"architecture": "MLPMul", "normalize_reward": False}),
        ("architecture_kwargs", {"architecture": "MLPMul", "architecture_kwargs": {"hidden_size": 8}}),
        ("without VecNormalize's observations", {"architecture": "MLPMul", "env": VecNormalize(vec_env())}),
        ("action_space", {"architecture": "MLPMul", "env": vec_env(make=lambda: Toy(action_space=DISCRETE))}),
        ("zero_head=True would undo", {"architecture": "MLPMul", "zero_head": True}),
    ):
        with pytest.raises(ValueError, match=match):
            tare(initial_reward=path, **settings)


def test_features_that_a_policy_learned_come_along_as_the_rewards_own(tmp_path):
    path = str(tmp_path / "reward.zip")
    cnn = {"policy": "CnnPolicy", "host": {"policy_kwargs": {"features_extractor_class": TinyCNN, "net_arch": [8]}}}
    images = {"make": lambda: Toy(observation_space=IMAGE)}
    source = trained("MLPMul", vec_env(**images), **cnn)
    LearnedReward.of(source).save(path)
    with pytest.raises(ValueError, match="features='own' takes its feature extractor over"):
        tare(vec_env(**images), architecture="MLPMul", initial_reward=path, **cnn)
    model = tare(vec_env(**images), architecture="MLPMul", initial_reward=path, features="own", **cnn)
    extractor = model.reward_learner.trainer.reward_model.extractor
    assert equal(source.policy.pi_features_extractor.state_dict(), extractor.state_dict())

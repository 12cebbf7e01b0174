"""TAREPPO keeps the conventions that Stable-Baselines3 holds PPO to."""

import itertools
import math

import numpy as np
import pytest
import torch
from gymnasium import spaces
from gymnasium.wrappers import TimeLimit
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer, RolloutBuffer
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback, StopTrainingOnMaxEpisodes
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, SubprocVecEnv, VecFrameStack, VecMonitor, VecNormalize
from toys import (
    AS_HOST,
    BOX,
    IMPLICIT,
    ITERATION,
    OBSERVATION,
    SMALL,
    TINY_NET,
    Headless,
    LinearReward,
    NormDropoutExtractor,
    TinyCNN,
    Toy,
    Watch,
    all_of,
    differences,
    not_finite,
    policy_of,
    ppo,
    recorded_rollouts,
    snapshot,
    tare,
    vec_env,
)

from sb3_tare import ARCHITECTURES, TAREPPO, LearnsReward, RewardSettings

pytestmark = pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")


IMAGE = spaces.Box(0, 255, (8, 8, 3), dtype=np.uint8)
TINY_CNN = {"features_extractor_class": TinyCNN, "net_arch": [8]}
# SB3's extractor of dictionaries has a convolution that needs 36 pixels.
DICT = spaces.Dict(
    {"vector": OBSERVATION, "image": spaces.Box(0, 255, (36, 36, 1), dtype=np.uint8), "choice": spaces.Discrete(3)}
)
TINY_DICT = {"features_extractor_kwargs": {"cnn_output_dim": 4}, "net_arch": [8]}


class SpyPPO(PPO):
    """PPO that notes what each of its updates is given, and the policy before and after it."""

    def _setup_model(self):
        self.given, self.before, self.after = [], [], []
        super()._setup_model()

    def train(self):
        buffer = self.rollout_buffer
        rows = {name: getattr(buffer, name).copy() for name in ("log_probs", "advantages", "returns", "values")}
        self.given.append(rows)
        self.before.append(self.everything())
        super().train()
        self.after.append(self.everything())

    def everything(self):
        gradients = {name: parameter.grad for name, parameter in self.policy.named_parameters()}
        modes = {name: module.training for name, module in self.policy.named_modules()}
        return {**policy_of(self), **snapshot({"gradients": gradients}), **snapshot({"modes": modes})}


class SpyTAREPPO(LearnsReward, SpyPPO):
    """TAREPPO on top of the spy."""


def spy(env=None, policy="MlpPolicy", host=SMALL, **reward_kwargs):
    env = vec_env() if env is None else env
    return SpyTAREPPO(policy, env, reward_kwargs={**IMPLICIT, **reward_kwargs}, **{**SMALL, **host})


def assert_learns(model, iterations=2):
    """Policy and reward move, and all that is learned or logged stays finite."""
    before = all_of(model)
    assert model.learn(iterations * model.n_steps * model.n_envs) is model
    after = all_of(model)
    assert not not_finite(after)
    assert all(math.isfinite(value) for value in model.logger.name_to_value.values())
    changed = differences(before, after)
    assert any(name.startswith("/policy/") for name in changed)
    reward_changed = any(name.startswith("/reward_learner/reward_model/network") for name in changed)
    settings = model.reward_learner.settings
    assert reward_changed == (settings.schedule.n_reward_updates > 0 or settings.decomposition.return_decomposition)
    return model


def assert_learns_as_ppo(env_of, policy="MlpPolicy", iterations=3, reward_kwargs=AS_HOST, **host):
    """With no reward learned, the policy is that of PPO to the last bit."""
    learned = []
    for make in (lambda: ppo(env_of(), policy, **host), lambda: tare(env_of(), policy, host=host, **reward_kwargs)):
        model = make()  # seeds the global generators
        start = policy_of(model)
        model.learn(iterations * model.n_steps * model.n_envs)
        learned.append(policy_of(model))
        model.get_env().close()
    assert differences(start, learned[1])
    assert not differences(*learned)


# Environments


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_it_learns_in_an_environment_given_by_its_name(env_id):
    assert_learns(tare(env_id))


def test_it_wraps_and_monitors_a_bare_environment():
    model = assert_learns(tare(Toy()))
    assert len(model.ep_info_buffer) > 0


@pytest.mark.parametrize("n_envs", [1, 4])
@pytest.mark.parametrize("validation", ["split", "next_rollout"])
def test_it_learns_in_several_environments_at_once(n_envs, validation):
    assert_learns(tare(vec_env(n_envs), host={"n_steps": 32}, validation=validation))


@pytest.mark.parametrize(
    "action_space",
    [BOX, spaces.Box(-2.0, 3.0, (1,)), spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(2)],
    ids=["Box2", "Box1", "Discrete", "MultiDiscrete", "MultiBinary"],
)
@pytest.mark.parametrize("curvature", ["fisher", "hessian"])
def test_it_learns_every_kind_of_action(action_space, curvature):
    assert_learns(tare(vec_env(2, lambda: Toy(action_space=action_space)), host={"n_steps": 32}, curvature=curvature))


@pytest.mark.parametrize(
    "observation_space",
    [
        spaces.Box(-1.0, 1.0, (2, 3)),
        spaces.Box(-1.0, 1.0, (2,), dtype=np.float64),
        spaces.Discrete(4),
        spaces.MultiDiscrete([2, 3]),
        spaces.MultiBinary(3),
    ],
    ids=["Box2x3", "float64", "Discrete", "MultiDiscrete", "MultiBinary"],
)
@pytest.mark.parametrize("features", ["policy", "own"])
def test_it_learns_from_every_kind_of_observation(observation_space, features):
    assert_learns(tare(vec_env(1, lambda: Toy(observation_space)), features=features))


@pytest.mark.parametrize("features", ["policy", "own"])
@pytest.mark.parametrize("validation", ["split", "next_rollout"])
@pytest.mark.parametrize("shared", [True, False])
def test_it_learns_from_dictionaries(features, validation, shared):
    host = {"n_steps": 16, "policy_kwargs": {**TINY_DICT, "share_features_extractor": shared}}
    env = vec_env(2, lambda: Toy(DICT, p_end=0.1))
    with pytest.warns(UserWarning, match="only 32 steps"):
        model = tare(env, "MultiInputPolicy", host=host, features=features, validation=validation)
    assert_learns(model)
    assert type(model.rollout_buffer) is DictRolloutBuffer


@pytest.mark.parametrize("features", ["policy", "own"])
@pytest.mark.parametrize("shared", [True, False])
def test_it_learns_from_images(features, shared):
    host = {"policy_kwargs": {**TINY_CNN, "share_features_extractor": shared}}
    assert_learns(tare(vec_env(1, lambda: Toy(IMAGE)), "CnnPolicy", host=host, features=features))


def test_it_learns_with_the_convolution_of_sb3():
    space = spaces.Box(0, 255, (1, 36, 36), dtype=np.uint8)
    host = {"policy_kwargs": {"features_extractor_kwargs": {"features_dim": 8}, "net_arch": [8]}}
    assert_learns(tare(vec_env(1, lambda: Toy(space)), "CnnPolicy", host=host))


def test_it_learns_from_images_that_are_normalised_already():
    space = spaces.Box(0.0, 1.0, (3, 8, 8), dtype=np.float32)
    host = {"policy_kwargs": {**TINY_CNN, "normalize_images": False}}
    assert_learns(tare(vec_env(1, lambda: Toy(space)), "MlpPolicy", host=host, features="own"))


def test_it_learns_from_stacked_frames():
    assert_learns(tare(VecFrameStack(vec_env(2), n_stack=2)))


# Exploration


@pytest.mark.parametrize("squash", [False, True])
@pytest.mark.parametrize("curvature", ["fisher", "hessian"])
def test_it_learns_with_state_dependent_exploration(squash, curvature):
    host = {"use_sde": True, "sde_sample_freq": 4, "policy_kwargs": {**TINY_NET, "squash_output": squash}}
    assert_learns(tare(host=host, curvature=curvature))


@pytest.mark.parametrize("squash", [False, True])
def test_state_dependent_exploration_is_that_of_ppo_where_no_reward_is_learned(squash):
    policy_kwargs = {**TINY_NET, "squash_output": squash}
    assert_learns_as_ppo(vec_env, use_sde=True, sde_sample_freq=8, policy_kwargs=policy_kwargs)


# Wrappers


@pytest.mark.parametrize(("norm_obs", "norm_reward"), [(True, False), (False, True), (True, True)])
@pytest.mark.parametrize("validation", ["split", "next_rollout"])
def test_it_learns_behind_vec_normalize(norm_obs, norm_reward, validation):
    env = VecNormalize(vec_env(2), norm_obs=norm_obs, norm_reward=norm_reward)
    assert_learns(tare(env, host={"n_steps": 32}, validation=validation))


@pytest.mark.parametrize(("norm_obs", "norm_reward"), [(True, False), (False, True), (True, True)])
def test_behind_vec_normalize_it_learns_as_ppo_where_no_reward_is_learned(norm_obs, norm_reward):
    assert_learns_as_ppo(lambda: VecNormalize(vec_env(2), norm_obs=norm_obs, norm_reward=norm_reward))


def test_it_learns_behind_vec_monitor():
    model = assert_learns(tare(VecMonitor(DummyVecEnv([Toy, Toy]))))
    assert len(model.ep_info_buffer) > 0


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("p_end", [0.0, 0.1, 1.0])
def test_with_timeouts_and_terminations_it_learns_as_ppo_where_no_reward_is_learned(n_envs, p_end):
    assert_learns_as_ppo(lambda: vec_env(n_envs, lambda: Toy(p_end=p_end)))


def test_with_dictionaries_it_learns_as_ppo_where_no_reward_is_learned():
    space = spaces.Dict({"vector": OBSERVATION, "choice": spaces.Discrete(3)})
    assert_learns_as_ppo(lambda: vec_env(2, lambda: Toy(space)), "MultiInputPolicy", n_steps=32)


def test_environments_in_processes_of_their_own_teach_as_they_teach_ppo():
    # Their rewards arrive in float64, those of a DummyVecEnv in float32.
    assert_learns_as_ppo(lambda: SubprocVecEnv([lambda: Toy(p_end=0.05)] * 2, start_method="fork"))


def test_it_learns_a_reward_in_environments_in_processes_of_their_own():
    env = SubprocVecEnv([Toy, Toy], start_method="fork")
    assert_learns(tare(env))
    env.close()


def test_a_time_limit_of_gymnasium_is_a_timeout_and_a_termination_is_none():
    timeout, termination, cut = 1, 0, 2
    for env, expected in (
        (lambda: TimeLimit(Toy(horizon=1000), 10), [timeout] * 6 + [cut]),
        (lambda: Toy(horizon=5, p_end=1.0), [termination] * ITERATION),
    ):
        model = tare(vec_env(1, env))
        rollouts = recorded_rollouts(model.reward_learner)
        model.learn(ITERATION)
        assert rollouts[0].reward.episodes.ends.tolist() == expected


def test_at_a_timeout_the_second_critic_values_the_terminal_observation():
    expected = []

    def value(watch):
        model, terminal = watch.model, [0.0, 0.0]
        for env in np.flatnonzero(watch.locals["dones"]):
            observation, _ = model.policy.obs_to_tensor(watch.locals["infos"][env]["terminal_observation"])
            with torch.no_grad():
                features = model.policy.extract_features(observation)
                terminal[env] = model.gamma * float(model.reward_learner.trainer.reward_model.critic(features))
        expected.append(terminal)

    model = tare(vec_env(2), zero_head=False)
    rollouts = recorded_rollouts(model.reward_learner)
    model.learn(3 * 2 * ITERATION, callback=Watch(step=value))
    # The critic claims no value before it has learned one.
    assert not rollouts[0].reward_critic.bootstraps.any()
    for index in (1, 2):
        of_rollout = rollouts[index].reward.unit.scale * np.array(expected)[index * ITERATION : (index + 1) * ITERATION]
        assert np.count_nonzero(of_rollout) == 2 * 3
        np.testing.assert_allclose(rollouts[index].reward_critic.bootstraps, of_rollout.T.ravel(), rtol=1e-5)


# Equality with PPO


@pytest.mark.parametrize("features", ["policy", "own"])
@pytest.mark.parametrize("critics", [1, 2])
def test_the_initial_policy_is_that_of_ppo(features, critics):
    assert not differences(policy_of(ppo()), policy_of(tare(features=features, critics=critics)))


def test_it_leaves_the_global_generators_as_ppo_leaves_them():
    draws = []
    for make in (ppo, tare):
        make()
        draws.append((torch.rand(3).tolist(), np.random.rand(3).tolist()))  # noqa: NPY002
    assert draws[0] == draws[1]


@pytest.mark.parametrize("critics", [1, 2])
@pytest.mark.parametrize(
    "host",
    [{}, {"normalize_advantage": False}, {"clip_range_vf": 0.1}, {"target_kl": 1e-4}, {"batch_size": 30}, {"gae_lambda": 1.0}],
    ids=str,
)
def test_a_learned_reward_of_zero_trains_the_policy_as_ppo(critics, host):
    assert_learns_as_ppo(lambda: vec_env(2), reward_kwargs={**AS_HOST, "critics": critics}, **host)


def test_the_reward_that_the_environment_gives_trains_the_policy_as_ppo_with_one_critic():
    class Copy(Headless):
        def forward(self, inputs):
            return inputs.extrinsic_rewards + 0.0 * super().forward(inputs).to(inputs.extrinsic_rewards)

    kwargs = {"architecture": Copy, "reward_mode": "replace", "critics": 1, "normalize_reward": False, **AS_HOST}
    assert_learns_as_ppo(lambda: vec_env(2), reward_kwargs=kwargs)


@pytest.mark.parametrize("validation", ["split", "next_rollout"])
def test_the_first_rollout_is_the_one_that_ppo_collects(validation):
    seen = []

    def note(watch):
        buffer = watch.model.rollout_buffer
        names = ("observations", "actions", "rewards", "advantages", "returns", "values", "log_probs", "episode_starts")
        seen.append({name: getattr(buffer, name).copy() for name in names})

    for make in (ppo, lambda env: tare(env, validation=validation)):
        make(vec_env(2)).learn(1, callback=Watch(rollout_end=note))
    for name, values in seen[0].items():
        np.testing.assert_array_equal(values, seen[1][name], err_msg=name)


def by_log_prob(arrays, *names):
    """The named columns of each row, by its log-probability, which no two rows share."""
    columns = (arrays[name].ravel().tolist() for name in ("log_probs", *names))
    return {log_prob: rest for log_prob, *rest in zip(*columns, strict=True)}


def run_parts(names, **settings):
    """The named columns as the host collected them, and as its updates on the two parts were given them."""
    of_host = {}

    def note(watch):
        of_host.update(by_log_prob(vars(watch.model.rollout_buffer), *names))

    # Episodes are short, so that the split cuts none in two: where it does, the first half bootstraps.
    model = spy(vec_env(2, lambda: Toy(horizon=4)), n_reward_updates=0, **settings)
    model.learn(2 * ITERATION, callback=Watch(rollout_end=note))
    parts = [by_log_prob(part, *names) for part in model.given]
    assert len(parts) == 2
    assert min(map(len, parts)) >= ITERATION / 2
    assert len(of_host) == 2 * ITERATION
    return of_host, {**parts[0], **parts[1]}


def test_with_a_head_of_zero_both_parts_train_on_the_advantages_of_the_host():
    of_host, trained = run_parts(("advantages", "returns"))
    assert trained == of_host


@pytest.mark.parametrize("reward_mode", ["add", "replace"])
def test_with_two_critics_that_of_the_policy_learns_extrinsic_returns_whatever_trains_the_actor(reward_mode):
    settings = {"reward_mode": reward_mode, "zero_head": False}
    of_host, trained = run_parts(("returns",), **settings)
    assert trained == of_host
    of_host, trained = run_parts(("advantages",), **settings)
    assert all(trained[row] != of_host[row] for row in of_host)


@pytest.mark.parametrize("reward_mode", ["add", "replace"])
def test_with_one_critic_it_learns_the_returns_that_train_the_actor(reward_mode):
    settings = {"reward_mode": reward_mode, "zero_head": False, "critics": 1}
    of_host, trained = run_parts(("returns", "advantages", "values"), **settings)
    for returns, advantages, values in trained.values():
        assert returns == pytest.approx(advantages + values, abs=1e-6)
    assert all(trained[row][0] != of_host[row][0] for row in of_host)


def test_schedules_go_on_as_those_of_ppo():
    progress = {}
    for make in (ppo, lambda **host: tare(host=host)):
        calls = progress.setdefault(make, [])

        def schedule(remaining, calls=calls):
            calls.append(remaining)
            return 1e-3 * remaining + 1e-5

        make(learning_rate=schedule, clip_range=lambda remaining: 0.1 + 0.1 * remaining).learn(3 * ITERATION)
    of_ppo, of_tare = (sorted(set(calls), reverse=True) for calls in progress.values())
    assert of_ppo == of_tare
    assert len(of_ppo) > 2


# Determinism


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"validation": "next_rollout"},
        {"preset": "decomposition", "decomposition_updates": 2},
        {"interleave": True, "features": "own"},
    ],
    ids=str,
)
def test_two_runs_with_one_seed_are_equal_to_the_last_bit(settings):
    runs = [all_of(tare(vec_env(2, lambda: Toy(p_end=0.1)), **settings).learn(4 * ITERATION)) for _ in range(2)]
    assert not differences(*runs)


def test_runs_with_different_seeds_differ_in_policy_and_reward():
    first, second = (all_of(tare(host={"seed": seed}, zero_head=False)) for seed in (0, 1))
    changed = differences(first, second)
    assert "/policy/action_net.weight" in changed
    assert "/reward_learner/reward_model/network.head.weight" in changed


def test_a_seed_of_its_own_changes_the_reward_and_not_the_policy():
    first, second = (all_of(tare(seed=seed, zero_head=False)) for seed in (1, 2))
    changed = differences(first, second)
    assert "/reward_learner/reward_model/network.head.weight" in changed
    assert not [name for name in changed if name.startswith(("/policy", "/optimiser"))]


def test_without_a_seed_two_runs_differ():
    first, second = (all_of(tare(host={"seed": None}, zero_head=False)) for _ in range(2))
    assert "/reward_learner/reward_model/network.head.weight" in differences(first, second)


# What the reward phase must leave alone


@pytest.mark.parametrize(
    "settings",
    [
        {"n_reward_updates": 3},
        {"validation": "next_rollout"},
        {"curvature": "hessian"},
        {"interleave": True},
        {"preset": "decomposition", "decomposition_updates": 2},
    ],
    ids=str,
)
def test_between_the_updates_of_the_host_nothing_touches_its_policy(settings):
    model = spy(host={"policy_kwargs": {**TINY_NET, "features_extractor_class": NormDropoutExtractor}}, **settings)
    model.learn(3 * ITERATION)
    assert len(model.after) >= 3
    assert "/policy/features_extractor.layers.0.running_mean" in differences(model.before[0], model.after[0])
    for before, after in zip([*model.before[1:], model.everything()], model.after, strict=True):
        touched = differences(before, after)
        # The host collects in evaluation mode.
        assert not [name for name in touched if not name.startswith("/modes")]
    assert not differences(model.everything(), model.after[-1])


def test_the_reward_sees_features_without_dropout():
    model = tare(host={"policy_kwargs": {**TINY_NET, "features_extractor_class": NormDropoutExtractor}})
    rollouts, features = recorded_rollouts(model.reward_learner), []

    def extract(watch):
        observations = torch.as_tensor(watch.model.rollout_buffer.observations).flatten(0, 1)
        with torch.no_grad():
            features.append(watch.model.policy.extract_features(observations))

    model.learn(2 * ITERATION, callback=Watch(rollout_end=extract))
    for rollout, expected in zip(rollouts, features, strict=True):
        assert torch.equal(rollout.reward.states, expected)
        assert not (rollout.reward.states == 0).any()


@pytest.mark.parametrize("validation", ["split", "next_rollout"])
def test_an_extractor_of_its_own_may_normalise_batches_and_drop_features_out(validation):
    # An episode that times out ends in a single observation, of which no batch statistics can be taken.
    host = {"policy_kwargs": {**TINY_NET, "features_extractor_class": NormDropoutExtractor}}
    assert_learns(tare(host=host, features="own", validation=validation))


def test_an_extractor_of_its_own_learns_while_the_policy_rests():
    host = {"learning_rate": 0.0, "policy_kwargs": TINY_CNN}
    model = tare(vec_env(1, lambda: Toy(IMAGE)), "CnnPolicy", host=host, features="own", zero_head=False)
    before = all_of(model)
    changed = differences(before, all_of(model.learn(2 * ITERATION)))
    assert any(name.startswith("/reward_learner/reward_model/extractor") for name in changed)
    assert not [name for name in changed if name.startswith("/policy/")]


def test_the_policy_trains_in_training_mode_and_predicts_in_evaluation_mode():
    model = spy(host={"policy_kwargs": {**TINY_NET, "features_extractor_class": NormDropoutExtractor}}).learn(ITERATION)
    assert all(model.after[0][name] for name in model.after[0] if name.startswith("/modes"))
    observation = np.ones((1, *OBSERVATION.shape), dtype=np.float32)
    actions = [model.predict(observation, deterministic=True)[0] for _ in range(5)]
    assert all(np.array_equal(actions[0], action) for action in actions)
    assert not model.policy.training


# Predicting


def test_it_predicts_one_observation_or_several():
    model = tare()
    one, state = model.predict(np.zeros(OBSERVATION.shape, dtype=np.float32), deterministic=True)
    several, _ = model.predict(np.zeros((5, *OBSERVATION.shape), dtype=np.float32), deterministic=True)
    assert one.shape == BOX.shape
    assert state is None
    np.testing.assert_allclose(several, np.broadcast_to(one, (5, *BOX.shape)), rtol=1e-6)


def test_it_can_be_evaluated():
    model = tare().learn(ITERATION)
    mean, _ = evaluate_policy(model, vec_env(), n_eval_episodes=2)
    assert math.isfinite(mean)


# Callbacks


def gae(rewards, values, last_values, episode_starts, dones, gamma, gae_lambda):
    """Generalised advantages by a plain loop over ``[T, N]`` arrays."""
    n_steps = len(rewards)
    advantages, following = np.zeros_like(rewards, dtype=np.float64), 0.0
    for step in reversed(range(n_steps)):
        last = step == n_steps - 1
        goes_on = 1.0 - (dones if last else episode_starts[step + 1])
        next_values = last_values if last else values[step + 1]
        delta = rewards[step] + gamma * goes_on * next_values - values[step]
        following = delta + gamma * gae_lambda * goes_on * following
        advantages[step] = following
    return advantages


@pytest.mark.parametrize("validation", ["split", "next_rollout"])
@pytest.mark.parametrize("as_list", [True, False])
def test_callbacks_see_the_rollout_as_sb3_made_it(validation, as_list):
    rewards, checked = [], []

    def note(watch):
        if watch.locals["n_steps"] == 0:
            rewards.clear()
        rewards.append(watch.locals["rewards"].copy())

    def check(watch):
        model, buffer = watch.model, watch.model.rollout_buffer
        assert type(buffer) is RolloutBuffer
        assert (buffer.buffer_size, buffer.n_envs) == buffer.advantages.shape == (32, 2)
        paid = buffer.rewards - np.stack(rewards)
        # The value of the terminal observation, where an episode of 20 steps timed out.
        assert np.count_nonzero(paid) == 2 * (model.num_timesteps // 40 - (model.num_timesteps - 64) // 40)
        with torch.no_grad():
            last_values = model.policy.predict_values(torch.as_tensor(watch.locals["new_obs"])).flatten().numpy()
        expected = gae(
            buffer.rewards, buffer.values, last_values, buffer.episode_starts, watch.locals["dones"], 0.99, model.gae_lambda
        )
        np.testing.assert_allclose(buffer.advantages, expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(buffer.returns, expected + buffer.values, rtol=1e-4, atol=1e-5)
        checked.append(True)

    watch = Watch(step=note, rollout_end=check)
    model = tare(vec_env(2), host={"n_steps": 32}, validation=validation, zero_head=False)
    model.learn(3 * 64, callback=[watch] if as_list else watch)
    assert len(checked) == 3


def test_a_function_is_a_callback_and_can_stop_training():
    calls = []

    def stop_after_ten(locals_, globals_):
        calls.append(locals_["self"].num_timesteps)
        return len(calls) < 10

    model = tare()
    model.learn(2 * ITERATION, callback=stop_after_ten)
    assert calls == list(range(1, 11))
    assert model.num_timesteps == 10
    assert_learns(model)


def test_the_callbacks_of_sb3_work(tmp_path):
    best = CheckpointCallback(1, tmp_path / "best")
    model = tare()
    model.learn(
        3 * ITERATION,
        callback=[
            EvalCallback(vec_env(), eval_freq=50, n_eval_episodes=1, verbose=0, callback_on_new_best=best, log_path=tmp_path,
                         best_model_save_path=tmp_path),
            CheckpointCallback(100, tmp_path, verbose=0),
            StopTrainingOnMaxEpisodes(7),
        ],
    )  # fmt: skip
    assert model.num_timesteps == 7 * 20
    assert {"best_model.zip", "evaluations.npz", "rl_model_100_steps.zip"} <= {path.name for path in tmp_path.iterdir()}
    assert any((tmp_path / "best").iterdir())
    loaded = TAREPPO.load(tmp_path / "rl_model_100_steps", env=vec_env())
    assert_learns(loaded)


def test_it_shows_a_progress_bar(capsys):
    tare().learn(ITERATION, progress_bar=True)
    output = capsys.readouterr()
    assert "64/64" in output.out + output.err


# Settings


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize("reward_mode", ["add", "replace"])
def test_every_reward_network_learns(architecture, reward_mode):
    env = vec_env(2, lambda: Toy(p_end=0.1))
    assert_learns(tare(env, host={"n_steps": 32}, architecture=architecture, reward_mode=reward_mode))


@pytest.mark.parametrize(
    "settings",
    [
        {"preset": "paper"},
        {"preset": "paper", "validation": "next_rollout"},
        {"validation": "next_rollout"},
        {"validation": "next_rollout", "reward_mode": "replace"},
        {"validation": "next_rollout", "curvature": "hessian"},
        {"curvature": "fisher", "curvature_episodes": "training"},
        {"curvature": "hessian"},
        {"curvature": "hessian", "curvature_episodes": "training"},
        {"curvature": "hessian", "kl_coef": 0.0, "damping": 0.0},
        {"curvature": "identity"},
        {"curvature": "identity", "curvature_episodes": "training", "validation": "next_rollout"},
        {"critics": 1},
        {"critics": 1, "reward_mode": "replace"},
        {"critics": 1, "validation": "next_rollout"},
        {"swap": False},
        {"interleave": True},
        {"interleave": True, "swap": False},
        {"center": True},
        {"center": True, "reward_mode": "replace"},
        {"normalize_reward": False},
        {"actor_parameters": "without_log_std"},
        {"n_reward_updates": 0},
        {"n_reward_updates": 3},
        {"gae_lambda": 1.0},
        {"gae_lambda": 0.0},
        {"reward_coef": 0.0},
        {"zero_head": False},
        {"zero_head": True, "reward_mode": "replace"},
        {"architecture": LinearReward, "architecture_kwargs": {"scale": 2.0}},
        {"architecture": Headless, "zero_head": False},
        {"architecture_kwargs": {"hidden_size": 8, "lstm_hidden_size": 4, "bound": 1.0}},
        {"critic_epochs": 0},
        {"critic_batch_size": 7},
        {"cg_steps": 1, "damping": 0.0},
        {"preset": "decomposition", "decomposition_updates": 2},
    ],
    ids=str,
)
def test_every_setting_learns_and_stays_finite(settings):
    if settings.get("reward_coef") == 0.0:
        # Nothing that the policy sees depends on the reward network then.
        model = tare(**settings)
        model.learn(2 * ITERATION)
        assert not not_finite(all_of(model))
        return
    assert_learns(tare(vec_env(1, lambda: Toy(p_end=0.1)), **settings))


@pytest.mark.parametrize("reward", [0.0, 1.0, 1e6])
def test_a_constant_reward_keeps_everything_finite(reward):
    class Constant(Toy):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, reward, *rest

    model = tare(vec_env(1, Constant), zero_head=False)
    model.learn(3 * ITERATION)
    assert not not_finite(all_of(model))
    assert all(math.isfinite(value) for value in model.logger.name_to_value.values())


def test_arguments_of_a_network_of_the_users_reach_it():
    model = tare(architecture=LinearReward, architecture_kwargs={"scale": 2.5})
    assert model.reward_learner.trainer.reward_model.network.scale == 2.5


def test_the_papers_setting_is_a_preset_that_yields_to_what_else_is_said():
    paper = {"reward_mode": "replace", "validation": "split", "swap": True, "gae_lambda": 1.0, "n_reward_updates": 1}
    settings = tare(preset="paper").reward_learner.settings
    assert paper.items() <= settings.flat().items()
    assert tare(preset="paper", gae_lambda=0.5).reward_learner.settings.advantage.gae_lambda == 0.5


def test_the_papers_network_has_two_layers_of_lstm_unless_another_network_is_chosen():
    assert tare(preset="paper").reward_learner.trainer.reward_model.network.lstm.num_layers == 2
    assert tare().reward_learner.trainer.reward_model.network.lstm.num_layers == 1
    one = tare(preset="paper", architecture_kwargs={"lstm_layers": 1}).reward_learner
    assert one.trainer.reward_model.network.lstm.num_layers == 1
    assert tare(preset="paper", architecture="StateAction").reward_learner.settings.network.architecture_kwargs == {}


def test_the_paper_to_the_letter_has_one_critic_and_the_hessian_on_the_validation_episodes():
    settings = tare(preset="paper_literal").learn(2 * ITERATION).reward_learner.settings
    differing = {"preset": "paper_literal", "critics": 1, "curvature": "hessian", "reward_every": 0}
    assert settings.flat() == {**RewardSettings(preset="paper").flat(), **differing}
    assert settings.gradient.curvature_episodes == "validation"


# How often each of the two is updated


@pytest.mark.parametrize(
    ("settings", "n_updates", "n_reward_steps"),
    [
        ({}, 2, 2),
        ({"swap": False}, 1, 1),
        ({"n_reward_updates": 3}, 2, 6),
        # SMALL has two epochs.
        ({"interleave": True}, 2, 4),
        ({"interleave": True, "swap": False}, 1, 2),
        ({"interleave": True, "n_reward_updates": 3}, 2, 12),
    ],
    ids=str,
)
def test_the_host_updates_once_for_each_part_and_the_reward_after_it_or_after_each_epoch(settings, n_updates, n_reward_steps):
    model = spy(**settings).learn(ITERATION)
    sizes = [part["advantages"].size for part in model.given]
    assert len(sizes) == n_updates
    assert max(sizes) < ITERATION
    assert len(sizes) == 1 or sum(sizes) == ITERATION
    assert model._n_updates == n_updates * SMALL["n_epochs"]
    assert model.get_parameters()["reward_optimisation"]["optimisers"]["reward"]["state"][0]["step"] == n_reward_steps


def test_the_next_rollout_validates_the_one_before_which_trains_as_a_whole():
    model = spy(validation="next_rollout", n_reward_updates=2).learn(3 * ITERATION)
    assert [part["advantages"].size for part in model.given] == [ITERATION] * 3
    assert model.get_parameters()["reward_optimisation"]["optimisers"]["reward"]["state"][0]["step"] == 4


def test_interleaved_epochs_train_on_a_reward_that_moves():
    served = []

    class Spy(RolloutBuffer):
        def get(self, batch_size=None):
            for batch in super().get(batch_size):
                served[-1].append(batch)
                yield batch

    class Host(PPO):
        def train(self):
            served.append([])
            super().train()

    class Learns(LearnsReward, Host):
        pass

    for interleave in (False, True):
        served.clear()
        host = {**SMALL, "batch_size": 128, "rollout_buffer_class": Spy, "n_epochs": 3}
        settings = {**IMPLICIT, "interleave": interleave, "zero_head": False}
        Learns("MlpPolicy", vec_env(), reward_kwargs=settings, **host).learn(ITERATION)
        assert [len(passes) for passes in served] == [3, 3]
        for passes in served:
            rows = [batch.old_log_prob.argsort() for batch in passes]
            advantages = [batch.advantages[order] for batch, order in zip(passes, rows, strict=True)]
            moved = [not torch.equal(first, second) for first, second in itertools.pairwise(advantages)]
            assert moved == [interleave] * 2


@pytest.mark.parametrize("settings", [{"n_reward_updates": 0, "zero_head": False}, {"reward_coef": 0.0}], ids=str)
def test_interleaving_changes_nothing_for_a_policy_to_which_the_reward_step_makes_no_difference(settings):
    # Dropout and batch normalisation, so that the reward step in the middle of an update would show in any draw or mode.
    host = {"policy_kwargs": {**TINY_NET, "features_extractor_class": NormDropoutExtractor}, "n_epochs": 3}
    runs = [policy_of(tare(host=host, interleave=interleave, **settings).learn(2 * ITERATION)) for interleave in (False, True)]
    assert not differences(*runs)


def test_interleaving_a_single_epoch_changes_nothing():
    host = {"n_epochs": 1}
    runs = [all_of(tare(host=host, interleave=interleave).learn(3 * ITERATION)) for interleave in (False, True)]
    assert not differences(*runs)


def test_an_update_that_stops_early_takes_as_many_reward_steps_as_it_made_epochs():
    model = spy(host={"target_kl": 1e-6, "n_epochs": 5, "learning_rate": 1e-2}, interleave=True).learn(ITERATION)
    steps = model.get_parameters()["reward_optimisation"]["optimisers"]["reward"]["state"][0]["step"]
    assert steps == model._n_updates < 10


def test_without_reward_updates_the_reward_network_stays_as_it_is():
    model = tare(n_reward_updates=0, zero_head=False)
    before = snapshot(model.reward_learner.trainer.reward_model.network.state_dict())
    model.learn(2 * ITERATION)
    assert not differences(before, snapshot(model.reward_learner.trainer.reward_model.network.state_dict()))


def test_learning_may_go_on_with_a_second_call():
    model = tare(validation="next_rollout")
    model.learn(2 * ITERATION).learn(2 * ITERATION, reset_num_timesteps=False)
    assert model.num_timesteps == 4 * ITERATION
    assert_learns(model)
    assert model.num_timesteps == 2 * ITERATION


def test_another_environment_may_be_set():
    model = tare().learn(ITERATION)
    model.set_env(vec_env(1, lambda: Toy(p_end=0.5)))
    assert_learns(model)

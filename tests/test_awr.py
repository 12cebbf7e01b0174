"""AWR collects, evaluates and learns as its paper says, for all kinds of spaces and environments."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from builders import LAWS, normal
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import VecNormalize
from toys import (
    OBSERVATION,
    TINY_NET,
    NormDropoutExtractor,
    TinyCNN,
    Toy,
    awr,
    awr_of,
    differences,
    not_finite,
    vec_env,
)

from sb3_tare import AWR
from sb3_tare.awr.updates import bound_loss, shuffled_batches, standardised
from sb3_tare.policy.objectives import advantage_weights

UNEVEN = spaces.Box(np.float32([-2.0, 0.0]), np.float32([6.0, 1.0]), dtype=np.float32)
IMAGE = spaces.Box(0, 255, (3, 16, 16), dtype=np.uint8)


# The mathematics


@LAWS
@given(st.integers(2, 30), st.integers(0, 1000))
def test_standardised_advantages_are_numpys_with_a_little_added_to_the_deviation(n, seed):
    advantages = 7.0 + 3.0 * normal(n, seed=seed)
    array = advantages.numpy()
    np.testing.assert_allclose(standardised(advantages), (array - array.mean()) / (array.std() + 1e-5), rtol=1e-10)


@pytest.mark.parametrize("advantage", [0.0, 0.1, -3e5])
def test_one_advantage_repeated_has_one_weight(advantage):
    weights = advantage_weights(standardised(torch.full((100,), advantage)), 0.05, 20.0)
    assert torch.isfinite(weights).all()
    assert torch.equal(weights, weights[:1].expand(100))


def test_the_bound_loss_is_half_the_squared_distance_from_the_box():
    means = torch.tensor([[0.5, -1.0], [1.5, -3.0], [-2.0, 0.0]])
    assert float(bound_loss(means)) == pytest.approx(0.5 * (0.0 + 0.25 + 4.0 + 1.0) / 3)


@LAWS
@given(st.integers(1, 20), st.integers(1, 9), st.integers(0, 9))
def test_batches_pass_over_all_rows_before_any_comes_again(n_rows, batch_size, n_batches):
    batches = shuffled_batches(n_rows, batch_size, n_batches)
    assert batches.shape == (n_batches, batch_size)
    for rows in batches.flatten().split(n_rows):
        assert len(set(rows.tolist())) == len(rows)


# An update, written out


class ByHand:
    """Both phases of one environment's memory without wrap-around, in plain torch."""

    def __init__(self, model: AWR) -> None:
        self.model, memory = model, model.replay_buffer
        n = memory.size()
        names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts")
        arrays = (torch.from_numpy(getattr(memory, name)[:n, 0].copy()) for name in names)
        self.observations, self.next_observations, self.actions, self.rewards, self.dones, self.timeouts = arrays
        moments = model.policy.normalizer.moments["observation_"]
        self.mean, self.deviation = moments.mean.clone(), moments.deviation.clone()
        policy = model.policy
        self.critic = self._copies([*policy.mlp_extractor.value_net.parameters(), *policy.value_net.parameters()])
        self.actor = self._copies([*policy.mlp_extractor.policy_net.parameters(), *policy.action_net.parameters()])
        self.log_std = policy.log_std.detach().clone().requires_grad_()

    @staticmethod
    def _copies(parameters: list[torch.Tensor]) -> list[torch.Tensor]:
        return [parameter.detach().clone().requires_grad_() for parameter in parameters]

    def output(self, weights: list[torch.Tensor], observations: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu((observations - self.mean) / self.deviation @ weights[0].T + weights[1])
        return hidden @ weights[2].T + weights[3]

    def value(self, observations: torch.Tensor) -> torch.Tensor:
        return self.output(self.critic, observations).flatten() / (1.0 - self.model.gamma)

    def returns(self) -> torch.Tensor:
        gamma, td_lambda = self.model.gamma, self.model.td_lambda
        following = self.value(self.next_observations).detach()
        returns, later = torch.zeros(len(self.rewards)), None
        for t in reversed(range(len(self.rewards))):
            is_last = later is None or bool(self.dones[t])
            terminated = bool(self.dones[t]) and not bool(self.timeouts[t])
            beyond = torch.tensor(0.0) if terminated else following[t]
            later = self.rewards[t] + gamma * (beyond if is_last else (1 - td_lambda) * beyond + td_lambda * later)
            returns[t] = later
        return returns

    def batches(self, n_batches: int) -> torch.Tensor:
        n, size = len(self.rewards), self.model.batch_size
        n_passes = math.ceil(n_batches * size / n)
        return torch.cat([torch.randperm(n) for _ in range(n_passes)])[: n_batches * size].view(n_batches, size)

    def descend(self, parameters: list[torch.Tensor], loss, n_steps: int, step_size: float) -> None:
        """SGD with momentum 0.9."""
        velocities = [torch.zeros_like(parameter) for parameter in parameters]
        for rows in self.batches(n_steps):
            gradients = torch.autograd.grad(loss(rows), parameters)
            for parameter, velocity, gradient in zip(parameters, velocities, gradients, strict=True):
                velocity.mul_(0.9).add_(gradient)
                parameter.data.sub_(step_size * velocity)

    def train_critic(self, n_steps: int) -> None:
        returns, unit = self.returns(), 1.0 / (1.0 - self.model.gamma)

        def loss(rows: torch.Tensor) -> torch.Tensor:
            return 0.5 * ((self.value(self.observations[rows]) - returns[rows]) / unit).square().mean()

        self.descend(self.critic, loss, n_steps, self.model.critic_learning_rate)

    def train_actor(self, n_steps: int) -> None:
        advantages = self.returns() - self.value(self.observations).detach()
        scaled = (advantages - advantages.mean()) / (advantages.std(correction=0) + 1e-5)
        weights = (scaled / self.model.temperature).exp().clamp(max=self.model.max_weight)
        assert 0.05 < (weights == self.model.max_weight).float().mean() < 0.95

        def loss(rows: torch.Tensor) -> torch.Tensor:
            means, actions = self.output(self.actor, self.observations[rows]), self.actions[rows]
            log_probs = -0.5 * ((actions - means) / self.log_std.exp()) ** 2 - self.log_std - 0.5 * math.log(2 * math.pi)
            regression = -(weights[rows] * log_probs.sum(dim=1)).mean()
            out_of_bounds = torch.relu(means - 1.0) ** 2 + torch.relu(-1.0 - means) ** 2
            entropy = (self.log_std + 0.5 * math.log(2 * math.pi * math.e)).sum()
            penalty = self.model.bound_coef * 0.5 * out_of_bounds.sum(dim=1).mean() - self.model.ent_coef * entropy
            return regression + penalty

        self.descend([*self.actor, self.log_std], loss, n_steps, self.model.learning_rate)


def test_an_update_is_the_one_written_out_by_hand():
    kwargs = {"gamma": 0.9, "temperature": 0.7, "max_weight": 1.5, "ent_coef": 0.1, "learn_std": True, "learning_rate": 1e-3}
    model = awr(vec_env(1, lambda: Toy(p_end=0.05, horizon=12)), critic_steps=0, actor_steps=0, **kwargs).learn(128)
    policy = model.policy
    policy.action_net.bias.data.copy_(torch.tensor([1.2, -0.9]))  # so that some means are out of bounds
    by_hand = ByHand(model)
    before = awr_of(model)
    torch.manual_seed(7)
    model.train_critic(model.replay_buffer.paths(), 7)
    model.train_actor(model.replay_buffer.paths(), 6)
    torch.manual_seed(7)
    by_hand.train_critic(7)
    by_hand.train_actor(6)
    assert {"/policy/log_std", "/policy/action_net.bias", "/policy/value_net.bias"} <= set(differences(before, awr_of(model)))
    learned = [*policy.mlp_extractor.value_net.parameters(), *policy.value_net.parameters()]
    torch.testing.assert_close(learned, by_hand.critic, rtol=1e-4, atol=1e-6, check_stride=False)
    learned = [*policy.mlp_extractor.policy_net.parameters(), *policy.action_net.parameters(), policy.log_std]
    torch.testing.assert_close(learned, [*by_hand.actor, by_hand.log_std], rtol=1e-4, atol=1e-6)


def counted_steps(model: AWR, total_timesteps: int) -> tuple[int, int]:
    """Gradient steps that critic and actor take."""
    counts = {"critic": 0, "actor": 0}

    def counter(name):
        def count(*_):
            counts[name] += 1

        return count

    for name in counts:
        getattr(model.policy, f"{name}_optimizer").register_step_post_hook(counter(name))
    model.learn(total_timesteps)
    return counts["critic"], counts["actor"]


@pytest.mark.parametrize(
    ("n_envs", "train_freq", "total", "expected"),
    [
        (1, 64, 128, (2 * 4, 2 * 3)),
        (4, 64, 512, (2 * 16, 2 * 12)),
        (4, 1, 8, (2 * 1, 2 * 1)),  # 4 of 2,048 samples are worth a quarter of a step, which is rounded up
        (1, (3, "episode"), 60, (4, 3)),  # 60 samples
        (1, (7, "episode"), 140, (9, 7)),  # 140 samples
    ],
)
def test_gradient_steps_are_in_proportion_to_the_samples_collected(n_envs, train_freq, total, expected):
    assert counted_steps(awr(vec_env(n_envs), train_freq=train_freq), total) == expected


@pytest.mark.parametrize(("n_envs", "steps"), [(1, 2048), (3, 683), (64, 32)])
def test_unless_told_otherwise_an_iteration_has_2048_steps(n_envs, steps):
    model = awr(vec_env(n_envs), train_freq=None, buffer_size=50_000)
    assert model.train_freq.frequency == steps


# Acting


class Recorded(Toy):
    """Keeps the actions that it was given."""

    def __init__(self, **kwargs) -> None:
        super().__init__(**kwargs)
        self.actions = []

    def step(self, action):
        self.actions.append(np.array(action))
        return super().step(action)


def test_the_memory_has_actions_as_drawn_and_the_environment_clipped_and_scaled_ones():
    env = Recorded(action_space=UNEVEN)
    model = awr(vec_env(1, lambda: env), action_std=2.0).learn(256)
    stored = model.replay_buffer.actions[:, 0]
    assert np.abs(stored).max() > 3.0
    assert stored.std() == pytest.approx(2.0, rel=0.15)
    clipped = np.clip(stored, -1.0, 1.0)
    np.testing.assert_allclose(env.actions, UNEVEN.low + 0.5 * (clipped + 1.0) * (UNEVEN.high - UNEVEN.low), atol=1e-5)
    assert all(UNEVEN.contains(action) for action in env.actions)


def test_predicted_actions_are_within_bounds_and_the_mode_where_that_is_asked_for():
    model = awr(vec_env(1, lambda: Toy(action_space=UNEVEN)), action_std=3.0)
    model.policy.action_net.bias.data.copy_(torch.tensor([0.5, 1.7]))
    observations = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    drawn, _ = model.predict(observations)
    assert all(UNEVEN.contains(action) for action in drawn)
    assert np.ptp(drawn, axis=0) == pytest.approx([8.0, 1.0])
    mode, _ = model.predict(observations, deterministic=True)
    with torch.no_grad():
        means = model.policy.get_distribution(torch.from_numpy(observations)).distribution.mean.numpy()
    np.testing.assert_allclose(mode, -2.0 + 4.0 * (means[:, [0]] + 1.0) * [[1.0, 0.0]] + [[0.0, 3.0]], atol=1e-5)


@pytest.mark.parametrize(
    ("action_space", "mode"),
    [(spaces.Discrete(3), 2), (spaces.MultiDiscrete([2, 3]), [1, 0]), (spaces.MultiBinary(3), [1, 0, 1])],
    ids=str,
)
def test_the_mode_of_discrete_actions_is_the_likeliest(action_space, mode):
    model = awr(vec_env(1, lambda: Toy(action_space=action_space)))
    logits = {3: [0.0, 1.0, 2.0], 5: [0.0, 1.0, 3.0, 1.0, 2.0]}
    n = model.policy.action_net.bias.shape[0]
    logits = [1.0, -1.0, 2.0] if isinstance(action_space, spaces.MultiBinary) else logits[n]
    model.policy.action_net.bias.data.copy_(torch.tensor(logits))
    action, _ = model.predict(np.zeros(3, dtype=np.float32), deterministic=True)
    np.testing.assert_array_equal(action, mode)


# Spaces and environments

ACTIONS = [UNEVEN, spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3)]
CNN_KWARGS = {**TINY_NET, "features_extractor_class": TinyCNN}
NAMED = spaces.Dict({"body": OBSERVATION, "mode": spaces.Discrete(3)})
OBSERVATIONS = {
    "MlpPolicy": (OBSERVATION, TINY_NET),
    "CnnPolicy": (IMAGE, CNN_KWARGS),
    "MultiInputPolicy": (NAMED, TINY_NET),
}


def assert_learns_and_acts(model: AWR, total_timesteps: int) -> None:
    before = awr_of(model)
    model.learn(total_timesteps)
    after = awr_of(model)
    changed = differences(before, after)
    assert not not_finite(after)
    assert "/policy/action_net.weight" in changed
    assert "/policy/value_net.weight" in changed
    for deterministic in (True, False):
        actions, _ = model.predict(model.get_env().reset(), deterministic=deterministic)
        assert all(model.action_space.contains(np.asarray(a).astype(model.action_space.dtype)) for a in actions)


@pytest.mark.parametrize("action_space", ACTIONS, ids=str)
def test_it_learns_with_any_actions(action_space):
    model = awr(vec_env(2, lambda: Toy(action_space=action_space)), ent_coef=0.01)
    assert_learns_and_acts(model, 256)


@pytest.mark.parametrize("policy", OBSERVATIONS)
def test_it_learns_from_any_observations(policy):
    space, kwargs = OBSERVATIONS[policy]
    assert_learns_and_acts(awr(vec_env(2, lambda: Toy(space)), policy, policy_kwargs=kwargs), 256)


def test_images_are_seen_by_the_network_of_sb3s_policy_unless_told_otherwise():
    env = vec_env(1, lambda: Toy(spaces.Box(0, 255, (36, 36, 1), dtype=np.uint8)))  # channels last
    model = awr(env, "CnnPolicy", policy_kwargs=None, train_freq=8, buffer_size=32, batch_size=4)
    assert type(model.policy.pi_features_extractor.extractor).__name__ == "NatureCNN"
    assert_learns_and_acts(model, 16)


def test_sixty_four_environments_are_as_good_as_one():
    model = awr(vec_env(64), train_freq=4, buffer_size=64 * 8, actor_steps=32)
    assert_learns_and_acts(model, 3 * 256)
    assert model.replay_buffer.paths().episodes.n_steps == 64 * 8


@pytest.mark.parametrize("learn_std", [True, False])
def test_the_deviation_is_fixed_unless_it_is_learned(learn_std):
    model = awr(action_std=0.3, learn_std=learn_std).learn(128)
    deviations = model.policy.log_std.detach().exp()
    assert torch.allclose(deviations, torch.tensor(0.3), rtol=1e-6) is not learn_std
    assert ("log_std" in [name for name, p in model.policy.named_parameters() if p.requires_grad]) is learn_std


def test_optimisers_are_sgd_with_momentum_or_what_is_asked_for():
    for name in ("actor_optimizer", "critic_optimizer"):
        optimizer = getattr(awr().policy, name)
        assert type(optimizer) is torch.optim.SGD
        assert optimizer.param_groups[0]["momentum"] == 0.9
        kwargs = {**TINY_NET, "optimizer_class": torch.optim.Adam, "optimizer_kwargs": {"betas": (0.5, 0.9)}}
        optimizer = getattr(awr(policy_kwargs=kwargs).policy, name)
        assert type(optimizer) is torch.optim.Adam
        assert optimizer.param_groups[0]["betas"] == (0.5, 0.9)
    assert_learns_and_acts(awr(policy_kwargs=kwargs), 128)


def test_each_optimiser_has_its_own_parameters_and_together_they_have_all():
    policy = awr(learn_std=True).policy
    actor, critic = ({id(p) for p in params} for params in (policy.actor_parameters(), policy.critic_parameters()))
    assert not actor & critic
    assert actor | critic == {id(parameter) for parameter in policy.parameters()}


def test_step_sizes_follow_their_schedules():
    model = awr(learning_rate=lambda left: 1e-3 * left, critic_learning_rate=lambda left: 1e-2 * left).learn(256)
    assert model.policy.actor_optimizer.param_groups[0]["lr"] == pytest.approx(0.0)
    model = awr(learning_rate=lambda left: 1e-3 * left, critic_learning_rate=lambda left: 1e-2 * left)
    model.learn(64 * 4 - 1)
    assert model.policy.critic_optimizer.param_groups[0]["lr"] <= 1e-2


def test_values_are_those_of_a_network_at_rest():
    """Batch norm and dropout are in training mode in gradient steps alone."""
    kwargs = {**TINY_NET, "features_extractor_class": NormDropoutExtractor}
    model = awr(policy_kwargs=kwargs).learn(128)
    norms = {name: getattr(model.policy, f"{name}_features_extractor").extractor.layers[0] for name in ("pi", "vf")}
    assert (int(norms["pi"].num_batches_tracked), int(norms["vf"].num_batches_tracked)) == (2 * 3, 2 * 4)
    assert not model.policy.training
    paths = model.replay_buffer.paths()
    first, second = model.evaluate(paths), model.evaluate(paths)
    assert torch.equal(first[1], second[1])


def test_behind_vec_normalize_the_memory_is_raw_and_training_sees_what_is_normalised():
    env = VecNormalize(vec_env(2, lambda: Toy(spaces.Box(-np.inf, np.inf, (3,), dtype=np.float32))))
    model = awr(env).learn(256)
    memory, rows = model.replay_buffer, model.replay_buffer.paths().rows
    raw = memory.observations_at(rows).numpy()
    np.testing.assert_allclose(raw.mean(axis=0), env.obs_rms.mean, atol=0.1)
    seen = model._observations(rows).numpy()
    np.testing.assert_allclose(seen, env.normalize_obs(raw), rtol=1e-6)
    assert not np.allclose(seen, raw)
    rewards = memory.rewards_at(rows, env).numpy()
    np.testing.assert_allclose(rewards, env.normalize_reward(memory.rewards_at(rows).numpy()), rtol=1e-6)
    assert not np.allclose(rewards, memory.rewards_at(rows).numpy())
    _, advantages = model.evaluate(model.replay_buffer.paths())
    env.norm_reward = False
    assert not torch.allclose(model.evaluate(model.replay_buffer.paths())[1], advantages)


def test_a_seed_makes_a_run_the_same_and_another_one_another():
    runs = [awr_of(awr(vec_env(2), seed=seed).learn(256)) for seed in (0, 0, 1)]
    assert not differences(runs[0], runs[1])
    assert differences(runs[0], runs[2])


def test_what_was_learned_is_logged(tmp_path):
    model = awr()
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(64, log_interval=1)
    names = {"critic_loss", "actor_loss", "explained_variance", "advantage_mean", "advantage_std", "weight_mean", "weight_max"}
    names |= {"std", "actor_learning_rate", "critic_learning_rate", "n_updates"}
    model.learn(64)
    logged = {name for name in model.logger.name_to_value if name.startswith("train/")}
    assert {f"train/{name}" for name in names} <= logged
    assert set(model.seconds) == {"returns", "critic", "actor"}
    assert all(seconds > 0.0 for seconds in model.seconds.values())

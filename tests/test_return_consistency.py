"""A reward that sums to the extrinsic one over windows of episodes, where that one comes late."""

import numpy as np
import pytest
import torch
from stable_baselines3.common.callbacks import BaseCallback
from toys import ITERATION, Delayed, Toy, differences, recorded_rollouts, snapshot, tare, vec_env

from sb3_tare import RewardInputs
from sb3_tare.data.episodes import End, Episodes
from sb3_tare.data.rollout import RewardSteps
from sb3_tare.rewards.consistency import WindowMemory, consistency_loss

CONSISTENT = {"architecture": "StateAction", "return_consistency": 1.0, "consistency_window": 16}


def rollout_of(lengths, first_times=None, name=0):
    """A rollout of pieces of the given lengths, each row of which tells its rollout, row, piece, step in it, and time."""
    n_pieces = len(lengths)
    first_times = torch.as_tensor([0] * n_pieces if first_times is None else first_times)
    episodes = Episodes(torch.as_tensor(lengths), first_times, torch.full((n_pieces,), int(End.CUT)))
    rows = torch.arange(episodes.n_steps)
    columns = [torch.full_like(rows, name), rows, episodes.pieces, episodes.offsets, episodes.times]
    states = torch.stack(columns, dim=1).float()
    rewards = torch.randn(len(rows), generator=torch.Generator().manual_seed(name))
    return RewardSteps(states, rows.float()[:, None], rewards, episodes, rewards)


def sampled(rollouts, window, n_windows=200, n_rollouts=20, seed=0):
    memory = WindowMemory(n_rollouts, window)
    for rollout in rollouts:
        memory.add(rollout)
    return memory.sample(n_windows, torch.Generator().manual_seed(seed))


def windows_of(samples):
    """``(rollout, piece, first step in it, length of the window)`` of each window, after checking that it is one."""
    windows = []
    for sample in samples:
        begin = 0
        for index, length in enumerate(sample.episodes.lengths.tolist()):
            rows = slice(begin, begin + length)
            name, row, piece, offset, time = sample.states[rows].long().T
            assert len(name.unique()) == len(piece.unique()) == 1
            assert (row.diff() == 1).all()
            assert (offset.diff() == 1).all()
            assert torch.equal(sample.episodes.times[rows], time)
            assert (sample.episodes.pieces[rows] == index).all()
            windows.append((int(name[0]), int(piece[0]), int(offset[0]), length))
            begin += length
        assert begin == len(sample.states) == sample.episodes.n_steps
    return windows


# Windows

LENGTHS = [7, 1, 12, 5, 20]


@pytest.mark.parametrize("window", [1, 2, 5, 6, 12, 19, 20, 100])
def test_a_window_lies_inside_one_piece_and_is_as_long_as_it_can_be(window):
    windows = windows_of(sampled([rollout_of(LENGTHS, [0, 30, 4, 0, 11])], window))
    assert len(windows) == 200
    for _, piece, first, length in windows:
        assert length == min(window, LENGTHS[piece])
        assert 0 <= first <= LENGTHS[piece] - length


def test_all_that_belongs_to_a_row_goes_with_it():
    rollout = rollout_of(LENGTHS)
    (sample,) = sampled([rollout], 5)
    rows = sample.states[:, 1].long()
    assert torch.equal(sample.rewards, rollout.rewards[rows])
    assert torch.equal(sample.encoded_actions, rollout.encoded_actions[rows])


@pytest.mark.parametrize("window", [1, 4, 12])
def test_every_place_of_a_piece_can_be_drawn(window):
    windows = windows_of(sampled([rollout_of([12])], window, n_windows=500))
    assert {first for _, _, first, _ in windows} == set(range(12 - window + 1))


def test_pieces_are_drawn_in_proportion_to_their_steps_and_rollouts_too():
    rollouts = [rollout_of([10, 30], name=0), rollout_of([60], name=1)]
    drawn = [(name, piece) for name, piece, _, _ in windows_of(sampled(rollouts, 5, n_windows=3_000))]
    shares = [drawn.count(which) / len(drawn) for which in [(0, 0), (0, 1), (1, 0)]]
    np.testing.assert_allclose(shares, [0.1, 0.3, 0.6], atol=0.03)


def test_places_in_a_piece_are_drawn_evenly():
    firsts = [first for _, _, first, _ in windows_of(sampled([rollout_of([20])], 11, n_windows=3_000))]
    np.testing.assert_allclose(np.bincount(firsts) / len(firsts), 0.1, atol=0.03)


def test_there_are_as_many_windows_as_were_asked_for_over_all_rollouts():
    rollouts = [rollout_of([9, 2], name=name) for name in range(5)]
    windows = windows_of(sampled(rollouts, 4, n_windows=33))
    assert len(windows) == 33
    assert {name for name, *_ in windows} == set(range(5))


def test_samples_depend_on_the_generator_alone():
    first, second, other = (windows_of(sampled([rollout_of(LENGTHS)], 4, seed=seed)) for seed in (0, 0, 1))
    assert first == second != other


def test_the_memory_keeps_the_last_rollouts_alone():
    rollouts = [rollout_of([4], name=name) for name in range(5)]
    windows = windows_of(sampled(rollouts, 2, n_rollouts=3))
    assert {name for name, *_ in windows} == {2, 3, 4}


def test_a_memory_survives_its_state():
    memory, other = WindowMemory(3, 5), WindowMemory(3, 5)
    for name in range(3):
        memory.add(rollout_of(LENGTHS, name=name))
    other.add(rollout_of([3], name=9))
    other.load_state_dict(memory.state_dict(), torch.device("cpu"))
    assert not differences(snapshot(memory.state_dict()), snapshot(other.state_dict()))
    first, second = (m.sample(50, torch.Generator().manual_seed(0)) for m in (memory, other))
    assert windows_of(first) == windows_of(second)


# Loss


@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_the_loss_is_that_of_a_plain_loop(scale):
    rollout = rollout_of(LENGTHS)
    learned = torch.randn(sum(LENGTHS), dtype=torch.float64)
    expected, begin = 0.0, 0
    for length in LENGTHS:
        difference = 0.0
        for row in range(begin, begin + length):
            difference += (float(learned[row]) - float(rollout.rewards[row])) / scale
        expected += difference**2 / length
        begin += length
    assert float(consistency_loss(learned, rollout, scale)) == pytest.approx(expected, rel=1e-6)


def test_a_reward_that_sums_to_the_extrinsic_one_has_no_loss_wherever_it_is_paid():
    rollout = rollout_of([4, 3])
    rewards = rollout.rewards
    spread = torch.cat([rewards[:4].mean().expand(4), rewards[4:].flip(0)])
    assert float(consistency_loss(rewards, rollout, 1.0)) == 0.0
    assert float(consistency_loss(spread, rollout, 1.0)) == pytest.approx(0.0, abs=1e-10)
    assert float(consistency_loss(rewards.roll(4), rollout, 1.0)) > 1e-3


def test_the_loss_has_the_gradient_of_a_plain_formula():
    rollout = rollout_of([3, 2])
    learned = torch.randn(5, dtype=torch.float64, requires_grad=True)
    consistency_loss(learned, rollout, 0.5).backward()
    sums = [float((learned - rollout.rewards).detach()[rows].sum()) for rows in (slice(0, 3), slice(3, 5))]
    # d/dl (sum / scale)^2 / length
    expected = [2 * sums[0] / 0.25 / 3] * 3 + [2 * sums[1] / 0.25 / 2] * 2
    np.testing.assert_allclose(learned.grad.numpy(), expected, rtol=1e-6)


# Learning


class Losses(BaseCallback):
    """Keeps the consistency loss of each iteration."""

    def __init__(self):
        super().__init__()
        self.values = []

    def _on_step(self):
        return True

    def _on_rollout_start(self):
        if "reward/consistency_loss" in self.logger.name_to_value:
            self.values.append(self.logger.name_to_value["reward/consistency_loss"])

    _on_training_end = _on_rollout_start


def consistent(n_rollouts, env=None, **settings):
    env = vec_env(1, Delayed) if env is None else env
    model = tare(env, host={"n_epochs": 1}, **{**CONSISTENT, "learning_rate": 1e-2, "n_reward_updates": 0, **settings})
    rollouts, losses = recorded_rollouts(model.reward_learner), Losses()
    model.learn(n_rollouts * ITERATION * model.n_envs, callback=losses)
    return model, rollouts, losses.values


def test_it_finds_what_earned_a_delayed_reward():
    env = vec_env(2, lambda: Delayed(delay=4))
    model, rollouts, losses = consistent(12, env, consistency_updates=20, consistency_batch_size=64)
    assert len(losses) == 12
    assert np.mean(losses[-3:]) < 0.7 * losses[0]
    earned = rollouts[-1].reward.states[:, 0].numpy()
    paid = rollouts[-1].reward.rewards.numpy()
    learned = model.reward_learner.trainer.learned_rewards(rollouts[-1].reward).detach().numpy()
    assert np.corrcoef(learned, earned)[0, 1] > 0.75
    assert abs(np.corrcoef(paid, earned)[0, 1]) < 0.5


def test_without_its_step_size_nothing_is_made_consistent():
    model, _, losses = consistent(2, return_consistency=0.0, zero_head=False)
    assert losses == []
    assert model.get_parameters()["reward_learner"]["memory"] == []


def test_it_trains_the_network_and_leaves_the_policys_features_alone():
    model = tare(vec_env(1, Delayed), host={"learning_rate": 0.0}, **CONSISTENT, n_reward_updates=0, consistency_updates=3)
    policy = snapshot(model.policy.state_dict())
    network = snapshot(model.reward_learner.trainer.reward_model.network.state_dict())
    model.learn(2 * ITERATION)
    assert not differences(policy, snapshot(model.policy.state_dict()))
    assert differences(network, snapshot(model.reward_learner.trainer.reward_model.network.state_dict()))


def test_its_step_size_is_relative_to_that_of_the_reward():
    groups = tare(**CONSISTENT, learning_rate=2e-3).get_parameters()["reward_learner"]["optimisers"]
    assert groups["consistency"]["param_groups"][0]["lr"] == pytest.approx(2e-3)
    groups = tare(**{**CONSISTENT, "return_consistency": 0.5}, learning_rate=2e-3).get_parameters()["reward_learner"][
        "optimisers"
    ]
    assert groups["consistency"]["param_groups"][0]["lr"] == pytest.approx(1e-3)


@pytest.mark.parametrize("kept", [1, 3])
def test_the_memory_never_holds_more_than_consistency_rollouts(kept):
    model = tare(vec_env(2, Toy), **CONSISTENT, consistency_rollouts=kept, consistency_updates=1)
    sizes = []
    for _ in range(5):
        model.learn(2 * ITERATION, reset_num_timesteps=False)
        sizes.append(len(model.get_parameters()["reward_learner"]["memory"]))
    assert sizes == [min(n, kept) for n in range(1, 6)]


def test_as_many_steps_are_taken_as_asked_for_in_each_rollout():
    model = tare(**CONSISTENT, consistency_updates=7).learn(3 * ITERATION)
    assert model.get_parameters()["reward_learner"]["optimisers"]["consistency"]["state"][0]["step"] == 21


def test_a_centred_reward_can_still_account_for_a_constant_one():
    # Centring concerns what the policy is trained on; the windows' sums are of the reward as it is.
    class Constant(Toy):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, 1.0, *rest

    _, _, losses = consistent(6, vec_env(1, Constant), center=True, consistency_updates=20, consistency_batch_size=32)
    assert losses[-1] < 0.1 * losses[0]


def test_the_network_sees_windows_as_it_sees_episodes():
    # The same rows give the same rewards, in a window or not, with a network that looks at one row at a time.
    model, rollouts, _ = consistent(2, consistency_updates=1)
    trainer = model.reward_learner.trainer
    memory = WindowMemory(1, 10)
    memory.add(rollouts[-1].reward)
    whole = trainer.reward_model(rollouts[-1].reward).detach()
    (window,) = memory.sample(20, torch.Generator().manual_seed(0))
    places = [int((rollouts[-1].reward.states == state).all(dim=1).nonzero()[0]) for state in window.states]
    torch.testing.assert_close(trainer.reward_model(window).detach(), whole[places])


def test_a_network_of_the_users_is_made_consistent_in_its_windows():
    seen = []

    class Counting(torch.nn.Module):
        sees_reward = False

        def __init__(self, observation_dim, action_dim):
            super().__init__()
            self.head = torch.nn.Linear(observation_dim + action_dim, 1)

        def forward(self, inputs: RewardInputs):
            seen.append(inputs.episodes.lengths.max().item())
            return self.head(inputs.state_action).squeeze(1)

    settings = {**CONSISTENT, "architecture": Counting, "consistency_window": 5, "consistency_updates": 3}
    tare(vec_env(1, Toy), **settings, n_reward_updates=0).learn(ITERATION)
    assert seen[-3:] == [5, 5, 5]

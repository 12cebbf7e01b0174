"""The size of learned rewards: the running deviation of their discounted returns, which forgets."""

import io

import numpy as np
import pytest
import torch
from builders import LAWS, episodes_of, generator, layouts, normal
from hypothesis import given
from hypothesis import strategies as st

from sb3_tare.data.episodes import End
from sb3_tare.rewards.running_scale import RunningScale, past_discounted_sum

CUT = int(End.CUT)


@LAWS
@given(layouts(), st.floats(0, 1))
def test_past_sums_are_those_of_a_loop(episodes, discount):
    rewards = normal(episodes.n_steps, seed=1)
    expected, total = [], 0.0
    for reward, offset in zip(rewards.tolist(), episodes.offsets.tolist(), strict=True):
        total = reward + discount * total if offset else reward
        expected.append(total)
    np.testing.assert_allclose(past_discounted_sum(rewards, episodes, discount), expected, atol=1e-12)


def test_returns_go_on_across_rollouts_and_the_deviation_is_that_of_all_of_them():
    rewards = normal(2, 9, seed=0)
    scale = RunningScale(n_envs=2, discount=0.9)
    first = episodes_of([3, 2, 5], first_times=[0, 0, 0], ends=[0, CUT, CUT])
    second = episodes_of([4, 1, 3], first_times=[2, 5, 0], ends=[0, 0, CUT])
    order = torch.cat([rewards[0, :5], rewards[1, :5]]), torch.cat([rewards[0, 5:], rewards[1, 5:]])
    scale.update(order[0], first, torch.tensor([0, 0, 1]))
    scale.update(order[1], second, torch.tensor([0, 1, 1]))
    starts = [(0, 3), (3, 9)], [(0, 6), (6, 9)]
    returns = []
    for row, episodes in zip(rewards.tolist(), starts, strict=True):
        for begin, end in episodes:
            total = 0.0
            for reward in row[begin:end]:
                total = reward + 0.9 * total
                returns.append(total)
    assert scale.scale == pytest.approx(np.std(returns), rel=1e-12)


def test_it_follows_rewards_that_change():
    def after(n_rollouts, rollouts):
        scale = RunningScale(1, 0.5, rollouts)
        for index in range(2 * n_rollouts):
            size = 1.0 if index < n_rollouts else 10.0
            scale.update(size * normal(64, seed=index), episodes_of([64]), torch.zeros(1).long())
        return scale.scale

    forgetting, remembering = after(40, 10), after(40, 1_000)
    final = 10.0 / (1 - 0.5**2) ** 0.5
    assert forgetting > 0.95 * final
    assert remembering < 0.8 * final


def test_short_rollouts_forget_no_more_than_one_between_two_fits():
    def after(n_steps):
        scale = RunningScale(1, 0.0, rollouts=3, least_steps=60)
        for rewards in torch.cat([normal(600, seed=0), 10.0 * normal(120, seed=1)]).split(n_steps):
            scale.update(rewards, episodes_of([n_steps]), torch.zeros(1).long())
        return scale.scale

    assert after(5) == pytest.approx(after(60), rel=0.2)


def test_rewards_that_never_vary_are_divided_by_their_size():
    scale = RunningScale(1, 0.0)
    assert scale.scale == 1.0
    one = torch.zeros(1).long()
    assert scale.update(torch.zeros(5), episodes_of([5]), one) == 1.0
    assert RunningScale(1, 0.0).update(torch.full((5,), -0.3), episodes_of([5]), one) == pytest.approx(0.3)


def test_a_resumed_scale_goes_on_bit_for_bit():
    pieces = episodes_of([7], first_times=[3], ends=[CUT])
    whole, resumed = (RunningScale(2, 0.99) for _ in range(2))
    environment = torch.ones(1).long()
    whole.update(torch.randn(7, generator=generator(0)), pieces, environment)
    file = io.BytesIO()
    torch.save(whole.state_dict(), file)
    file.seek(0)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    rewards = torch.randn(7, generator=generator(1))
    assert whole.update(rewards, pieces, environment) == resumed.update(rewards, pieces, environment)
    assert whole.state_dict().keys() == resumed.state_dict().keys()


@pytest.mark.parametrize("wrong", [{"n_envs": 0}, {"discount": 1.1}, {"rollouts": 0}])
def test_numbers_out_of_bounds_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        RunningScale(**{"n_envs": 1, "discount": 0.9, **wrong})

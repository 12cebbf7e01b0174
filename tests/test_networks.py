from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from builders import LAWS, episodes_of, layouts, normal, reward_inputs, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sb3_tare.data.episodes import Episodes
from sb3_tare.networks.inputs import RewardInputs
from sb3_tare.networks.layers import BoundedHead, EpisodeLSTM, MultiplicativeEmbedding
from sb3_tare.networks.registry import ARCHITECTURES

OBSERVATION_DIM, ACTION_DIM = 3, 2
BACKWARD, FORWARD = ("LSTMbMul", "LSTMb"), ("LSTMf",)
RECURRENT = (*BACKWARD, *FORWARD)
POINTWISE = ("MLPMul", "MLPConcat", "StateAction", "StateActionTanh", "StateActionUnbounded")
SEES_REWARD = tuple(name for name, network in ARCHITECTURES.items() if network.sees_reward)
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)
every_bounded = pytest.mark.parametrize("name", [name for name in ARCHITECTURES if name != "StateActionUnbounded"])


def build(name: str, seed: int = 0, dtype: torch.dtype = torch.float64, **kwargs: float | str) -> nn.Module:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ARCHITECTURES[name](OBSERVATION_DIM, ACTION_DIM, **kwargs).to(dtype)


def rows(inputs: RewardInputs, chosen: list[int], episodes: Episodes) -> RewardInputs:
    """Some rows of ``inputs``, as the given pieces."""
    tensors = {name: getattr(inputs, name)[chosen] for name in ("observations", "actions", "rewards", "extrinsic_rewards")}
    return RewardInputs(**tensors, episodes=episodes)


def influence(network: nn.Module, inputs: RewardInputs, source: str = "observations") -> Tensor:
    """``[n, n]`` size of the derivative of each row's reward in each row's input."""
    source_rows = getattr(inputs, source).clone().requires_grad_()
    outputs = network(replace(inputs, **{source: source_rows}))
    gradients = [torch.autograd.grad(output, source_rows, retain_graph=True)[0] for output in outputs]
    return torch.stack([gradient.reshape(len(outputs), -1).norm(dim=1) for gradient in gradients])


def expected_influence(name: str, episodes: Episodes) -> Tensor:
    """Which row's reward may see which row, pair by pair."""
    n = episodes.n_steps
    allowed = torch.zeros(n, n, dtype=torch.bool)
    for piece in range(len(episodes)):
        for seer in rows_of(episodes, piece):
            for seen in rows_of(episodes, piece):
                is_seen = {BACKWARD: seen >= seer, FORWARD: seen <= seer, POINTWISE: seen == seer}
                allowed[seer, seen] = next(value for names, value in is_seen.items() if name in names)
    return allowed


def test_these_tests_know_all_architectures():
    assert set(ARCHITECTURES) == {*RECURRENT, *POINTWISE}


@every_architecture
def test_each_step_gets_one_reward(name):
    for lengths in ([1], [5], [3, 1, 4]):
        for dtype in (torch.float32, torch.float64):
            rewards = build(name, dtype=dtype)(reward_inputs(episodes_of(lengths), dtype=dtype))
            assert rewards.shape == (sum(lengths),)
            assert rewards.dtype == dtype


# What a reward can depend on


@every_architecture
def test_a_reward_depends_on_the_steps_it_may_see_and_on_no_others(name):
    """LSTMs backwards in time see what comes later, forwards what came before; none sees past an end."""
    episodes = episodes_of([4, 1, 5, 2])
    network = build(name)
    for source in ("observations", "actions", "rewards") if name in SEES_REWARD else ("observations", "actions"):
        seen = influence(network, reward_inputs(episodes), source) > 0
        assert torch.equal(seen, expected_influence(name, episodes)), source


@settings(LAWS, max_examples=25)
@given(layouts(max_pieces=4, max_length=6), st.sampled_from(sorted(ARCHITECTURES)))
def test_in_no_layout_does_a_reward_depend_on_steps_it_may_not_see(episodes, name):
    seen = influence(build(name), reward_inputs(episodes)) > 0
    assert not (seen & ~expected_influence(name, episodes)).any()


@every_architecture
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_an_episode_alone_gets_the_rewards_that_it_gets_among_others(name, dtype, tolerance):
    network, lengths, first_times = build(name, dtype=dtype), [3, 17, 1, 16, 5, 40], [0, 2, 9, 0, 0, 100]
    episodes = episodes_of(lengths, first_times)
    inputs = reward_inputs(episodes, dtype=dtype)
    together = network(inputs)
    for piece, (length, first_time) in enumerate(zip(lengths, first_times, strict=True)):
        chosen = rows_of(episodes, piece)
        alone = network(rows(inputs, chosen, episodes_of([length], [first_time])))
        torch.testing.assert_close(alone, together[chosen], rtol=tolerance, atol=tolerance)
        assert float(alone.detach().abs().max()) > 1e-3


@settings(LAWS, max_examples=25)
@given(layouts(max_pieces=5), st.sampled_from(sorted(ARCHITECTURES)), st.randoms(use_true_random=False))
def test_the_order_of_episodes_changes_no_reward(episodes, name, random):
    network, inputs = build(name), reward_inputs(episodes)
    order = random.sample(range(len(episodes)), len(episodes))
    chosen = [row for piece in order for row in rows_of(episodes, piece)]
    shuffled = Episodes(*(column[order] for column in (episodes.lengths, episodes.first_times, episodes.ends)))
    torch.testing.assert_close(network(rows(inputs, chosen, shuffled)), network(inputs)[chosen], rtol=1e-12, atol=1e-12)


@every_architecture
def test_other_inputs_in_one_episode_change_no_reward_in_another(name):
    network, episodes = build(name), episodes_of([4, 6, 3])
    inputs = reward_inputs(episodes)
    chosen = rows_of(episodes, 1)
    others = [row for row in range(13) if row not in chosen]
    changed = {field: getattr(inputs, field).clone() for field in ("observations", "actions", "rewards")}
    for tensor in changed.values():
        tensor[chosen] = 50.0 - 3.0 * tensor[chosen]
    before, after = network(inputs), network(replace(inputs, **changed))
    torch.testing.assert_close(after[others], before[others], rtol=1e-13, atol=1e-13)
    assert (after[chosen] != before[chosen]).all()


@pytest.mark.parametrize("name", RECURRENT)
def test_an_lstm_tells_one_episode_from_two(name):
    network = build(name)
    inputs = reward_inputs(episodes_of([8]))
    halves = replace(inputs, episodes=episodes_of([4, 4], [0, 4]))
    whole, cut = network(inputs), network(halves)
    untouched = range(4, 8) if name in BACKWARD else range(4)
    for row in range(8):
        assert torch.isclose(whole[row], cut[row], rtol=1e-12, atol=1e-12) == (row in untouched)


@pytest.mark.parametrize("reverse", [False, True])
def test_the_lstm_over_episodes_is_the_plain_lstm_over_each_of_them(reverse):
    lstm = EpisodeLSTM(3, 4, num_layers=2, reverse=reverse).double()
    plain = nn.LSTM(3, 4, num_layers=2).double()
    plain.load_state_dict(lstm.state_dict())
    episodes, features = episodes_of([5, 1, 9, 2]), normal(17, 3, seed=0)
    outputs = lstm(features, episodes)
    for piece in range(4):
        chosen = rows_of(episodes, piece)[:: -1 if reverse else 1]
        torch.testing.assert_close(outputs[chosen], plain(features[chosen])[0], rtol=1e-12, atol=1e-12)


# What the networks see


def with_other_rewards(inputs: RewardInputs) -> RewardInputs:
    return replace(inputs, rewards=inputs.rewards + 1.0, extrinsic_rewards=inputs.extrinsic_rewards - 1.0)


def with_other_times(inputs: RewardInputs) -> RewardInputs:
    return replace(inputs, episodes=replace(inputs.episodes, first_times=inputs.episodes.first_times + 7))


@pytest.mark.parametrize("changed", [with_other_rewards, with_other_times])
def test_state_action_ignores_reward_and_time(changed: Callable[[RewardInputs], RewardInputs]):
    network, inputs = build("StateAction"), reward_inputs(episodes_of([4, 3]))
    assert not network.sees_reward
    assert torch.equal(network(changed(inputs)), network(inputs))


@pytest.mark.parametrize("changed", [with_other_rewards, with_other_times])
@pytest.mark.parametrize("name", SEES_REWARD)
def test_all_others_respond_to_reward_and_time(name, changed: Callable[[RewardInputs], RewardInputs]):
    network, inputs = build(name), reward_inputs(episodes_of([4, 3], [1, 5]))
    assert network.sees_reward
    assert ((network(changed(inputs)) - network(inputs)).abs() > 1e-6).all()


@pytest.mark.parametrize("name", SEES_REWARD)
def test_the_size_of_a_reward_is_seen_at_any_time_step_of_an_episode(name):
    """Also at time zero, where [r, t] is [r, 0] and normalising a layer without a bias would leave only the sign of r."""
    network, inputs = build(name), reward_inputs(episodes_of([1, 1, 1], [0, 1, 100]))
    one, three = (replace(inputs, rewards=torch.full((3,), reward, dtype=torch.float64)) for reward in (1.0, 3.0))
    assert ((network(one) - network(three)).abs() > 1e-4).all()


def test_the_time_that_a_network_sees_counts_on_behind_a_cut():
    seen = reward_inputs(episodes_of([2, 3], [0, 7])).reward_time[:, 1]
    assert seen.tolist() == pytest.approx([math.log10(1 + time) / 3 for time in (0, 1, 7, 8, 9)])


@pytest.mark.parametrize(("time", "seen"), [(0, 0.0), (999, 1.0), (10**6 - 1, 2.0)])
def test_time_is_of_the_order_of_a_standardised_reward_at_any_horizon(time, seen):
    assert float(reward_inputs(episodes_of([1], [time])).reward_time[0, 1]) == pytest.approx(seen)


def gate_layers(embedding: MultiplicativeEmbedding) -> list[nn.LayerNorm]:
    return [module for module in embedding.reward_time.modules() if isinstance(module, nn.LayerNorm)]


def pair_of(inputs: RewardInputs) -> tuple[torch.Tensor, torch.Tensor]:
    return inputs.state_action, inputs.reward_time


def set_gate(layer: nn.LayerNorm, value: float) -> None:
    nn.init.zeros_(layer.weight)
    nn.init.constant_(layer.bias, value)


@pytest.mark.parametrize("closed", [0, 1])
def test_a_closed_gate_at_either_layer_leaves_nothing_of_state_and_action(closed):
    embedding = MultiplicativeEmbedding(OBSERVATION_DIM + ACTION_DIM, 8).double()
    first, second = (pair_of(reward_inputs(episodes_of([4]), seed=seed)) for seed in (0, 9))
    assert not torch.allclose(embedding(*first), embedding(*second))
    for layer, norm in enumerate(gate_layers(embedding)):
        set_gate(norm, 0.0 if layer == closed else 1.0)
    torch.testing.assert_close(embedding(*first), embedding(*second))


def test_gates_multiply_the_embedding_of_state_and_action():
    embedding = MultiplicativeEmbedding(OBSERVATION_DIM + ACTION_DIM, 8).double()
    state_action, reward_time = pair_of(reward_inputs(episodes_of([4])))
    for norm in gate_layers(embedding):
        set_gate(norm, 1.0)
    once = embedding(state_action, reward_time)
    torch.testing.assert_close(once, embedding.state_action[1](embedding.state_action[0](state_action)))
    set_gate(gate_layers(embedding)[1], 3.0)
    torch.testing.assert_close(embedding(state_action, reward_time), 3.0 * once)


# Bounds


@every_bounded
@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_no_reward_is_beyond_the_bound(name, scale):
    network = build(name, bound=0.5)
    with torch.no_grad():
        network.head.weight *= 1e4
    rewards = network(reward_inputs(episodes_of([6, 3]), scale=scale)).detach()
    assert float(rewards.abs().max()) <= 0.5
    assert float(rewards.abs().max()) > 0.49


@every_bounded
def test_the_papers_bound_of_twenty_and_lirpgs_of_one_hold_for_inputs_of_any_size(name):
    network, bound = build(name, dtype=torch.float32), 1.0 if name == "StateActionTanh" else 20.0
    with torch.no_grad():
        network.head.weight *= 1e6
    rewards = network(reward_inputs(episodes_of([6, 3]), scale=1e4, dtype=torch.float32)).detach()
    assert float(rewards.abs().max()) == pytest.approx(bound)
    assert float(rewards.abs().max()) <= bound


def test_far_inside_the_bound_a_head_is_its_linear_layer():
    head, features = BoundedHead(4, bound=20.0).double(), 1e-3 * normal(5, 4, seed=0)
    torch.testing.assert_close(
        head(features), nn.functional.linear(features, head.weight, head.bias)[:, 0], rtol=1e-7, atol=0.0
    )


@pytest.mark.parametrize("bound", [0.0, -1.0, math.nan])
def test_a_bound_that_is_not_positive_is_refused(bound):
    with pytest.raises(ValueError, match="bound"):
        BoundedHead(4, bound)


# Initialisation


@every_architecture
def test_a_head_of_zeros_gives_exactly_zero(name):
    network = build(name, dtype=torch.float32)
    for parameter in network.head.parameters():
        nn.init.zeros_(parameter)
    rewards = network(reward_inputs(episodes_of([6, 3]), scale=1e4, dtype=torch.float32))
    assert rewards.tolist() == [0.0] * 9


@every_architecture
def test_dense_layers_start_orthogonal_and_normalised(name):
    """All but the first layer of reward and time without a bias; that one's bias is as if a constant was an input too."""
    network = build(name, **({"initialisation": "orthogonal"} if name == "StateActionUnbounded" else {}))
    layers = [module for module in network.modules() if isinstance(module, nn.Linear)]
    assert network.head in layers
    for layer in layers:
        weight = layer.weight.detach()
        if layer.in_features == 2:
            weight = torch.cat([weight, layer.bias.detach()[:, None]], dim=1)
        else:
            assert not layer.bias.any()
        gram = weight @ weight.T if weight.shape[0] <= weight.shape[1] else weight.T @ weight
        at_head = 1e-4 if name == "StateActionUnbounded" else 1.0
        gain = at_head if layer is network.head else 2.0
        torch.testing.assert_close(gram, gain * torch.eye(len(gram), dtype=torch.float64), rtol=0.0, atol=1e-5)
    kinds = [type(module) for module in network.modules()]
    assert kinds.count(nn.Tanh if name == "StateActionTanh" else nn.LayerNorm) == len(layers) - 1


@every_architecture
def test_gradients_reach_all_parameters(name):
    network = build(name)
    network(reward_inputs(episodes_of([4, 6]))).square().sum().backward()
    for parameter_name, parameter in network.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@every_architecture
def test_gradients_are_those_of_finite_differences(name):
    widths = {"lstm_hidden_size": 3} if name in RECURRENT else {"hidden_size": 8}
    network, inputs = build(name, **widths), reward_inputs(episodes_of([3, 2]))
    parameters = list(network.parameters())
    for seed, parameter in enumerate(parameters):  # away from the kink where units without a bias get no input
        parameter.data += 0.1 * normal(*parameter.shape, seed=seed + 10)
    cotangent, direction = normal(5, seed=1), [normal(*parameter.shape, seed=2) for parameter in parameters]
    gradient = torch.autograd.grad(network(inputs) @ cotangent, parameters)
    slope = sum(float((g * d).sum()) for g, d in zip(gradient, direction, strict=True))
    sides = []
    with torch.no_grad():
        for step in (1e-6, -2e-6):
            for parameter, part in zip(parameters, direction, strict=True):
                parameter += step * part
            sides.append(float(network(inputs) @ cotangent))
    assert slope == pytest.approx((sides[0] - sides[1]) / 2e-6, rel=1e-5)


def test_widths_and_bound_are_arguments():
    network = build("LSTMbMul", hidden_size=7, lstm_hidden_size=5, bound=2.0)
    assert network.lstm.input_size == 7
    assert network.lstm.hidden_size == 5
    assert network.head.bound == 2.0


@pytest.mark.parametrize("name", RECURRENT)
def test_the_depth_of_the_lstm_is_an_argument_and_the_papers_two_unless_it_is_the_default_network(name):
    assert build(name).lstm.num_layers == (1 if name == "LSTMbMul" else 2)
    inputs = reward_inputs(episodes_of([4, 6]))
    for depth in (1, 3):
        network = build(name, lstm_layers=depth)
        assert network.lstm.num_layers == depth
        assert not (influence(network, inputs) > 0)[~expected_influence(name, inputs.episodes)].any()


@pytest.mark.parametrize("depth", [0, -1, 1.0, "2", True])
@pytest.mark.parametrize("name", RECURRENT)
def test_a_depth_that_cannot_be_is_refused_by_its_name(name, depth):
    with pytest.raises(ValueError, match=rf"lstm_layers must be a whole number of at least 1, got {depth!r}"):
        build(name, lstm_layers=depth)


def test_a_reward_for_returns_starts_as_torch_starts_linear_layers_or_orthogonally():
    first = build("StateActionUnbounded").layers[0][0]
    assert first.bias.abs().max() > 0
    assert first.weight.abs().max() <= 1 / math.sqrt(OBSERVATION_DIM + ACTION_DIM)
    weights = build("StateActionUnbounded", initialisation="orthogonal").layers[1][0].weight
    torch.testing.assert_close(weights @ weights.T, 2 * torch.eye(128, dtype=torch.float64), atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match="initialisation must be one of 'orthogonal', 'uniform', got 'xavier'"):
        build("StateActionUnbounded", initialisation="xavier")

"""AWR written out holds the bits of AWR's plain steps after three iterations, and lets users do to it what they did."""

import copy
import io
import logging
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from lean_toys import (
    Scalars,
    TinyCNN,
    Watch,
    assert_logs_agree,
    assert_same,
    box,
    change_parameters,
    replace_data,
    set_parameters,
    toys,
)
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import BaseModel
from stable_baselines3.common.utils import FloatSchedule
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn
from torch.distributions import Distribution, Normal
from torch.nn.modules.module import register_module_forward_hook

from sb3_tare import AWR, TAREAWR
from sb3_tare.awr import AWRPolicy, gathering
from sb3_tare.awr.losses import bound_loss, value_loss, weighted_regression
from sb3_tare.awr.updates import bound_loss as plain_bound_loss

STEPS = 32
SMALL = {
    "train_freq": STEPS,
    "buffer_size": 80,
    "batch_size": 16,
    "critic_steps": 256,  # for every 2,048 steps collected, so that an iteration of one environment has 4
    "actor_steps": 384,  # and 6
    "learning_rate": 1e-2,
    "seed": 0,
    "policy_kwargs": {"net_arch": [8, 8]},
    "device": "cpu",
}
WRITTEN_OUT = ("written out", "written out")
GENERAL = ("general", "general")
IMAGE = spaces.Box(0, 255, (3, 36, 36), dtype=np.uint8)
DICT = spaces.Dict({"a": box(3), "b": spaces.Discrete(4)})
MOVES = {"actions": box(17, bound=1.0)}
CHOICES = {"actions": spaces.MultiDiscrete([3, 2, 4])}


def net(*layers: int, **arguments: Any) -> dict[str, Any]:
    return {"policy_kwargs": {"net_arch": list(layers), **arguments}}


def sgd(**options: Any) -> dict[str, Any]:
    return net(8, optimizer_kwargs={"momentum": 0.9, "fused": True, **options})


CONFIGURATIONS: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[str, str]]] = {
    "one environment": ({}, {}, WRITTEN_OUT),
    "its authors' sizes": (
        {"observations": box(17, dtype=np.float64), "actions": box(6, bound=1.0)},
        {"batch_size": 64, "learning_rate": 5e-5, **net(128, 64)},
        WRITTEN_OUT,
    ),
    "three environments": ({"n_envs": 3}, {"buffer_size": 240}, WRITTEN_OUT),
    "one action of 17 dimensions": (MOVES, {}, WRITTEN_OUT),
    "17 dimensions, tanh, a learned deviation": (MOVES, {"learn_std": True, **net(8, activation_fn=nn.Tanh)}, WRITTEN_OUT),
    "an action of one dimension": ({"actions": box(1, bound=1.0)}, {}, WRITTEN_OUT),
    "an action of one dimension, no bound loss": ({"actions": box(1, bound=1.0)}, {"bound_coef": 0.0}, WRITTEN_OUT),
    "17 dimensions, no bound loss": (MOVES, {"bound_coef": 0.0}, WRITTEN_OUT),
    "means out of bounds": ({}, {"learning_rate": 0.5, "action_std": 2.0, "bound_coef": 1.0}, WRITTEN_OUT),
    "bounds that are uneven": ({"actions": spaces.Box(np.float32([-2, 0]), np.float32([6, 1]))}, {}, WRITTEN_OUT),
    "actions of two axes, in float64": ({"actions": box(2, 3, dtype=np.float64, bound=0.5)}, {}, WRITTEN_OUT),
    "mini-batches of an odd size": ({}, {"batch_size": 7}, WRITTEN_OUT),
    "mini-batches of one row": ({}, {"batch_size": 1}, WRITTEN_OUT),
    "mini-batches larger than what is collected": ({}, {"batch_size": 50}, WRITTEN_OUT),
    "episodes that only terminate": ({"p_end": 0.2, "horizon": 10_000}, {}, WRITTEN_OUT),
    "an episode without an end": ({"p_end": 0.0, "horizon": 10_000}, {}, WRITTEN_OUT),
    "iterations of whole episodes": ({}, {"train_freq": (3, "episode")}, WRITTEN_OUT),
    "discrete actions": ({"actions": spaces.Discrete(5)}, {}, WRITTEN_OUT),
    "discrete actions, tanh, entropy": (
        {"n_envs": 2, "actions": spaces.Discrete(3)},
        {"ent_coef": 0.02, "buffer_size": 160, **net(7, activation_fn=nn.Tanh)},
        WRITTEN_OUT,
    ),
    "multi-discrete actions": (CHOICES, {}, WRITTEN_OUT),
    "multi-discrete actions, tanh, entropy": (CHOICES, {"ent_coef": 0.02, **net(8, activation_fn=nn.Tanh)}, WRITTEN_OUT),
    "discrete observations": ({"observations": spaces.Discrete(6)}, {}, WRITTEN_OUT),
    "multi-discrete observations": ({"n_envs": 2, "observations": spaces.MultiDiscrete([2, 5])}, {}, WRITTEN_OUT),
    "observations of two axes": ({"observations": box(2, 3)}, {}, WRITTEN_OUT),
    "whole numbers as observations": ({"observations": spaces.Box(0, 9, (3,), dtype=np.int64)}, {}, WRITTEN_OUT),
    "observations as they are": ({}, {"normalizer_steps": 0}, WRITTEN_OUT),
    "tanh": ({}, net(8, 8, activation_fn=nn.Tanh), WRITTEN_OUT),
    "no hidden layer": ({}, net(), WRITTEN_OUT),
    "one hidden layer": ({}, net(5), WRITTEN_OUT),
    "three hidden layers": ({}, net(8, 5, 6), WRITTEN_OUT),
    "layers for the critic alone": ({}, {"policy_kwargs": {"net_arch": {"pi": [], "vf": [6]}}}, WRITTEN_OUT),
    "a learned deviation": ({}, {"learn_std": True, "ent_coef": 0.01}, WRITTEN_OUT),
    "a learned deviation, no bound loss": (
        {"actions": box(3, bound=1.0)},
        {"learn_std": True, "bound_coef": 0.0},
        WRITTEN_OUT,
    ),
    "weights that are clipped": ({}, {"temperature": 0.05, "max_weight": 1.5}, WRITTEN_OUT),
    "schedules": ({}, {"learning_rate": lambda left: 1e-2 * left, "critic_learning_rate": lambda left: left}, WRITTEN_OUT),
    "no momentum": ({}, sgd(momentum=0.0), WRITTEN_OUT),
    "Nesterov's momentum and weight decay": ({}, sgd(nesterov=True, weight_decay=1e-2), WRITTEN_OUT),
    "damped momentum": ({}, sgd(dampening=0.3), WRITTEN_OUT),
    "SGD that is not fused": ({}, sgd(fused=False), ("written out", "general")),
    "another optimiser": ({}, net(8, optimizer_class=torch.optim.Adam), ("written out", "general")),
    "ELU": ({}, net(8, activation_fn=nn.ELU), GENERAL),
    "multi-binary actions": ({"actions": spaces.MultiBinary(3)}, {"ent_coef": 0.01}, GENERAL),
    "images": ({"observations": IMAGE}, net(8, features_extractor_class=TinyCNN), GENERAL),
    "dictionaries": ({"n_envs": 2, "observations": DICT}, {"policy": "MultiInputPolicy", "buffer_size": 160}, GENERAL),
}


def made(env: Any = None, algorithm: type[AWR] = AWR, policy: Any = "MlpPolicy", **arguments: Any) -> AWR:
    """A tiny AWR, whose ``scalars`` keep its log."""
    model = algorithm(policy, toys() if env is None else env, **{**SMALL, **arguments})
    scalars = Scalars()
    model.set_logger(Logger(None, [scalars]))
    model.scalars = scalars
    return model


def learned(env: Any = None, n_iterations: int = 3, callback: Any = None, **arguments: Any) -> AWR:
    """A tiny AWR after some iterations, and its scalars after the last one among ``scalars.dumps``."""
    model = made(env, **arguments)
    model.learn(n_iterations * STEPS * model.n_envs, callback=callback)
    model.logger.dump(model.num_timesteps)
    return model


def pair(make_env: Any = toys, **arguments: Any) -> tuple[AWR, AWR]:
    """Plain and lean, each after :func:`learned` in environments of its own."""
    plain, lean = (learned(make_env(), lean=lean, **arguments) for lean in (False, True))
    return plain, lean


def state_of(model: AWR) -> dict[str, Any]:
    """Parameters of policy and critic, momentum, memory, estimates of values, and the numbers that would be drawn next."""
    memory, observations = model.replay_buffer, model.policy.obs_to_tensor(model._last_obs)[0]
    with torch.no_grad():
        values = model.policy.predict_values(observations)
    names = ("observations", "next_observations", "actions", "rewards", "dones", "timeouts", "times", "cuts")
    arrays = {name: getattr(memory, name) for name in names}
    return {**model.get_parameters(), "memory": arrays, "values": values, "generator": torch.get_rng_state()}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_it_holds_the_bits_of_the_plain_steps(name):
    env, arguments, loops = CONFIGURATIONS[name]
    states = []
    for lean in (False, True):
        model = learned(toys(**env), lean=lean, **arguments)
        states.append((state_of(model), model))  # the generator's state as each leaves it
    (first, plain), (second, lean) = states
    assert plain.host_loop == ("plain", "plain", "lean=False")
    assert lean.host_loop[:2] == loops
    assert (lean.host_loop.reason == "") is (loops == WRITTEN_OUT)
    assert_same(first, second)
    assert_logs_agree(plain, lean, least=1, atol=1e-6)


def test_it_holds_the_bits_with_normalised_observations_and_rewards():
    plain, lean = pair(lambda: VecNormalize(toys(n_envs=2)), buffer_size=160)
    assert lean.host_loop[:2] == WRITTEN_OUT
    assert_same(plain.get_parameters(), lean.get_parameters())


@pytest.mark.parametrize("arguments", [{}, net(8, activation_fn=nn.ELU)], ids=["written out", "general"])
def test_a_memory_too_large_to_be_gathered_is_read_mini_batch_by_mini_batch(arguments, monkeypatch):
    plain, gathered = pair(**arguments)
    monkeypatch.setattr(gathering, "MAX_NUMBERS", 3 * 3 * STEPS - 1)
    assert not gathering.is_gathered(box(3), 3 * STEPS)
    assert_same(gathered.get_parameters(), learned(lean=True, **arguments).get_parameters())
    assert_same(plain.get_parameters(), gathered.get_parameters())


@pytest.mark.parametrize("space", [spaces.Discrete(1000), IMAGE], ids=["discrete", "images"])
@pytest.mark.parametrize("lean", [False, True])
def test_features_of_a_whole_memory_are_never_built_at_once(space, lean, monkeypatch):
    sizes = []
    extract = BaseModel.extract_features

    def watched(policy: Any, observations: Any, extractor: Any) -> Any:
        features = extract(policy, observations, extractor)
        sizes.append(len(features))
        return features

    monkeypatch.setattr(BaseModel, "extract_features", watched)
    monkeypatch.setattr("sb3_tare.awr.evaluation.CHUNK", 20)
    kwargs = net(8, features_extractor_class=TinyCNN) if space is IMAGE else {}
    learned(toys(observations=space), lean=lean, buffer_size=64, **kwargs)
    assert max(sizes) == 16  # a mini-batch; 64 rows are evaluated in four chunks of 16


@pytest.mark.parametrize("validation", ["split", "next_rollout"])
def test_a_learned_reward_is_the_same_on_both(validation):
    states = []
    for lean in (False, True):
        model = learned(
            algorithm=TAREAWR, lean=lean, reward_kwargs={"validation": validation, "sampled_steps": 32}, buffer_size=64
        )
        states.append(state_of(model))
    assert_same(*states)


# What users do to it


def change_learning_rates(model: AWR) -> None:
    model.lr_schedule, model.critic_lr_schedule = FloatSchedule(3e-3), FloatSchedule(1e-3)


def change_coefficients(model: AWR) -> None:
    model.bound_coef, model.ent_coef, model.temperature, model.max_weight = 1.0, 0.1, 0.5, 3.0
    model.actor_steps, model.critic_steps, model.batch_size = 128, 128, 10


def change_momentum(model: AWR) -> None:
    model.policy.actor_optimizer.param_groups[0]["momentum"] = 0.5


def change_policy(model: AWR) -> None:
    if model.num_timesteps:
        torch.manual_seed(1)
        model.policy = AWRPolicy(model.observation_space, model.action_space, model.lr_schedule, net_arch=[5])


def replace_statistics(model: AWR) -> None:
    for buffer in model.policy.normalizer.buffers():
        buffer.data = buffer.data * 2


def reset_optimizer(model: AWR) -> None:
    policy = model.policy
    policy.actor_optimizer = torch.optim.SGD(policy.actor_parameters(), lr=1e-3, momentum=0.9, fused=True)


CHANGES = [
    change_learning_rates,
    change_coefficients,
    change_momentum,
    change_policy,
    change_parameters,
    replace_data,
    replace_statistics,
    reset_optimizer,
    set_parameters,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("when", ["rollout_start", "rollout_end"])
def test_what_a_callback_changes_between_iterations_is_heeded(change, when):
    watch = partial(Watch, **{when: lambda callback: change(callback.model)})
    models = [learned(lean=lean, callback=watch()) for lean in (False, True)]
    assert models[1].host_loop[:2] == WRITTEN_OUT
    assert_same(*(model.get_parameters() for model in models))


@pytest.mark.parametrize("change", [change_policy, change_parameters, replace_data, replace_statistics, set_parameters])
def test_what_a_callback_changes_in_the_middle_of_an_iteration_is_heeded(change):
    def now_and_then(callback: Any) -> None:
        if callback.num_timesteps % 10 == 0:
            change(callback.model)

    models = [learned(lean=lean, callback=Watch(step=now_and_then)) for lean in (False, True)]
    assert_same(*(model.replay_buffer.actions for model in models))
    assert_same(*(model.get_parameters() for model in models))


@pytest.mark.parametrize("actions", [box(2, bound=1.0), spaces.Discrete(3)])
def test_callbacks_find_the_same_in_locals(actions):
    seen: dict[bool, list[dict[str, Any]]] = {False: [], True: []}

    def look(callback: Any) -> None:
        kept = {name: copy.deepcopy(callback.locals[name]) for name in ("actions", "buffer_actions", "rewards", "dones")}
        seen[callback.model.lean].append({"names": sorted(callback.locals), **kept})

    for lean in (False, True):
        learned(toys(2, actions=actions), buffer_size=160, lean=lean, callback=Watch(step=look))
    assert len(seen[True]) == 3 * STEPS
    assert_same(seen[False], seen[True])


@pytest.mark.parametrize("at", [10, STEPS, STEPS + 5])
def test_a_callback_stops_the_training(at):
    models = [learned(lean=lean, callback=Watch(step=lambda self: self.num_timesteps < at)) for lean in (False, True)]
    assert [model.num_timesteps for model in models] == [at, at]
    assert_same(*(model.get_parameters() for model in models))


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("then", [False, True])
def test_a_saved_run_goes_on_with_the_same_bits_whichever_steps_it_takes(first, then, tmp_path):
    endless = partial(toys, p_end=0.0, horizon=10_000)
    whole = made(endless(), lean=False).learn(4 * STEPS)
    model = made(endless(), lean=first).learn(2 * STEPS)
    model.save(tmp_path / "model")
    model.save_replay_buffer(tmp_path / "memory")
    loaded = AWR.load(tmp_path / "model", env=copy.deepcopy(model.get_env()), device="cpu", force_reset=False)
    assert loaded.lean is first
    loaded.lean = then
    loaded.load_replay_buffer(tmp_path / "memory")
    loaded.learn(2 * STEPS, reset_num_timesteps=False)
    assert_same(whole.get_parameters(), loaded.get_parameters())
    assert_same(whole.replay_buffer.actions, loaded.replay_buffer.actions)


def test_a_model_saved_in_the_middle_of_an_iteration_has_nothing_of_it(tmp_path):
    files = []

    def save(callback: Any) -> None:
        if callback.num_timesteps == STEPS + 5:
            files.append(io.BytesIO())
            callback.model.save(files[0])
            files.append(copy.deepcopy(callback.model))

    model = learned(callback=Watch(step=save))
    loaded = AWR.load(files[0], device="cpu")
    assert (loaded._sampler, model._sampler) == (None, None)
    assert_same(loaded.get_parameters(), files[1].get_parameters())


def test_momentum_and_gradients_are_left_as_the_optimisers_leave_them():
    plain, lean = pair()
    assert_same([p.grad for p in plain.policy.parameters()], [p.grad for p in lean.policy.parameters()])
    for name in ("actor_optimizer", "critic_optimizer"):
        first, second = (getattr(model.policy, name).state_dict() for model in (plain, lean))
        assert first["state"].keys() == second["state"].keys()
        assert_same(first, second)


def test_an_interrupted_phase_leaves_the_steps_that_were_taken(monkeypatch):
    model = learned(n_iterations=1)
    before = copy.deepcopy(model.get_parameters())
    calls = iter(range(100))

    def interrupted(*arguments: Any) -> Any:
        if next(calls) == 2:
            raise KeyboardInterrupt
        return weighted_regression(*arguments)

    monkeypatch.setattr("sb3_tare.awr.losses.weighted_regression", interrupted)
    paths = model.replay_buffer.paths()
    with pytest.raises(KeyboardInterrupt):
        model.fit_actor(paths, torch.randn(len(paths.rows)), 6)
    assert not torch.equal(model.get_parameters()["policy"]["action_net.weight"], before["policy"]["action_net.weight"])
    assert not model.policy.training


# Hooks and methods of one's own


class OwnDistribution(AWRPolicy):
    """Sees half of what it could."""

    def get_distribution(self, obs: Any) -> Any:
        return super().get_distribution(0.5 * obs)


class OwnLoss(AWR):
    """Learns half as much from what it sees."""

    def actor_loss(self, paths: Any, weights: torch.Tensor) -> Any:
        return super().actor_loss(paths, 0.5 * weights)


@pytest.mark.parametrize("arguments", [{"policy": OwnDistribution}, {"algorithm": OwnLoss}], ids=["policy", "loss"])
def test_methods_of_ones_own_are_called(arguments):
    plain, lean = pair(**arguments)
    assert lean.host_loop.update == "general"
    assert "Own" in lean.host_loop.reason
    assert_same(plain.get_parameters(), lean.get_parameters())
    assert not torch.equal(learned().policy.action_net.weight, lean.policy.action_net.weight)


def hook_module(model: AWR, count: Any) -> Any:
    return model.policy.action_net.register_forward_hook(count)


def hook_optimizer(model: AWR, count: Any) -> Any:
    return model.policy.actor_optimizer.register_step_post_hook(count)


def hook_parameter(model: AWR, count: Any) -> Any:
    return model.policy.action_net.weight.register_hook(count)


def hook_every_module(model: AWR, count: Any) -> Any:
    return register_module_forward_hook(count)


@pytest.mark.parametrize("hook", [hook_module, hook_optimizer, hook_parameter, hook_every_module])
def test_hooks_are_called(hook):
    calls: list[Any] = []
    model = made()
    handle = hook(model, lambda *given: calls.append(given) or None)
    try:
        assert model.host_loop.update == "general"
        assert "hooks" in model.host_loop.reason
        model.learn(STEPS)
    finally:
        handle.remove()
    assert len(calls) >= 6
    assert model.host_loop == (*WRITTEN_OUT, "")


def test_a_method_replaced_on_the_object_is_called():
    model = made()
    model.policy.forward = lambda *_: None
    assert "overridden" in model.host_loop.reason
    del model.policy.forward
    scheduler = torch.optim.lr_scheduler.ConstantLR(model.policy.actor_optimizer)  # wraps the optimiser's step
    assert model.host_loop.update == "general"
    del scheduler


def test_torchs_checks_of_arguments_stay_on_for_everybody_else():
    checks = []

    def look(*_: Any) -> None:
        checks.append(Distribution._validate_args)
        with pytest.raises(ValueError, match="scale"):
            Normal(torch.zeros(1), -torch.ones(1))

    for lean in (False, True):
        model = made(lean=lean)
        model.policy.action_net.register_forward_hook(look)
        model.learn(STEPS)
        assert type(model.policy.action_dist).__name__ == "DiagGaussianDistribution"
    assert checks == [True] * (2 * (STEPS + 6))


def test_one_debug_line_tells_which_loop_is_in_use(caplog):
    model = made()
    with caplog.at_level(logging.DEBUG, logger="sb3_tare"):
        model.learn(2 * STEPS)
    assert [r.message for r in caplog.records] == ["AWR: rollouts: written out, updates: written out"]


@pytest.mark.parametrize("value", [None, 1, "yes"])
def test_lean_is_true_or_false(value):
    with pytest.raises(TypeError, match=f"lean must be True or False, got {value!r}"):
        made(lean=value)


# What is not finite


def broken(model: AWR, name: str) -> None:
    with torch.no_grad():
        model.policy.get_parameter(name).view(-1)[0] = torch.nan


@pytest.mark.parametrize("name", ["action_net.weight", "mlp_extractor.policy_net.0.bias"])
def test_a_nan_in_the_actor_is_an_error_that_names_it_when_it_acts_or_learns(name):
    with pytest.raises(ValueError, match=f"parameters {name} are NaN"):
        learned(callback=Watch(rollout_start=lambda callback: broken(callback.model, name)))
    model = learned(n_iterations=1)
    broken(model, name)
    with pytest.raises(FloatingPointError, match=f"actor.*not finite.*{name}"):
        model.train_actor(model.replay_buffer.paths(), 3)


@pytest.mark.parametrize("lean", [False, True])
def test_a_nan_in_the_critic_is_an_error_that_names_it(lean):
    model = learned(n_iterations=1, lean=lean)
    broken(model, "value_net.bias")
    with pytest.raises(FloatingPointError, match="the critic returned values that are not finite"):
        model.train_critic(model.replay_buffer.paths(), 3)


def test_a_nan_in_an_observation_is_an_error_that_names_it():
    def spoil(callback: Any) -> None:
        callback.model._last_obs[0, 1] = np.nan

    with pytest.raises(ValueError, match="observation is NaN"):
        learned(callback=Watch(rollout_start=spoil))


# The mathematics


@pytest.mark.parametrize("n_rows", [1, 5, 16])
def test_gradients_of_the_losses_are_autograds(n_rows):
    generator = torch.Generator().manual_seed(n_rows)
    log_probs, weights, outputs, returns = torch.randn(4, n_rows, generator=generator)
    means = 2.0 * torch.randn(n_rows, 3, generator=generator)

    def squared_error(x: torch.Tensor) -> torch.Tensor:
        return 0.5 * ((99.0 * x - returns) / 100.0).square().mean()

    cases = [
        (weighted_regression(log_probs, weights), log_probs, lambda x: -(weights * x).mean()),
        (bound_loss(means, 7.0), means, lambda x: 7.0 * plain_bound_loss(x)),
        (value_loss(outputs.numpy(), returns.numpy(), 99.0, 100.0), outputs, squared_error),
    ]
    for given, at, loss in cases:
        variable = at.clone().requires_grad_()
        value = loss(variable)
        (gradient,) = torch.autograd.grad(value, variable)
        torch.testing.assert_close(given.value, value.detach(), rtol=1e-6, atol=1e-7)
        torch.testing.assert_close(torch.from_numpy(given.gradient), gradient, rtol=1e-6, atol=1e-7)

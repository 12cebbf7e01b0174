"""Which loops are in use: written out for exactly what is covered, and never past somebody's hook."""

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from gymnasium import spaces
from lean_toys import STEPS, Watch, assert_same, learned, made, pair, state_of, toys
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import FlattenExtractor
from torch import nn
from torch.nn.modules.module import register_module_forward_hook
from torch.optim.optimizer import register_optimizer_step_post_hook

from sb3_tare.lean import GathersPlainly, LeanPPO
from sb3_tare.lean.recording import is_written_out


class OwnForward(ActorCriticPolicy):
    """Acts half as boldly as it could."""

    def forward(self, obs: torch.Tensor, deterministic: bool = False) -> Any:
        actions, values, log_probs = super().forward(obs, deterministic)
        return 0.5 * actions, values, log_probs


class OwnLosses(ActorCriticPolicy):
    """Has no analytical entropy."""

    def evaluate_actions(self, obs: Any, actions: torch.Tensor) -> Any:
        values, log_probs, _ = super().evaluate_actions(obs, actions)
        return values, log_probs, None


class Doubling(FlattenExtractor):
    """Gives the policy float64."""

    def forward(self, observations: torch.Tensor) -> torch.Tensor:
        return super().forward(observations).double()


class WithIdleParameter(ActorCriticPolicy):
    """Has a parameter that no loss depends on."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.idle = nn.Parameter(torch.ones(3))
        self.optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)


class Counting(RolloutBuffer):
    """Counts what passes through it."""

    added = taken = 0

    def add(self, *args: Any, **kwargs: Any) -> None:
        self.added += 1
        super().add(*args, **kwargs)

    def _get_samples(self, *args: Any, **kwargs: Any) -> Any:
        self.taken += 1
        return super()._get_samples(*args, **kwargs)


def test_all_of_an_mlp_policy_is_written_out():
    loop = made(LeanPPO).host_loop
    assert loop == ("written out", "written out", "")
    assert str(loop) == "rollouts: written out, updates: written out"


@pytest.mark.parametrize("policy", [OwnForward, OwnLosses, WithIdleParameter])
def test_a_policy_of_ones_own_keeps_its_methods(policy):
    models = [learned(algorithm, policy=policy, ent_coef=0.01) for algorithm in (PPO, LeanPPO)]
    assert models[1].host_loop == ("general", "general", f"{policy.__name__} is not written out")
    assert_same(*map(state_of, models))


def test_a_buffer_of_ones_own_keeps_its_methods():
    models = [learned(algorithm, rollout_buffer_class=Counting) for algorithm in (PPO, LeanPPO)]
    assert models[1].host_loop[:2] == ("general", "general")
    assert "Counting" in models[1].host_loop.reason
    assert [(m.rollout_buffer.added, m.rollout_buffer.taken) for m in models] == [(96, 12), (96, 12)]
    assert_same(*map(state_of, models))


def test_without_lean_both_loops_are_sb3s():
    model = learned(LeanPPO, lean=False)
    assert model.host_loop == ("Stable-Baselines3", "Stable-Baselines3", "lean=False")
    assert_same(state_of(learned(PPO)), state_of(model))


def hook_modules(model: PPO, seen: list) -> None:
    for name in ("action_net", "mlp_extractor", "features_extractor"):
        getattr(model.policy, name).register_forward_hook(lambda *_: seen.append(1))


def hook_backwards(model: PPO, seen: list) -> None:
    model.policy.value_net.register_full_backward_hook(lambda *_: seen.append(1))


def hook_parameters(model: PPO, seen: list) -> None:
    next(model.policy.parameters()).register_post_accumulate_grad_hook(lambda *_: seen.append(1))


def hook_gradients(model: PPO, seen: list) -> None:
    next(model.policy.parameters()).register_hook(lambda _: seen.append(1))


def hook_optimizer(model: PPO, seen: list) -> None:
    model.policy.optimizer.register_step_pre_hook(lambda *_: seen.append(1))


def override_forward(model: PPO, seen: list) -> None:
    own = model.policy.forward
    model.policy.forward = lambda *args, **kwargs: (seen.append(1), own(*args, **kwargs))[1]


def override_evaluation(model: PPO, seen: list) -> None:
    own = model.policy.evaluate_actions
    model.policy.evaluate_actions = lambda *args: (seen.append(1), own(*args))[1]


def override_step(model: PPO, seen: list) -> None:
    own = model.policy.optimizer.step
    model.policy.optimizer.step = lambda *args: (seen.append(1), own(*args))[1]


@pytest.mark.parametrize("when", ["before", "in on_rollout_start"])
@pytest.mark.parametrize(
    "hook",
    [
        hook_modules,
        hook_backwards,
        hook_parameters,
        hook_gradients,
        hook_optimizer,
        override_forward,
        override_evaluation,
        override_step,
    ],
)
def test_hooks_and_overridden_methods_are_called_as_often_as_by_ppo(hook, when):
    seen: list[list] = [[], []]
    models = []
    for calls, algorithm in zip(seen, (PPO, LeanPPO), strict=True):
        model = made(algorithm)
        if when == "before":
            hook(model, calls)
        callback = None if when == "before" else Watch(rollout_start=lambda c, calls=calls: hook(c.model, calls))
        models.append(model.learn(2 * STEPS, callback=callback))
    assert models[1].host_loop.update == "general"
    assert len(seen[0]) == len(seen[1]) > 0
    assert_same(*map(state_of, models))


@pytest.mark.parametrize("register", [register_module_forward_hook, register_optimizer_step_post_hook])
def test_hooks_on_everything_are_called(register):
    seen: list[int] = []
    model = made(LeanPPO)
    handle = register(lambda *_: seen.append(1))
    try:
        assert model.host_loop.update == "general"
        model.learn(STEPS)
    finally:
        handle.remove()
    assert seen
    assert model.host_loop.update == "written out"


def test_layers_that_were_exchanged_are_not_overlooked():
    model = made(LeanPPO)
    model.policy.mlp_extractor.policy_net[1] = nn.ReLU()
    assert model.host_loop.reason == "the layers are not as ActorCriticPolicy makes them"
    model.policy.mlp_extractor.policy_net[1] = nn.LeakyReLU()
    assert model.host_loop.reason == "LeakyReLU is not written out"


def freeze(model: PPO) -> None:
    model.policy.log_std.requires_grad_(False)


def tie(model: PPO) -> None:
    model.policy.mlp_extractor.value_net[0].weight = model.policy.mlp_extractor.policy_net[0].weight
    model.policy.optimizer = torch.optim.Adam(model.policy.parameters())


def widen(model: PPO) -> None:
    for parameter in model.policy.parameters():
        parameter.data = torch.stack([parameter.data, parameter.data], -1)[..., 0]


def part(model: PPO) -> None:
    parameters = list(model.policy.parameters())
    model.policy.optimizer = torch.optim.Adam([{"params": parameters[:3]}, {"params": parameters[3:], "lr": 1e-3}])


def stagger(model: PPO) -> None:
    optimizer = model.policy.optimizer = torch.optim.Adam(model.policy.parameters())
    model.policy.log_std.grad = torch.ones_like(model.policy.log_std)
    optimizer.step()


@pytest.mark.parametrize("change", [freeze, tie, widen, part, stagger])
def test_unusual_parameters_go_the_general_way(change):
    models = []
    for algorithm in (PPO, LeanPPO):
        models.append(made(algorithm))
        change(models[-1])
        models[-1].learn(2 * STEPS)
    assert models[1].host_loop.update == "general"
    assert_same(*map(state_of, models))


@pytest.mark.parametrize("option", ["weight_decay", "amsgrad", "maximize", "foreach", "fused"])
def test_options_of_adam_go_the_general_way(option):
    value = 0.01 if option == "weight_decay" else True
    first, second = pair(policy_kwargs={"optimizer_kwargs": {option: value}, "net_arch": [8]})
    assert second.host_loop.reason == f"Adam has options: {option}"
    assert_same(state_of(first), state_of(second))


class Narrow:
    """Makes a buffer hold every other row, as one environment's rollout, by changing its class."""

    def narrow(self, buffer: RolloutBuffer, narrowed: type[RolloutBuffer]) -> None:
        shape = (buffer.buffer_size, buffer.n_envs)
        for name, value in list(vars(buffer).items()):
            if isinstance(value, np.ndarray) and value.shape[:2] == shape:
                setattr(buffer, name, value.swapaxes(0, 1).reshape(-1, *value.shape[2:])[::2][:, None])
        buffer.buffer_size, buffer.n_envs = shape[0] * shape[1] // 2, 1
        buffer.__class__ = narrowed


class Narrowed(RolloutBuffer):
    """Takes somewhat more rows for a mini-batch, and gives the buffer its class back when it is reset."""

    def get(self, batch_size: int | None = None) -> Any:
        return super().get(self.plain_batch_size(batch_size))

    def plain_batch_size(self, batch_size: int) -> int | None:
        return batch_size + 1

    def reset(self) -> None:
        self.__class__ = RolloutBuffer
        self.buffer_size, self.n_envs = STEPS, 2
        self.reset()


class Inheriting(Narrowed):
    """Says nothing of its own."""


class Hooked(Narrowed):
    """Has somebody to call."""

    def plain_batch_size(self, batch_size: int) -> int | None:
        return None

    def get(self, batch_size: int | None = None) -> Any:
        return RolloutBuffer.get(self, batch_size + 1)


@pytest.mark.filterwarnings("ignore:You have specified a mini-batch size")
@pytest.mark.parametrize(("narrowed", "update"), [(Narrowed, "written out"), (Inheriting, "general"), (Hooked, "general")])
def test_several_updates_on_a_narrowed_buffer_are_those_of_ppo(narrowed, update):
    loops = []

    def learns(algorithm: type[PPO]) -> type[PPO]:
        class Twice(algorithm):
            def train(self) -> None:
                Narrow().narrow(self.rollout_buffer, narrowed)
                loops.append(getattr(self, "host_loop", None))
                super().train()
                super().train()

        return Twice

    recorders = set()
    callback = Watch(step=lambda self: recorders.add(type(self.locals.get("recorder")).__name__))
    models = [learned(learns(algorithm), toys(2), batch_size=7, callback=callback) for algorithm in (PPO, LeanPPO)]
    assert issubclass(narrowed, GathersPlainly)
    assert [loop.update for loop in loops if loop] == [update] * 3
    assert recorders == {"NoneType", "DirectRecorder"}  # of PPO, and of a buffer that has been reset
    assert_same(*map(state_of, models))


def test_a_mixin_may_stand_before_it():
    class Mixin:
        def __init__(self, *args: Any, note: str = "", **kwargs: Any) -> None:
            self.note, self.trained = note, 0
            super().__init__(*args, **kwargs)

        def train(self) -> None:
            self.trained += 1
            super().train()

    class Mixed(Mixin, LeanPPO):
        pass

    model = learned(Mixed, note="a", lean=True)
    assert (model.note, model.trained, model.host_loop.update) == ("a", 3, "written out")
    assert_same(state_of(learned(PPO)), state_of(model))


def test_threads_do_not_make_an_error():
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        first, second = pair(partial(toys, 3))
    finally:
        torch.set_num_threads(threads)
    for one, other in zip(first.policy.parameters(), second.policy.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_another_type_of_numbers_takes_sb3s_update():
    models = []
    torch.set_default_dtype(torch.float64)
    try:
        for algorithm in (PPO, LeanPPO):
            models.append(made(algorithm, policy_kwargs={"net_arch": [8], "features_extractor_class": Doubling}))
            models[-1].learn(2 * STEPS)
    finally:
        torch.set_default_dtype(torch.float32)
    reason = "the policy does not compute in float32 on the CPU"
    assert models[1].host_loop == ("general", "Stable-Baselines3", reason)
    assert_same(*map(state_of, models))


def test_autocast_takes_sb3s_update():
    model = made(LeanPPO)
    with torch.autocast("cpu"):
        assert model.host_loop == ("general", "Stable-Baselines3", "autocast is on")
    assert model.host_loop.update == "written out"


def test_lean_is_yes_or_no():
    with pytest.raises(TypeError, match="lean must be True or False, got 'no'"):
        made(LeanPPO, lean="no")


def test_a_buffer_on_another_device_is_filled_by_its_own_methods():
    space = spaces.Box(-1.0, 1.0, (2,))
    assert is_written_out(RolloutBuffer(4, space, space, device="cpu"))
    assert not is_written_out(RolloutBuffer(4, space, space, device="meta"))

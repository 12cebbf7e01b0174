"""Hooks on a policy's parameters see the host's gradients, and none of the reward learner's."""

from typing import Any

import pytest
import torch
from toys import AS_HOST, SMALL, differences, policy_of, ppo, tare, tare_awr, vec_env

from sb3_tare import LIRPG


def counted(model: Any) -> list[int]:
    """Gradients of each parameter that a watcher has seen."""
    calls = [0] * len(list(model.policy.parameters()))

    def watch(place: int) -> Any:
        def count(gradient: torch.Tensor) -> None:
            calls[place] += 1

        return count

    for place, parameter in enumerate(model.policy.parameters()):
        if parameter.requires_grad:
            parameter.register_hook(watch(place))
    return calls


@pytest.mark.parametrize(
    "settings", [{}, {"curvature": "hessian"}, {"validation": "next_rollout"}, {"interleave": True}], ids=str
)
def test_a_watcher_of_gradients_is_called_once_for_each_of_the_hosts_steps(settings):
    model = tare(host={"lean": False}, **settings)
    calls = counted(model)
    model.learn(2 * 64)
    steps = {int(state["step"]) for state in model.policy.optimizer.state.values()}
    assert {*calls} == steps


def test_lirpg_and_tareawr_call_it_no_more_often_either():
    model = LIRPG("MlpPolicy", vec_env(), **SMALL)
    calls = counted(model)
    model.learn(64)
    assert {*calls} == {int(state["step"]) for state in model.policy.optimizer.state.values()}
    frozen, learned = tare_awr(**AS_HOST), tare_awr()
    frozen_calls, learned_calls = counted(frozen), counted(learned)
    for model in (frozen, learned):
        model.learn(64)
    assert sum(learned_calls) - sum(frozen_calls) <= len(learned_calls)  # a part of its own may need a step more


def test_a_clipper_of_gradients_shapes_the_hosts_steps_as_it_does_without_a_learner():
    def clipped(model: Any) -> Any:
        for parameter in model.policy.parameters():
            parameter.register_hook(lambda gradient: gradient.clamp(-1e-3, 1e-3))
        return policy_of(model.learn(2 * 64))

    assert not differences(clipped(ppo()), clipped(tare(**AS_HOST)))
    assert differences(clipped(ppo()), policy_of(ppo().learn(2 * 64)))


def test_hooks_stay_when_a_gradient_cannot_be_taken():
    model = tare()
    calls = counted(model)
    model.reward_learner.trainer.optimisers.step = lambda *_: (_ for _ in ()).throw(FloatingPointError)
    with pytest.raises(FloatingPointError):
        model.learn(64)
    before = list(calls)
    sum(parameter.sum() for parameter in model.policy.parameters()).backward()
    assert all(after == count + 1 for after, count in zip(calls, before, strict=True))

"""Steps of an optimiser of torch's, seen while somebody else's training loop takes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim import Adam

from sb3_tare.hypergradient.adam import AdamStep


@contextmanager
def watched_steps(
    optimiser: Adam, max_norm: float, after_step: Callable[[AdamStep, Sequence[Parameter]], None]
) -> Iterator[None]:
    """Have ``after_step`` called with each step of ``optimiser`` and the parameters it moved, as soon as it is taken.

    :param max_norm: at which the training loop clips the gradient between ``backward()`` and ``step()``
    """
    norms: dict[Parameter, Tensor] = {}
    step: AdamStep | None = None

    def note_norm(parameter: Parameter) -> None:
        assert parameter.grad is not None
        norms[parameter] = torch.linalg.vector_norm(parameter.grad)

    def before(optimiser: Any, *_: Any) -> None:
        nonlocal step
        step = _read(optimiser, [norms[parameter] for parameter in _moved(optimiser)], max_norm)

    def after(optimiser: Any, *_: Any) -> None:
        assert step is not None
        after_step(step, _moved(optimiser))

    parameters = [parameter for group in optimiser.param_groups for parameter in group["params"] if parameter.requires_grad]
    handles: list[Any] = [parameter.register_post_accumulate_grad_hook(note_norm) for parameter in parameters]
    handles += [optimiser.register_step_pre_hook(before), optimiser.register_step_post_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _moved(optimiser: Adam) -> list[Parameter]:
    """Parameters that a step moves: those with a gradient."""
    (group,) = optimiser.param_groups
    return [parameter for parameter in group["params"] if parameter.grad is not None]


@torch.no_grad()
def _read(optimiser: Adam, norms: Sequence[Tensor], max_norm: float) -> AdamStep:
    """The step that ``optimiser`` is about to take."""
    (group,) = optimiser.param_groups
    parameters = _moved(optimiser)
    states = [optimiser.state.get(parameter, {}) for parameter in parameters]

    def moment(name: str) -> Tensor:
        return flat([s.get(name, torch.zeros_like(p)) for s, p in zip(states, parameters, strict=True)])

    counts = [s.get("step", torch.zeros(())).to(p.device) for s, p in zip(states, parameters, strict=True)]
    return AdamStep(
        parameters=flat(parameters),
        gradient=flat([parameter.grad for parameter in parameters if parameter.grad is not None]),
        norm=torch.linalg.vector_norm(torch.stack(list(norms))),
        exp_avg=moment("exp_avg"),
        exp_avg_sq=moment("exp_avg_sq"),
        count=1 + torch.cat([count.expand(p.numel()) for count, p in zip(counts, parameters, strict=True)]),
        learning_rate=float(group["lr"]),
        betas=group["betas"],
        eps=group["eps"],
        max_norm=max_norm,
    )


def flat(tensors: Sequence[Tensor]) -> Tensor:
    """One vector ``[p]`` of copies of all tensors' entries."""
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])

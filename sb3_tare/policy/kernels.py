"""Kernels that can be differentiated twice, chosen in one thread without a word to the others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from threading import RLock
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode


@contextmanager
def differentiable_kernels() -> Iterator[None]:
    """Attention by its plain formula, and recurrent layers without cuDNN: kernels that can be differentiated twice.

    Attention is of this thread alone. Whether there is cuDNN is torch's choice for the whole process: where there is a GPU,
    other threads are without it meanwhile, and this is entered for policies that need it alone.
    """
    with _PlainAttention(), _no_cudnn() if torch.cuda.is_available() else nullcontext():
        yield


class _PlainAttention(TorchFunctionMode):
    """Has the plain formula of attention computed in place of the kernel that torch would choose."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return _PLAIN.get(func, func)(*args, **(kwargs or {}))


def _plain_attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, *args: Any, **kwargs: Any
) -> Any:
    """Attention as torch's ``scaled_dot_product_attention``, whose arguments are taken, but by the plain formula."""
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype).masked_fill_(~attn_mask, -torch.inf)
    return torch._scaled_dot_product_attention_math(query, key, value, attn_mask, *args, **kwargs)[0]  # type: ignore[attr-defined]


# torch's function for several heads calls the one above where no mode sees it: this is its code, with the plain one beside it.
_plain_heads = FunctionType(
    functional.multi_head_attention_forward.__code__,
    {**vars(functional), "scaled_dot_product_attention": _plain_attention},
    argdefs=functional.multi_head_attention_forward.__defaults__,
)
_PLAIN: dict[Any, Callable[..., Any]] = {
    functional.scaled_dot_product_attention: _plain_attention,
    functional.multi_head_attention_forward: _plain_heads,
}


_CUDNN = RLock()
"""Held by the thread without cuDNN, so that each gives back what it found"""


@contextmanager
def _no_cudnn() -> Iterator[None]:
    cudnn = torch.backends.cudnn
    options = {"benchmark": cudnn.benchmark, "deterministic": cudnn.deterministic, "allow_tf32": cudnn.allow_tf32}
    with _CUDNN, cudnn.flags(enabled=False, **options):
        yield

"""Pieces of episodes side by side, padded to like length: what recurrent networks and scans run over."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Bucket(NamedTuple):
    """Pieces of like length side by side, padded to the longest of them."""

    shape: tuple[int, int]
    """``(L, E)``: places in the sequence, pieces"""
    rows: Tensor
    """``[L * E]`` row at each place, any row of the piece where it has ended"""
    places: Tensor
    """``[m]`` the places that are not padding"""


class Padding(NamedTuple):
    """All rows in buckets of pieces whose lengths differ by less than a factor of two: cost linear in rows.

    In a bucket padding comes last, so that it can change nothing before it.
    """

    buckets: tuple[Bucket, ...]
    order: Tensor
    """``[n]`` rows in the order of the buckets' places"""
    inverse: Tensor
    """``[n]`` place of each row in that order"""

    def pad(self, rows: Tensor) -> list[Tensor]:
        """Lay rows ``[n, ...]`` out as a batch ``[L, E, ...]`` for each bucket; differentiable."""
        return [rows.index_select(0, b.rows.to(rows.device)).view(*b.shape, *rows.shape[1:]) for b in self.buckets]

    def unpad(self, batches: list[Tensor]) -> Tensor:
        """Rows ``[n, ...]`` of the batches ``[L, E, ...]`` of all buckets, the inverse of :meth:`pad`; differentiable."""
        valid = [
            batch.reshape(-1, *batch.shape[2:]).index_select(0, bucket.places.to(batch.device))
            for bucket, batch in zip(self.buckets, batches, strict=True)
        ]
        return torch.cat(valid).index_select(0, self.inverse.to(valid[0].device))

"""Freeze parameters for a while and give every one its own flag back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from torch import nn


@contextmanager
def frozen(parameters: Iterable[nn.Parameter]) -> Iterator[None]:
    """No gradients for these parameters inside; afterwards each is as it was before."""
    listed = list(parameters)
    flags = [parameter.requires_grad for parameter in listed]
    for parameter in listed:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter, flag in zip(listed, flags, strict=True):
            parameter.requires_grad_(flag)

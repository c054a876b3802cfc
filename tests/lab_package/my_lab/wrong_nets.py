"""Networks that FedI2I refuses, one for each reason."""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

NO_CLASS: Callable[[str], int] = os.system


class Plain(nn.Module):
    """A convolution, and nothing that says which part encodes."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, source: Tensor) -> Tensor:
        """Keep the shape."""
        translated: Tensor = self.layer(source)
        return translated


class NoNetwork:
    """A class of something else."""


class DrawsFromNumpy(Plain):
    """Its first weights hang on numpy."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(np.random.rand(), dtype=torch.float32))


class WithBatchNorm(Plain):
    """Keeps running statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Sequential(
            nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 1, 1)
        )  # type: ignore[assignment]


class Crops(Plain):
    """Makes a smaller slice."""

    def forward(self, source: Tensor) -> Tensor:
        """Lose a column."""
        return super().forward(source)[..., 1:]


class GivesTwo(Plain):
    """Makes two maps, as networks with deep supervision do."""

    def forward(self, source: Tensor) -> Tensor:
        """A list."""
        return [super().forward(source), source]  # type: ignore[return-value]


class EndsWithReLU(Plain):
    """Cannot make what is darker than grey."""

    def forward(self, source: Tensor) -> Tensor:
        """Cut."""
        return torch.relu(super().forward(source))


class TooLoud(Plain):
    """Goes beyond the range."""

    def forward(self, source: Tensor) -> Tensor:
        """Amplify."""
        return 100 * super().forward(source)


class LooksAtValues(Plain):
    """No graph can say what it does."""

    def forward(self, source: Tensor) -> Tensor:
        """Branch."""
        return super().forward(source) if float(source.sum()) > 0 else -super().forward(source)


class Lazy(Plain):
    """Has no weights before the first slice."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.LazyConv2d(1, 3, padding=1)


class OneUnderTwoNames(Plain):
    """Would send its only layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.again = self.layer


class GrowsLater(Plain):
    """Makes parameters when it is called."""

    def forward(self, source: Tensor) -> Tensor:
        """Grow."""
        if not hasattr(self, "scale"):
            self.scale = nn.Parameter(torch.ones(()))
        return super().forward(source) * self.scale


class NamesNoModule(Plain):
    """Names an encoder that it has not."""

    def encoder_modules(self) -> tuple[str, ...]:
        """Another's."""
        return ("encoder",)


class Fragile(Plain):
    """Takes no other size than that of its author."""

    def forward(self, source: Tensor) -> Tensor:
        """Complain."""
        if source.shape[-1] != 7:
            raise ValueError("seven columns, please. Nothing else")
        return source


class BadLogits(nn.Module):
    """A discriminator that judges all slices at once."""

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        """One number."""
        return (source - target).mean().reshape(1, 1)

"""A small network that learns what target slices look like, for the kernel distance.

Nothing is downloaded: the network is trained here, on target slices of training patients alone. It
learns to take noise away (Vincent, Larochelle, Bengio, Manzagol, Extracting and composing robust
features with denoising autoencoders, ICML 2008, doi:10.1145/1390156.1390294). To do so it must tell
fine structure from noise as well as know the anatomy, so that its features see both blur and wrong
shapes; and it needs no labels, so that one site alone can train it. Telling sites apart would need
several; telling the height of a slice would teach it to overlook texture.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fedi2i.cores import one_torch_thread
from fedi2i.errors import DataError
from lightning_modules.data.slices import to_intensity
from lightning_modules.seeding import derive_seed
from partitions.preparation import PreparedSplit

SEED = 2018
"""The same for all runs, so that the runs of a study share one extractor."""
STEPS = 150
_BATCH = 8
_CROP = 64
"""Rows and columns of what a step sees of a slice, so that the time does not grow with the size."""
_MOST_NOISE = 0.2
_LEARNING_RATE = 2e-3
_REFERENCE_SLICES = 256
_SLICES_AT_ONCE = 16
_LEAST_VARIANCE = 0.01
"""Added to the variance of every direction; their mean is 1."""


class DenoisingNetwork(nn.Module):
    """Three convolutions down and three up; its features are the means of what the former find.

    Args:
        channels: of the three convolutions.
    """

    def __init__(self, channels: tuple[int, int, int] = (8, 16, 32)) -> None:
        super().__init__()
        first, second, third = channels
        self.down = nn.ModuleList(
            [
                nn.Conv2d(1, first, 3, padding=1),
                nn.Conv2d(first, second, 3, stride=2, padding=1),
                nn.Conv2d(second, third, 3, stride=2, padding=1),
            ]
        )
        self.up = nn.ModuleList(
            [
                nn.Conv2d(third, second, 3, padding=1),
                nn.Conv2d(second, first, 3, padding=1),
                nn.Conv2d(first, 1, 3, padding=1),
            ]
        )

    def forward(self, image: Tensor) -> Tensor:
        """The slice without its noise: (n, 1, rows, columns) of intensities, the same shape."""
        levels = self._levels(image)
        found = levels[-1]
        for convolution, level in zip(self.up[:-1], levels[-2::-1], strict=True):
            larger = functional.interpolate(found, size=level.shape[-2:], mode="nearest")
            found = torch.relu(convolution(larger))
        cleaned: Tensor = self.up[-1](found)
        return cleaned

    def features(self, image: Tensor, mask: Tensor) -> Tensor:
        """Mean of every channel inside the mask: (n, all channels).

        Args:
            image: (n, 1, rows, columns), intensities, 0 outside the mask.
            mask: the same shape, 1 inside and 0 outside.
        """
        means = []
        for level in self._levels(image):
            weight = functional.adaptive_avg_pool2d(mask, (level.shape[-2], level.shape[-1]))
            total = weight.sum(dim=(1, 2, 3)).clamp_min(1e-6)
            means.append((level * weight).sum(dim=(2, 3)) / total[:, None])
        return torch.cat(means, dim=1)

    def _levels(self, image: Tensor) -> list[Tensor]:
        levels = []
        for convolution in self.down:
            image = torch.relu(convolution(image))
            levels.append(image)
        return levels


class Extractor:
    """A trained network and the scale of its features over real training slices.

    Args:
        network: trained.
        images: (n, rows, columns), real slices in [0, 1].
        masks: the same shape, true inside.
    """

    def __init__(self, network: DenoisingNetwork, images: Tensor, masks: Tensor) -> None:
        self._network = network.eval()
        raw = self._raw(images, masks)
        self._mean = raw.mean(axis=0)
        spread = raw.std(axis=0)
        self._to_white = _whitening(raw - self._mean, np.where(spread > 0, spread, 1.0))

    @property
    def digest(self) -> str:
        """Twelve digits that change with any weight or scale."""
        state = [tensor.numpy() for tensor in self._network.state_dict().values()]
        content = b"".join(array.tobytes() for array in (*state, self._mean, self._to_white))
        return hashlib.sha256(content).hexdigest()[:12]

    def features(self, images: Tensor, masks: Tensor) -> NDArray[np.float64]:
        """Features of slices, on the scale of real training slices, see ``_whitening``.

        Args:
            images: (n, rows, columns), intensities; clipped to [0, 1] and blanked outside the mask.
            masks: the same shape, true inside.

        Returns:
            (n, 56).
        """
        scaled: NDArray[np.float64] = (self._raw(images, masks) - self._mean) @ self._to_white
        return scaled

    def _raw(self, images: Tensor, masks: Tensor) -> NDArray[np.float64]:
        parts = []
        with torch.inference_mode(), one_torch_thread():
            for image, mask in zip(
                torch.split(images, _SLICES_AT_ONCE),
                torch.split(masks, _SLICES_AT_ONCE),
                strict=True,
            ):
                inside = mask.unsqueeze(1).float()
                blanked = image.float().clamp(0.0, 1.0).unsqueeze(1) * inside
                parts.append(self._network.features(blanked, inside).double().numpy())
        return np.concatenate(parts)


class RealSlices:
    """The target slices of training patients, read as they are asked for.

    Args:
        splits: training patients of each site that trained.
    """

    def __init__(self, splits: Sequence[PreparedSplit]) -> None:
        self._splits = tuple(splits)
        self._places = [
            (number, place)
            for number, split in enumerate(self._splits)
            for place in split.slices_with(("target",))
        ]

    def __len__(self) -> int:
        """How many there are."""
        return len(self._places)

    def read(self, indices: NDArray[np.intp]) -> tuple[Tensor, Tensor]:
        """Slices in [0, 1], 0 outside the mask, and their masks: (n, rows, columns)."""
        chosen = [self._places[index] for index in indices]
        stored = np.stack([self._splits[number].target[place] for number, place in chosen])
        inside = np.stack([self._splits[number].mask[place] > 0 for number, place in chosen])
        masks = torch.from_numpy(inside)
        return to_intensity(stored) * masks, masks

    def sample(self, most: int = _REFERENCE_SLICES, seed: int = SEED) -> tuple[Tensor, Tensor]:
        """So many slices at the most, drawn with the seed, and their masks."""
        draw = np.random.default_rng(derive_seed(seed, "reference")).permutation(len(self))
        return self.read(np.sort(draw[:most]))


def train_extractor(slices: RealSlices, seed: int = SEED, steps: int = STEPS) -> Extractor:
    """Train the network on real slices; equal slices and seeds give equal weights.

    Args:
        slices: of training patients.
        seed: of first weights, slices, crops and noise.
        steps: of the optimizer.

    Raises:
        DataError: there are no slices.
    """
    if not len(slices):
        raise DataError(
            "the distribution distance needs target slices of training patients, and the given "
            "sites have none; give a site that trained, or leave --distributions out"
        )
    with one_torch_thread(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(derive_seed(seed, "weights"))
        network = DenoisingNetwork()
        optimizer = torch.optim.Adam(network.parameters(), _LEARNING_RATE)
        draw = np.random.default_rng(derive_seed(seed, "batches"))
        noise = torch.Generator().manual_seed(derive_seed(seed, "noise"))
        for _ in range(steps):
            images, masks = slices.read(draw.integers(len(slices), size=_BATCH))
            clean, inside = _cropped(images, masks, draw)
            strength = _MOST_NOISE * torch.rand((_BATCH, 1, 1, 1), generator=noise)
            noisy = clean + strength * torch.randn(clean.shape, generator=noise) * inside
            error = ((network(noisy) - clean) ** 2 * inside).sum() / inside.sum().clamp_min(1.0)
            optimizer.zero_grad()
            error.backward()
            optimizer.step()
    return Extractor(network, *slices.sample(seed=seed))


def _whitening(centred: NDArray[np.float64], spread: NDArray[np.float64]) -> NDArray[np.float64]:
    """What turns features into uncorrelated ones of variance 1 over real slices, nearly.

    Channels rise and fall together with a slice's brightness. As they are, the cube of the kernel
    would let the brightest few slices decide. Directions in which real slices hardly vary are
    multiplied by ten at the most, so that rounding is not taken for a difference.

    Args:
        centred: (slices, features), of mean 0.
        spread: standard deviation of every feature.

    Returns:
        (features, features), to be multiplied from the right.
    """
    correlations = (centred / spread).T @ (centred / spread) / len(centred)
    variances, directions = np.linalg.eigh(correlations)
    white: NDArray[np.float64] = directions / np.sqrt(variances.clip(0.0) + _LEAST_VARIANCE)
    return white / spread[:, None]


def _cropped(images: Tensor, masks: Tensor, draw: np.random.Generator) -> tuple[Tensor, Tensor]:
    """The same part of all slices and masks, as (n, 1, rows, columns); all of small ones."""
    rows, columns = (int(draw.integers(max(1, side - _CROP + 1))) for side in images.shape[1:])
    where = (slice(None), slice(rows, rows + _CROP), slice(columns, columns + _CROP))
    return images[where].unsqueeze(1), masks[where].unsqueeze(1).float()

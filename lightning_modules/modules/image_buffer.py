"""Translated slices of earlier steps, which a discriminator is shown again."""

from __future__ import annotations

import torch
from torch import Tensor


class ImageBuffer:
    """A history of translations (Shrivastava et al., CVPR 2017, arXiv:1612.07828, section 2.3).

    A discriminator that sees the newest translations alone forgets what it knew to be fake, and
    the generator returns to it. As in CycleGAN (Zhu et al. 2017, section 4) a new slice is shown
    as it is with probability 1/2; otherwise it takes the place of a stored one, which is shown.
    Until the buffer is full every slice is stored and shown.

    The buffer holds pictures made from patients. It is a plain object and no part of any
    state_dict, so that nothing that is shared, kept or saved can contain it.

    Args:
        capacity: slices held; with 0 every slice is shown as it is.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._stored: list[Tensor] = []
        self._random = torch.Generator()

    def empty(self, seed: int) -> None:
        """Forget all slices and start the random draws anew."""
        self._stored = []
        self._random.manual_seed(seed)

    def exchange(self, images: Tensor) -> Tensor:
        """The slices to show in place of new ones.

        Args:
            images: translations (n, 1, rows, columns); no gradient flows back through them.

        Returns:
            The same shape.
        """
        if self._capacity == 0 or not len(images):
            return images.detach()
        return torch.stack([self._shown(image) for image in images.detach()])

    def _shown(self, image: Tensor) -> Tensor:
        if len(self._stored) < self._capacity:
            self._stored.append(image.clone())
            return image
        if float(torch.rand((), generator=self._random)) < 0.5:
            return image
        place = int(torch.randint(self._capacity, (), generator=self._random))
        earlier = self._stored[place]
        self._stored[place] = image.clone()
        return earlier

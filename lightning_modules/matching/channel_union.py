"""Union-find over sets of channels: which share one permutation, and which may not move."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_modules.matching.layouts import Run

_SINGLE = "a single channel"


class ChannelUnion:
    """Sets of channels, each known by its number; sets that are united share one permutation.

    A united set is known by its oldest member, so that numbers follow the forward order.
    """

    def __init__(self) -> None:
        self._parents: list[int] = []
        self._names: list[str] = []
        self._reasons: dict[int, str] = {}

    def new(self, name: str, size: int) -> Run:
        """A new set of ``size`` channels; a single channel has nothing to permute."""
        if size == 1:
            return self.pinned(size, _SINGLE)
        return self._add(name, size)

    def pinned(self, size: int, reason: str) -> Run:
        """A new set of ``size`` channels that keep their order."""
        run = self._add("", size)
        self._reasons[run.channels] = reason
        return run

    def pin(self, runs: Sequence[Run], reason: str) -> None:
        """Keep the order of these channels; the first reason that was given stays."""
        for run in runs:
            self._give(self.root(run.channels), reason)

    def unite(self, one: Sequence[Run], other: Sequence[Run]) -> None:
        """Let channels that meet at the same places share one permutation.

        Where both are divided differently, a shared permutation would have to respect both
        divisions; such channels are pinned instead.
        """
        if [(run.size, run.width) for run in one] == [(run.size, run.width) for run in other]:
            for left, right in zip(one, other, strict=True):
                self._join(self.root(left.channels), self.root(right.channels))
        else:
            reason = "meets channels that are divided differently"
            self.pin((*one, *other), reason)

    def root(self, number: int) -> int:
        """The oldest member of a set."""
        while self._parents[number] != number:
            self._parents[number] = self._parents[self._parents[number]]
            number = self._parents[number]
        return number

    def reason(self, run: Run) -> str | None:
        """Why these channels keep their order; None if they may be permuted."""
        return self._reasons.get(self.root(run.channels))

    def name(self, run: Run) -> str:
        """The name of the set that these channels belong to."""
        return self._names[self.root(run.channels)]

    def _add(self, name: str, size: int) -> Run:
        number = len(self._parents)
        self._parents.append(number)
        self._names.append(name)
        return Run(number, size)

    def _join(self, one: int, other: int) -> None:
        root, child = min(one, other), max(one, other)
        if root == child:
            return
        self._parents[child] = root
        if child in self._reasons:
            self._give(root, self._reasons.pop(child))

    def _give(self, root: int, reason: str) -> None:
        # That there is one channel only says less than any other reason.
        if self._reasons.get(root, _SINGLE) == _SINGLE:
            self._reasons[root] = reason

"""The channel groups of a network as text, one line per tensor."""

from __future__ import annotations

from lightning_modules.matching.channel_groups import ChannelGroups, Segment


def groups_table(groups: ChannelGroups) -> str:
    """A table of all tensors: whose channels stand on their axes, and why some are pinned.

    Groups are numbered in forward order; ``3[64]`` are the 64 channels of group 3, ``pinned[1]``
    is an entry that keeps its place, ``3[64x16]`` has 16 entries per channel.
    """
    numbers = {group: str(number) for number, group in enumerate(groups.order, start=1)}
    sections = [
        _aligned([("group", "channels", "first made by"), *_group_rows(groups, numbers)]),
        _aligned([("tensor", "axes", "note"), *_tensor_rows(groups, numbers)]),
    ]
    return "\n\n".join(sections) + "\n"


def _group_rows(groups: ChannelGroups, numbers: dict[str, str]) -> list[tuple[str, ...]]:
    return [(numbers[group], str(groups.sizes[group]), group) for group in groups.order]


def _tensor_rows(groups: ChannelGroups, numbers: dict[str, str]) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = []
    for key, axes in groups.axes.items():
        cells = [
            f"{axis}: " + " + ".join(_cell(segment, numbers) for segment in segments)
            for axis, segments in axes.items()
        ]
        rows.append((key, "  ".join(cells), _note(groups, key)))
    return rows + [(key, "none", "") for key in groups.scalars]


def _cell(segment: Segment, numbers: dict[str, str]) -> str:
    name = "pinned" if segment.group is None else numbers[segment.group]
    width = f"x{segment.width}" if segment.width > 1 else ""
    return f"{name}[{segment.size}{width}]"


def _note(groups: ChannelGroups, key: str) -> str:
    notes = list(dict.fromkeys(pinned.reason for pinned in groups.pinned if pinned.key == key))
    if key in groups.dead_biases:
        notes.append("cancelled by a normalisation")
    return "; ".join(notes)


def _aligned(rows: list[tuple[str, ...]]) -> str:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)

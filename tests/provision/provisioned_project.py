"""A provisioned project, as the tests see it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SITES = ("north", "east", "south", "west")


@dataclass(frozen=True)
class Provisioned:
    """Its file, its workspace and the folder of kits."""

    project_file: Path
    workspace: Path
    kits: Path

    @property
    def all_kits(self) -> list[Path]:
        """Every participant's kit."""
        return sorted(path for path in self.kits.iterdir() if path.is_dir())

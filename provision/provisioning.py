"""Run ``nvflare provision`` and find what it made."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from fedi2i.errors import ConfigError, UserError
from fedi2i.typed_config import read_yaml

PROJECT_FILE = Path(__file__).parent / "project.yml"


class ProvisioningError(UserError):
    """NVFlare could not make the kits."""


def nvflare_program() -> str:
    """NVFlare's command line, beside the Python that runs us."""
    return str(Path(sys.executable).with_name("nvflare"))


def provision(project_file: Path, workspace: Path, *options: str) -> Path:
    """Make kits; returns the folder with one kit per participant.

    Args:
        project_file: the project.
        workspace: folder for kits and for the authority's state; both hold private keys.
        options: further options of ``nvflare provision``.

    Raises:
        ProvisioningError: with NVFlare's last words.
        ConfigError: the project file is missing.
    """
    if not project_file.is_file():
        raise ConfigError(
            f"{project_file}: no such project file; the project's own is {PROJECT_FILE}"
        )
    workspace.mkdir(parents=True, exist_ok=True)
    before = kit_folders(project_file, workspace)
    # Relative names would be resolved in another folder than ours, so there are none.
    command = [nvflare_program(), "provision", "-p", str(project_file.resolve())]
    command += ["-w", str(workspace.resolve()), "--force", *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    new = [path for path in kit_folders(project_file, workspace) if path not in before]
    if done.returncode != 0 or not new:
        lines = [line for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        reason = next((line for line in lines if "Exception" in line or "rror" in line), "")
        raise ProvisioningError(f"{project_file}: no kits were made: {reason or lines[-1:]}")
    return new[-1]


def kit_folders(project_file: Path, workspace: Path) -> list[Path]:
    """The folders of kits that were made so far, oldest first."""
    name = read_yaml(project_file).get("name", "")
    return sorted((workspace / str(name)).glob("prod_*"))

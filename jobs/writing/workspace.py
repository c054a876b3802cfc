"""Prepare a workspace of NVFlare's simulator: which classes may run, where the sites' data is."""

from __future__ import annotations

import json
from pathlib import Path

from omegaconf import OmegaConf

from app_custom.gates.allowed_statistics import SharedStatistics
from app_custom.gates.job_limits import SIMULATION
from app_custom.participant.allowed_classes import ALLOWED_CLASSES
from app_custom.participant.site_configuration import FILE_NAME, SiteConfig
from fedi2i.errors import DataError
from fedi2i.files import write_text
from fedi2i.typed_config import as_dict

DEFAULT_NAME = "simulator_workspace"
RELAXED_LIMITS = (
    "jobs may ask for as little as one site, patient or slice here ('limits' in "
    "local/fedi2i.yaml): for simulations only"
)
"""Said wherever such a workspace is prepared: no site with real patients should copy it."""
_RELAXED = "# Of a simulation: a site with real patients has the defaults of docs/settings.md.\n"


def prepare_workspace(
    workspace: Path,
    datasets: dict[str, Path],
    torch_threads: int | None = None,
    share_images: bool = True,
    models: dict[str, Path] | None = None,
) -> Path:
    """Write ``local/resources.json`` and ``local/fedi2i.yaml``, with the limits of a simulation.

    The simulator keeps ``local`` when it empties a workspace. What must outlive that (finished
    rounds, kept optimizers) goes to a folder beside the workspace.

    Args:
        workspace: the folder to give to ``nvflare simulator -w``.
        datasets: data set name to the folder that holds one folder per site.
        torch_threads: threads per site process; by default cores / sites of the job.
        share_images: send picture panels to TensorBoard. Simulations only.
        models: model name to a file that jobs may start from.

    Raises:
        DataError: a data folder or a model file does not exist, the folder is in use, or its path
            has blanks.
    """
    for name, folder in datasets.items():
        if not folder.is_dir():
            raise DataError(
                f"{folder}: no such folder for data set '{name}'; correct the path, or bring its "
                "scans in first ('fedi2i data --help')"
            )
    for name, path in (models or {}).items():
        if not path.is_file():
            raise DataError(f"{path}: no such file for model '{name}'; train it first")
    root = workspace.resolve()
    if any(character.isspace() for character in str(root)):
        raise DataError(
            f"{root}: NVFlare's simulator starts no site in a folder whose path has blanks; give "
            "another one"
        )
    local = root / "local"
    former = (local / "resources.json").is_file() or (root / "startup").is_dir()
    if root.is_dir() and any(root.iterdir()) and not former:
        raise DataError(
            f"{workspace}: holds other files, which the simulator would delete; give a new or "
            "empty folder"
        )
    resources = {"format_version": 2, "class_allow_list": list(ALLOWED_CLASSES)}
    write_text(local / "resources.json", json.dumps(resources, indent=2) + "\n")
    config = SiteConfig(
        datasets={name: f"{folder.resolve()}/{{site}}" for name, folder in datasets.items()},
        models={name: str(path.resolve()) for name, path in (models or {}).items()},
        state=str(root.with_name(f"{root.name}_state")),
        shared_machine=True,
        torch_threads=torch_threads,
        share_images=share_images,
        limits=SIMULATION,
        statistics=SharedStatistics(share=True, least_patients=2),
    )
    text = OmegaConf.to_yaml(OmegaConf.create(as_dict(config)))
    write_text(local / FILE_NAME, text.replace("limits:\n", f"{_RELAXED}limits:\n"))
    return workspace

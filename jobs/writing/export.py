"""Write a job folder."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedi2i.errors import ConfigError
from jobs.writing import job_folder
from jobs.writing.federation import FederatedExperiment


def job_files(name: str, job: FederatedExperiment) -> dict[str, str]:
    """Relative path to text of every file of a job folder."""
    content: dict[str, Any] = {
        "meta.json": job_folder.meta(name, job),
        "app_server/config/config_fed_server.json": job_folder.server_config(name, job),
        "app_site/config/config_fed_client.json": job_folder.site_config(name, job),
    }
    return as_texts(content)


def as_texts(content: Mapping[str, Any]) -> dict[str, str]:
    """Relative path to content as JSON."""
    return {path: json.dumps(value, indent=2) + "\n" for path, value in content.items()}


def export_job(name: str, job: FederatedExperiment, out: Path) -> Path:
    """Write the job folder ``out`` of a training; see ``write_job``.

    Raises:
        ConfigError: a network of a lab's own does not offer what the experiment asks for.
    """
    if any(network.is_own for network in job.experiment.model.networks):
        # Imported here, as most jobs have none and need not wait for torch.
        from lightning_modules.networks.own_check import check_own_networks

        check_own_networks(job.experiment)
    return write_job(job_files(name, job), out)


def write_job(files: Mapping[str, str], out: Path) -> Path:
    """Write the job folder ``out``, replacing an older one as a whole; returns it.

    Args:
        files: relative path to text.
        out: the folder.

    Raises:
        ConfigError: ``out`` exists and is no job folder; it is left alone.
    """
    if not out.name or (out.exists() and not (out / "meta.json").is_file()):
        raise ConfigError(f"{out}: exists and is no job folder; choose another folder for the job")
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent, prefix=".exporting-") as temporary:
        folder = Path(temporary) / out.name
        for relative, text in files.items():
            path = folder / relative
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        folder.rename(out)
    return out

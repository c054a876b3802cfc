"""A site's own configuration says where its data and state are, and what it agrees to do and send.

It lives in the site's NVFlare workspace as ``local/fedi2i.yaml``. A job names a data set; this
file maps the name to a folder. No job can read or change it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from app_custom.gates.allowed_statistics import SharedStatistics
from app_custom.gates.job_limits import JobLimits
from app_custom.gates.study_numbers import SharedStudies
from app_custom.participant.proxy import checked_proxy
from app_custom.privacy.patient_noise.policy import PatientPrivacy
from fedi2i.errors import ConfigError
from fedi2i.typed_config import (
    LEFT_OUT_WHILE_UNSET,
    check_values,
    nearest,
    read_yaml,
    record_from,
)

FILE_NAME = "fedi2i.yaml"


@dataclass(frozen=True)
class SiteConfig:
    """Settings that a participant decides for itself; ``{site}`` in a path stands for its name.

    Attributes:
        datasets: data set name to this site's folder with ``manifest.json``.
        models: at the server: model name to a file that a job may start from.
        cache: folder for prepared slices; by default ``prepared`` in the data folder.
        state: folder for what must survive a crash (kept optimizers, the server's finished
            rounds); by default ``state`` in the NVFlare workspace.
        keep_models: at a site: folder in which it keeps the final model of each run and the one
            that was best on its own validation patients, ready for ``fedi2i translate``; by default
            it keeps none.
        shared_machine: all sites of a job run on this machine (simulator, POC): each takes its
            part of the cores.
        torch_threads: threads of each training process; overrides the division of cores.
        share_curves: send training losses step by step for TensorBoard. Round means and
            validation metrics always go with the update.
        share_images: send one picture panel of a validation patient per round. It shows patient
            data: leave it off outside simulations.
        limits: how little and how much a job may ask of this participant.
        proxy: ``http://host:port`` of the HTTP proxy on the way to the server.
        patient_privacy: whether every job must train with patient-level differential privacy, and
            how much of it all jobs together may spend.
        statistics: whether jobs of statistics are answered and source scans described after a
            training, and of how many patients at least.
        studies: whether test patients are measured for studies, where rows and pictures of them
            are written, and what is said of them.
    """

    datasets: dict[str, str] = field(default_factory=dict)
    models: dict[str, str] = field(default_factory=dict)
    cache: str | None = None
    state: str | None = None
    keep_models: str | None = None
    shared_machine: bool = False
    torch_threads: int | None = None
    share_curves: bool = True
    share_images: bool = False
    limits: JobLimits = field(default_factory=JobLimits)
    proxy: str | None = None
    patient_privacy: PatientPrivacy = field(default_factory=PatientPrivacy)
    statistics: SharedStatistics = field(default_factory=SharedStatistics)
    studies: SharedStudies = field(default_factory=SharedStudies, metadata=LEFT_OUT_WHILE_UNSET)

    def __post_init__(self) -> None:
        """Refuse a number of threads that no process can have, and an address of no proxy."""
        if self.torch_threads is not None and self.torch_threads < 1:
            raise ConfigError(
                f"torch_threads is {self.torch_threads}; write 1 or more, or leave it out"
            )
        if self.proxy is not None:
            checked_proxy(self.proxy)


def read_site_config(local_folder: Path) -> SiteConfig:
    """Read ``fedi2i.yaml`` from a workspace's ``local`` folder.

    Raises:
        ConfigError: the file is missing, has unknown keys, or a limit that cannot be.
    """
    path = local_folder / FILE_NAME
    if not path.is_file():
        raise ConfigError(
            f"{path}: missing; it maps data sets to this site's folders: write it, or prepare a "
            "simulator workspace with 'fedi2i jobs workspace <folder>'"
        )
    config = record_from(SiteConfig, read_yaml(path), str(path))
    check_values(config, str(path))
    return config


def data_folder(config: SiteConfig, dataset: str, site: str) -> Path:
    """Return this site's folder of a data set.

    Raises:
        ConfigError: the data set is not mapped at this site.
    """
    if not config.datasets:
        raise ConfigError(
            f"site '{site}' maps no data set: write '{dataset}: <folder with its manifest.json>' "
            f"below 'datasets' in its local/{FILE_NAME}"
        )
    if dataset not in config.datasets:
        raise ConfigError(
            f"site '{site}' has no data set '{dataset}' in its {FILE_NAME}; "
            f"{nearest(dataset, config.datasets)}"
        )
    return path_for_site(config.datasets[dataset], site)


def state_folder(config: SiteConfig, site: str, workspace: Path) -> Path:
    """Return the folder for what must survive a crash; each participant has its own in it."""
    return path_for_site(config.state, site) if config.state else workspace / "state"


def checked_run_name(name: str) -> str:
    """Return the name of a run if it can be a folder's name and is no path: it comes with the job.

    A run is one job with its settings and sites; its files in the state folder carry its name.

    Raises:
        ConfigError: it is not.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise ConfigError(f"run_name '{name}': use letters, digits, '_', '-' and '.'")
    return name


def path_for_site(path: str, site: str) -> Path:
    """Replace ``{site}`` in a path by the site's name."""
    return Path(path.replace("{site}", site)).expanduser()

"""Kits that the tests of provisioning share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from omegaconf import OmegaConf
from provisioned_project import Provisioned

from provision.provisioning import PROJECT_FILE, provision


@pytest.fixture(scope="session")
def provisioned(tmp_path_factory: pytest.TempPathFactory) -> Provisioned:
    """The project's own kits, but for a server on this machine and GPUs at east. Do not edit."""
    folder = tmp_path_factory.mktemp("provisioned")
    project = OmegaConf.load(PROJECT_FILE)
    for participant in project.participants:
        if participant.name == "east":
            participant.capacity = {"num_of_gpus": 2, "mem_per_gpu_in_GiB": 24}
        if participant.name == "server":
            participant.update(default_host="localhost", storage=str(folder / "storage"))
    OmegaConf.save(project, folder / "project.yml")
    kits = provision(folder / "project.yml", folder / "kits")
    return Provisioned(folder / "project.yml", folder / "kits", kits)


@pytest.fixture
def copied_kit(provisioned: Provisioned, tmp_path: Path) -> Path:
    """A copy of north's kit that a test may change."""
    return Path(shutil.copytree(provisioned.kits / "north", tmp_path / "north"))

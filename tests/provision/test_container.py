from __future__ import annotations

import re
import tomllib
from pathlib import Path

from omegaconf import OmegaConf

REPOSITORY = Path(__file__).resolve().parents[2]
CONTAINER = REPOSITORY / "provision" / "container"


def copied() -> list[str]:
    """What the Dockerfile copies from the repository."""
    text = (CONTAINER / "Dockerfile").read_text()
    lines = re.findall(r"^COPY (.+) \S+$", text, re.MULTILINE)
    return [name for line in lines for name in line.split()]


def test_the_image_holds_every_package_and_nothing_that_is_not_there() -> None:
    assert all((REPOSITORY / name).exists() for name in copied())
    settings = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
    packages = settings["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {name.rstrip("*") for name in packages} <= set(copied())
    assert not {"kits", "data", "tests", "."} & set(copied())


def test_the_container_is_not_root_and_starts_the_mounted_kit() -> None:
    text = (CONTAINER / "Dockerfile").read_text()
    assert re.search(r"^USER (?!0\b|root\b)\d+$", text, re.MULTILINE)
    assert '"/kit/startup/sub_start.sh", "--once"' in text


def test_compose_mounts_the_data_for_reading_only_and_opens_no_port_at_a_site() -> None:
    compose = OmegaConf.to_container(OmegaConf.load(CONTAINER / "compose.yaml"), resolve=False)
    assert isinstance(compose, dict)
    site = compose["services"]["participant"]
    assert [mount for mount in site["volumes"] if mount.endswith(":/data:ro")]
    assert "ports" not in site and site["cap_drop"] == ["ALL"]
    assert (CONTAINER / site["build"]["context"]).resolve() == REPOSITORY
    assert (REPOSITORY / site["build"]["dockerfile"]).is_file()

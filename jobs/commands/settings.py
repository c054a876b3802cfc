"""Options that several commands share: the experiment and its settings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from fedi2i.errors import ConfigError
from fedi2i.typed_config import check_values, record_from
from jobs.running.launching.cluster import LAUNCHERS
from jobs.running.launching.resources import Resources
from jobs.writing.federation import DEFAULT_FILE


def add_experiment_options(parser: argparse.ArgumentParser) -> None:
    """Add ``--experiment`` and ``--set``."""
    parser.add_argument(
        "--experiment", type=Path, default=DEFAULT_FILE, help="YAML file; by default demo.yaml"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="a setting of the experiment, e.g. training.batch_size=4; may be repeated",
    )


def read_settings(texts: Sequence[str]) -> dict[str, Any]:
    """What ``--set`` says, as nested values.

    Args:
        texts: ``key=value``, keys with dots.

    Raises:
        ConfigError: a text without key or value, a value that is no YAML, or a key that the
            command sets itself.
    """
    for text in texts:
        key, _, value = text.partition("=")
        if not value:
            raise ConfigError(f"--set {text}: write key=value, e.g. training.rounds=4")
        if key in ("strategy", "strategy.name"):
            raise ConfigError(f"--set {text}: the command names the strategy; leave this out")
    return _nested(texts, f"--set {' '.join(texts)}")


def add_launcher_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--launcher``."""
    parser.add_argument(
        "--launcher",
        default="",
        choices=LAUNCHERS,
        help="run the arms as jobs: 'local' on this machine, 'slurm' on a cluster",
    )


def read_resources(texts: Sequence[str], launcher: str) -> Resources:
    """What ``--resource`` says of one job.

    Args:
        texts: ``key=value``.
        launcher: that the jobs are handed to, or "".

    Raises:
        ConfigError: no launcher to ask them of, an unknown key, or a value that cannot be.
    """
    where = f"--resource {' '.join(texts)}"
    if texts and not launcher:
        raise ConfigError(f"{where}: nothing asks for it without --launcher; name one")
    for text in texts:
        if not text.partition("=")[2]:
            raise ConfigError(f"--resource {text}: write key=value, e.g. cores=8")
    resources = record_from(Resources, _nested(texts, where), where)
    check_values(resources, where)
    resources.check_names(where)
    return resources


def seeds_from(text: str) -> list[int]:
    """The seeds of an option.

    Raises:
        ConfigError: one is no whole number.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--seeds {text}: write whole numbers, e.g. 101,102") from error


def _nested(texts: Sequence[str], where: str) -> dict[str, Any]:
    """What texts like ``training.rounds=4`` say, as nested values."""
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist(list(texts)), resolve=True)
    except Exception as error:  # YAML parsers raise many unrelated types
        raise ConfigError(f"{where}: a value cannot be read as YAML") from error
    return cast(dict[str, Any], values)

"""Options that several commands share: the experiment and its settings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import OmegaConf

from fedi2i.errors import ConfigError
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
    try:
        values = OmegaConf.to_container(OmegaConf.from_dotlist(list(texts)), resolve=True)
    except Exception as error:  # YAML parsers raise many unrelated types
        raise ConfigError(f"--set {' '.join(texts)}: a value cannot be read as YAML") from error
    return cast(dict[str, Any], values)


def seeds_from(text: str) -> list[int]:
    """The seeds of an option.

    Raises:
        ConfigError: one is no whole number.
    """
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(f"--seeds {text}: write whole numbers, e.g. 101,102") from error

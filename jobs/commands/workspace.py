"""``workspace``: prepare a workspace of NVFlare's simulator."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from fedi2i.commands import Commands, name_and_path
from jobs.writing.workspace import DEFAULT_NAME, RELAXED_LIMITS, prepare_workspace


class WorkspaceOptions(Protocol):
    """What ``workspace`` is told."""

    folder: Path
    dataset: list[str] | None
    model: list[str]
    torch_threads: int | None
    no_images: bool


def add_workspace(commands: Commands) -> None:
    """Add ``workspace``."""
    parser = commands.add_parser("workspace", help="prepare a simulator workspace")
    parser.add_argument(
        "folder",
        type=Path,
        nargs="?",
        default=Path(DEFAULT_NAME),
        help=f"by default {DEFAULT_NAME}",
    )
    parser.add_argument(
        "--dataset",
        action="append",
        metavar="NAME=FOLDER",
        help="a data set and the folder of all its sites; by default demo=data/demo",
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a model that jobs may start from",
    )
    parser.add_argument("--torch-threads", type=int, help="threads per site process")
    parser.add_argument("--no-images", action="store_true", help="send no picture panels")
    parser.set_defaults(run=workspace)


def workspace(options: WorkspaceOptions) -> None:
    """Prepare a simulator workspace."""
    datasets = dict(
        name_and_path(text, "--dataset", "name=folder, e.g. demo=data/demo")
        for text in options.dataset or ["demo=data/demo"]
    )
    models = dict(name_and_path(text, "--model", "name=file") for text in options.model)
    prepare_workspace(
        options.folder, datasets, options.torch_threads, not options.no_images, models
    )
    print(RELAXED_LIMITS)
    job = "jobs/fedavg" if "demo" in datasets else "<job for your data set>"
    print(f"prepared {options.folder}: run 'nvflare simulator {job} -w {options.folder}'")

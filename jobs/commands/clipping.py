"""``clipping``: how long updates are, and the clipping norms to choose by them."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from fedi2i.commands import Commands
from jobs.commands.settings import add_experiment_options, read_settings
from jobs.writing.federation import read_federated_experiment


class ClippingOptions(Protocol):
    """What ``clipping`` is told."""

    experiment: Path
    settings: list[str]
    data: Path
    rounds: int
    public: bool


def add_clipping(commands: Commands) -> None:
    """Add ``clipping``."""
    parser = commands.add_parser(
        "clipping", help="measure updates on computed data and choose clipping norms by them"
    )
    add_experiment_options(parser)
    parser.add_argument("--data", type=Path, default=Path("data/demo"), help="by default data/demo")
    parser.add_argument("--rounds", type=int, default=3, help="of FedAvg; by default 3")
    parser.add_argument(
        "--public", action="store_true", help="the scans are known to everybody already"
    )
    parser.set_defaults(run=clipping)


def clipping(options: ClippingOptions) -> None:
    """Print the lengths of all updates, and the lines for the experiment file."""
    # Imported here, as a mistake in the command line should not wait seconds for torch.
    from jobs.running.update_norms import clipping_norms, update_norms

    changes = {"experiment": read_settings(options.settings)}
    job = read_federated_experiment(options.experiment, changes)
    norms = update_norms(job, options.data, options.rounds, options.public)
    for one in norms:
        print(f"round {one.round_number}, {one.site}, {one.network}: {one.norm:.3g}")
    print("the median of each role, without the first round:")
    print("privacy:")
    for role, bound in clipping_norms(norms).items():
        print(f"  clipping_{role}: {bound:g}")

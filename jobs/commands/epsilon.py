"""``epsilon``: what the trainings of a study spend, each and together."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from fedi2i.commands import Commands


class EpsilonOptions(Protocol):
    """What ``epsilon`` is told."""

    runs: list[Path]
    delta: float | None


def add_epsilon(commands: Commands) -> None:
    """Add ``epsilon``."""
    parser = commands.add_parser(
        "epsilon", help="state the epsilon of a study: of each run, and of all together"
    )
    parser.add_argument(
        "runs", type=Path, nargs="+", help="folders of comparisons, studies and tunings"
    )
    parser.add_argument(
        "--delta", type=float, help="for all together; by default the smallest of the runs'"
    )
    parser.set_defaults(run=study_epsilon)


def study_epsilon(options: EpsilonOptions) -> None:
    """Print a sentence for every training, and what they spend together."""
    # Imported here, as a mistake in the command line should not wait seconds for torch.
    from jobs.running.spent_epsilon import read_trainings, study_sentences

    folders = {folder.resolve(): folder for folder in options.runs}
    trainings = [training for folder in folders.values() for training in read_trainings(folder)]
    for sentence in study_sentences(trainings, options.delta):
        print(sentence)

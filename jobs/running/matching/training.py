"""Train the models of a matching study apart, each once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from torch import Tensor

from fedi2i import __version__
from fedi2i.digest import digest
from fedi2i.errors import DataError
from jobs.running.matching.kept import keep_model, kept_model
from jobs.running.matching.plan import INDEPENDENT, Cell, MatchingStudy
from lightning_modules.configuration import ExperimentConfig, experiment_values
from lightning_modules.data.slices import TrainingSlices
from lightning_modules.networks.building import build_networks
from lightning_modules.seeding import derive_seed
from lightning_modules.training.hardware import Hardware
from lightning_modules.training.learner import Learner
from lightning_modules.training.local_state import LocalStateStore
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site

ONE_THREAD = Hardware("cpu", "32-true", 1)
"""Processes work side by side, and sums over threads round."""
State = Mapping[str, Tensor]


@dataclass(frozen=True)
class Data:
    """The prepared data of a study, as a process of its own can open it.

    Attributes:
        folder: holds one folder per site.
        manifests: site and the hash of its data, all sites.
    """

    folder: Path
    manifests: tuple[tuple[str, str], ...]

    def site(self, name: str, experiment: ExperimentConfig) -> PreparedSite:
        """Open one site."""
        root = self.folder / name
        preparation = experiment.data.preparation
        return prepare_site(read_manifest(root), preparation, root / "prepared", progress=False)

    def hashes(self, sites: Sequence[str]) -> list[tuple[str, str]]:
        """What changes with these sites' data."""
        return [pair for pair in self.manifests if pair[0] in sites]


@dataclass(frozen=True)
class Training:
    """One model to be trained.

    Attributes:
        name: its file below the study's folder, without the ending.
        experiment: with seed and width.
        first: seeds the first weights, unless the model goes on from another.
        arm: seeds the order of slices.
        sites: whose slices.
        steps: how many.
        after: the model that it goes on from.
    """

    name: str
    experiment: ExperimentConfig
    first: int
    arm: str
    sites: tuple[str, ...]
    steps: int
    after: Training | None = None

    def path(self, out: Path) -> Path:
        """Its file."""
        return out / "models" / f"{self.name}.safetensors"

    def key(self, data: Data) -> str:
        """Changes with everything that the model depends on."""
        return digest(
            {
                "release": __version__,
                "experiment": experiment_values(self.experiment),
                "first": self.first,
                "arm": self.arm,
                "steps": self.steps,
                "data": data.hashes(self.sites),
                "after": self.after.key(data) if self.after else None,
            }
        )

    def kept(self, data: Data, out: Path) -> dict[str, Tensor] | None:
        """The trained model; None where it is not there."""
        return kept_model(self.path(out), self.key(data))

    def trained(self, data: Data, out: Path) -> dict[str, Tensor]:
        """The trained model.

        Raises:
            DataError: it is not there.
        """
        found = self.kept(data, out)
        if found is None:
            raise DataError(f"{self.path(out)}: cannot be read back; run the same command again")
        return found


def trainings_of(study: MatchingStudy, cell: Cell) -> dict[str, Training]:
    """The models of a cell by the name of the member that each belongs to."""
    common = cell.start.common_steps(study.config.steps)
    after = _common(study, cell, common) if common else None
    experiment = study.experiment(cell.seed, cell.width)
    folder = f"seed-{cell.seed}/x{cell.width:g}/{cell.start.name}"
    return {
        member: Training(
            name=f"{folder}/{member.replace(' ', '-')}",
            experiment=experiment,
            first=_first_weights(cell, member),
            arm=member,
            sites=(site,),
            steps=study.config.steps - common,
            after=after,
        )
        for member, site in study.members(cell.models)
    }


def _common(study: MatchingStudy, cell: Cell, steps: int) -> Training:
    """The steps that all members of a cell have in common."""
    sites = study.job.federation.sites
    return Training(
        name=f"seed-{cell.seed}/x{cell.width:g}/{cell.start.name}/common-steps",
        experiment=study.experiment(cell.seed, cell.width),
        first=_first_weights(cell, ""),
        arm="common steps",
        sites=sites[:1] if cell.start.at_one_site else sites,
        steps=steps,
    )


def _first_weights(cell: Cell, member: str) -> int:
    """The seed of a model's first weights: its own where starts are independent."""
    own = f"of {member}" if cell.start.name == INDEPENDENT else "of all"
    return derive_seed(cell.seed, "matching study, first weights", own)


def train(training: Training, data: Data, out: Path) -> None:
    """Train one model and keep it.

    Raises:
        DataError: the model that it goes on from is missing, or there is no room.
    """
    if training.after:
        state: State = training.after.trained(data, out)
    else:
        networks = build_networks(training.experiment.model, training.first)
        state = {key: value.clone() for key, value in networks.state_dict().items()}
    prepared = [data.site(name, training.experiment) for name in training.sites]
    trained = steps_from(
        state, training.experiment, training.arm, prepared, training.steps, round_number=0
    )
    keep_model(training.path(out), training.key(data), trained)


def steps_from(
    state: State,
    experiment: ExperimentConfig,
    arm: str,
    sites: Sequence[PreparedSite],
    steps: int,
    round_number: int,
) -> dict[str, Tensor]:
    """A model after some more steps, all of its networks.

    Args:
        state: state_dict of all networks.
        experiment: its sharing names all networks.
        arm: seeds the order of slices.
        sites: whose training slices.
        steps: optimizer steps of each network, with fresh moments.
        round_number: which stretch of the order of slices, counted from 0.
    """
    slices = TrainingSlices([site.split("train") for site in sites])
    with TemporaryDirectory(prefix="fedi2i-matching-") as folder:
        store = LocalStateStore(Path(folder))
        learner = Learner(experiment, arm, slices, ONE_THREAD, store, steps=steps)
        return dict(learner.train(state, round_number).state)

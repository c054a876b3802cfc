"""What a model says of itself: what it translates, which code builds it, how it was trained."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from fedi2i import __version__
from fedi2i.epsilon import EPSILON_TOTAL
from fedi2i.errors import ConfigError
from fedi2i.metric_files import SAMPLES, MetricRow
from fedi2i.site_names import ALL_SITES
from fedi2i.typed_config import LEFT_OUT_WHILE_UNSET, check_values, nearest, number
from lightning_modules.configuration import ExperimentConfig, experiment_values
from lightning_modules.data.source_view import MOST_NEIGHBOURS, SourceView, check_patch
from lightning_modules.networks import generators
from lightning_modules.networks.configuration import GeneratorConfig, check_levels
from lightning_modules.networks.generators.catalogue import GENERATORS
from partitions.own_code import check_allowed, package_digest
from partitions.preparation.configuration import MOST_CONTRASTS, PreparationConfig

FORMAT = 1
"""Raise it when a card changes meaning; older programs then refuse the file by name."""
NOTICE = "The images that this model writes are synthetic: for research, not for diagnosis."
ALLOWED_NETWORKS = {f"{generators.__name__}.{kind}": kind for kind in GENERATORS}
"""What a model file may have this machine build, by dotted path: the installed generators. Classes
of a lab's own are held against this machine's list besides."""
BINS = 64
"""Of the histogram in a card, over [0, 1]."""
_LAYERS = "lightning_modules.networks.layers"


@dataclass(frozen=True)
class NetworkCode:
    """The network that translates: which code builds it, and with which settings.

    Attributes:
        path: dotted path of the generator's module, or of the class of a lab's own.
        digest: SHA-256 of that module and of the layers that generators are put together from, or
            of the package that holds the class.
        generator: the generator's settings.
        neighbours: slices of the source beside the translated one that it is shown, on either side.
        patch: slices, rows and columns of the blocks that a network of volumes translates.
        contrasts: of the source, as many as ``preparation`` names.
    """

    path: str = ""
    digest: str = ""
    generator: GeneratorConfig = field(default_factory=GeneratorConfig)
    neighbours: int = number(0, most=MOST_NEIGHBOURS, left_out=True)
    patch: tuple[int, ...] = field(default=(), metadata=LEFT_OUT_WHILE_UNSET)
    contrasts: int = number(1, low=1, most=MOST_CONTRASTS, left_out=True)

    @property
    def view(self) -> SourceView:
        """What the network is shown of the source."""
        return SourceView(self.neighbours, self.patch, self.contrasts)


@dataclass(frozen=True)
class TrainingRecord:
    """How a model came to be.

    Attributes:
        release: the release of FedI2I that trained it.
        run: the run's name.
        chosen: ``final``, ``best`` or, after training alone, the arm's name.
        rounds: rounds after which it was the model; None where nobody has noted them.
        experiment: all settings of the experiment.
        samples: training slices, by site.
        data: hash of the prepared data, by site. Of a federation a site knows its own alone.
        privacy: the privacy mechanism with what it promises, and the largest epsilon that a site
            has spent; empty without one.
        results: metrics on validation patients, averaged over the sites.
    """

    release: str = __version__
    run: str = ""
    chosen: str = "final"
    rounds: int | None = None
    experiment: dict[str, Any] = field(default_factory=dict)
    samples: dict[str, int] = field(default_factory=dict)
    data: dict[str, str] = field(default_factory=dict)
    privacy: dict[str, Any] = field(default_factory=dict)
    results: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceIntensities:
    """What the source scans of the training looked like after preparation.

    Attributes:
        shares: of the pixels inside the masks, how many lie in each of the equal bins of [0, 1];
            the mean over patients.
        spread: the largest distance of one training patient from ``shares``; the Wasserstein-1
            distance, in parts of the scale.
        by_sites: whether sites described their patients: ``shares`` is then the mean over these
            sites, and ``spread`` how far the average patient of the farthest site lies from it.
    """

    shares: tuple[float, ...] = ()
    spread: float = 0.0
    by_sites: bool = False


@dataclass(frozen=True)
class ModelCard:
    """Everything that is needed to run a model, and what a person should know of it.

    Attributes:
        preparation: how scans become slices; names the sequences it reads and writes.
        network: what builds the network.
        training: how it came to be.
        weights: SHA-256 of the weights.
        earlier: the rounds of the kept global models, the last one included; see ``--uncertainty``.
        intensities: of the training's source scans, where they are known to who wrote the file.
        slice_distances: smallest and largest distance in mm from slice to slice of the training's
            patients, where the network is shown several slices and who wrote the file knows them.
        notice: what the translations are not for.
        format: see ``FORMAT``.
    """

    preparation: PreparationConfig = field(default_factory=PreparationConfig)
    network: NetworkCode = field(default_factory=NetworkCode)
    training: TrainingRecord = field(default_factory=TrainingRecord)
    weights: str = ""
    earlier: tuple[int, ...] = ()
    intensities: SourceIntensities | None = None
    slice_distances: tuple[float, ...] = field(default=(), metadata=LEFT_OUT_WHILE_UNSET)
    notice: str = NOTICE
    format: int = FORMAT

    @property
    def task(self) -> str:
        """What is translated into what, in words."""
        return f"{self.source} to {self.preparation.target}"

    @property
    def source(self) -> str:
        """The sequence that it reads, or all of them: ``t1+flair``."""
        return "+".join(self.preparation.contrasts.values())

    @property
    def name(self) -> str:
        """A short name: the run, which of its models, and the beginning of the weights' digest.

        It is in plain characters, as it goes into DICOM headers and to terminals.
        """
        words = (self.training.run or self.training.chosen, self.training.chosen, self.weights[:12])
        return re.sub(r"[^A-Za-z0-9 _.:+-]", "_", " ".join(dict.fromkeys(words)))


def card_of(
    experiment: ExperimentConfig,
    training: TrainingRecord,
    intensities: SourceIntensities | None = None,
    slice_distances: tuple[float, ...] = (),
) -> ModelCard:
    """The card of a model of an experiment; ``write_model`` fills in what follows from weights."""
    model, generator = experiment.model, experiment.model.of_pair
    path = generator.kind if generator.is_own else f"{generators.__name__}.{generator.kind}"
    return ModelCard(
        preparation=experiment.data.preparation,
        network=NetworkCode(
            path,
            code_digest(path),
            generator,
            model.neighbours,
            model.patch,
            model.source_contrasts,
        ),
        training=training,
        intensities=intensities,
        slice_distances=slice_distances if model.view.spans_slices else (),
    )


def training_record(
    experiment: ExperimentConfig,
    run: str,
    rows: Iterable[MetricRow],
    chosen: str,
    rounds: int | None,
    privacy: Mapping[str, Any] | None = None,
) -> TrainingRecord:
    """What a run's metrics say of one of its models.

    Args:
        experiment: the run's.
        run: its name.
        rows: site, round, metric, value; of site ``all`` the mean.
        chosen: which of the run's models it is.
        rounds: after how many rounds.
        privacy: settings and promise of the mechanism, see ``TrainingRecord.privacy``.
    """
    found = list(rows)
    spent = [value for site, _, name, value in found if name == EPSILON_TOTAL and site == ALL_SITES]
    private = dict(privacy or {})
    if spent:
        private["epsilon_spent"] = max(spent)
    return TrainingRecord(
        run=run,
        chosen=chosen,
        rounds=rounds,
        experiment=experiment_values(experiment),
        samples={
            site: int(value)
            for site, _, name, value in found
            if name == SAMPLES and site != ALL_SITES
        },
        privacy=private,
        results={
            name: value
            for site, number, name, value in found
            if (site, number) == (ALL_SITES, rounds) and name.startswith("val/")
        },
    )


def check_card(card: ModelCard, where: str) -> None:
    """Refuse a card whose format or intensities cannot be used, and a foreign network.

    Raises:
        ConfigError: naming the file and what is wrong.
    """
    if card.format != FORMAT:
        raise ConfigError(
            f"{where}: a model file of format {card.format}, and this release reads {FORMAT}; "
            f"install FedI2I {card.training.release}"
        )
    _check_intensities(card.intensities, where)
    _check_distances(card.slice_distances, where)
    path, generator = card.network.path, card.network.generator
    check_values(card.network, where, "network.")
    view, size = card.network.view, card.preparation.size
    check_patch(view, size, where)
    if view.contrasts != len(card.preparation.contrasts):
        raise ConfigError(
            f"{where}: its network is shown {view.contrasts} contrast(s), and its preparation "
            f"names {card.source}; take another copy of the model"
        )
    if generator.is_own:
        _check_own(card, where)
        return
    if ALLOWED_NETWORKS.get(path) != generator.kind:
        raise ConfigError(
            f"{where}: its network '{path}' is not one that this machine builds; "
            f"{nearest(path, ALLOWED_NETWORKS)}"
        )
    check_levels(generator, where)
    try:
        GENERATORS[generator.kind].refuse(generator, view.sides(size))
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _check_own(card: ModelCard, where: str) -> None:
    """Hold a network of a lab's own against this machine's list; nothing of it is imported."""
    path, generator = card.network.path, card.network.generator
    check_levels(generator, where)
    if path != generator.kind:
        raise ConfigError(
            f"{where}: its network is '{path}' and '{generator.kind}' at the same time; take "
            "another copy of the model"
        )
    try:
        check_allowed(path)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _check_intensities(found: SourceIntensities | None, where: str) -> None:
    if found is None:
        return
    numbers = (*found.shares, found.spread)
    if len(found.shares) != BINS or not all(math.isfinite(one) and one >= 0 for one in numbers):
        raise ConfigError(
            f"{where}: its 'intensities' are not {BINS} shares and a spread, finite and not "
            "negative; take another copy of the model"
        )


def _check_distances(found: tuple[float, ...], where: str) -> None:
    known = len(found) == 2 and 0 < found[0] <= found[1] < math.inf
    if found and not known:
        raise ConfigError(
            f"{where}: its 'slice_distances' are not a smallest and a largest distance in mm; take "
            "another copy of the model"
        )


@cache
def code_digest(path: str) -> str:
    """SHA-256 of the code that builds a network, however a checkout ends its lines.

    Args:
        path: dotted path of the generator's module, one of ``ALLOWED_NETWORKS``; of a class of a
            lab's own the whole package counts.
    """
    if path not in ALLOWED_NETWORKS:
        return package_digest(path.partition(".")[0])
    content = hashlib.sha256()
    for module in (path, _LAYERS):
        source = Path(import_module(module).__file__ or "").read_bytes()
        content.update(module.encode() + b"\0" + source.replace(b"\r\n", b"\n"))
    return content.hexdigest()

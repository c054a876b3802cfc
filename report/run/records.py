"""Frozen records of one run, as read from its folder."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from report.run.metrics import Metric

SOURCE = "source"
MAPPED_SOURCE = "mapped-source"
CONSTANT = "constant"
MEAN_TARGET = "mean-target"
UNTRAINED = (SOURCE, MAPPED_SOURCE, CONSTANT, MEAN_TARGET)
"""Arms that need no network."""
CENTRALISED = "centralised"
REGRESSION = "regression"
ENSEMBLE = "ensemble"
LOCAL_ONLY = "local-only"
OF_SITE = "@"

Slice = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Site:
    """One site of the run.

    Attributes:
        name: the site's name, as in every file of the run.
        unseen: True when no model was trained on its patients.
        train: number of training patients.
        val: number of validation patients.
        test: number of test patients the site holds.
        description: scanner and population, one line.
    """

    name: str
    unseen: bool
    train: int
    val: int
    test: int
    description: str


@dataclass(frozen=True)
class Privacy:
    """The privacy mechanism of a job, as the run says it.

    Attributes:
        mechanism: its name.
        label: as shown.
        promise: what it promises to whom, or that it promises nothing.
        guarantees: whether it promises anything.
        unit: whose data the promise is about; empty where there is none.
        relation: what the promise compares.
        delta: the probability with which it may fail, or None.
        epsilon: what all rounds of the job spend, or None.
        settings: the mechanism's settings.
    """

    mechanism: str
    label: str
    promise: str
    guarantees: bool
    unit: str
    relation: str
    delta: float | None
    epsilon: float | None
    settings: Mapping[str, Any] = field(hash=False)


@dataclass(frozen=True)
class SpentTogether:
    """What the trainings of the run spend together on the same patients, as the run says it.

    Attributes:
        sites: the sites that it holds at.
        unit: whose data it is about.
        relation: what it compares.
        trainings: how many trainings.
        delta: at which it is stated.
        epsilon: composed by the accountant.
        added_up: the trainings' epsilons, one added to the other.
    """

    sites: tuple[str, ...]
    unit: str
    relation: str
    trainings: int
    delta: float
    epsilon: float
    added_up: float


@dataclass(frozen=True)
class Paper:
    """Where a strategy comes from.

    Attributes:
        text: authors, venue and year.
        link: ``arXiv:...`` or ``doi:...``.
        equation: what of the paper is built, in plain letters.
    """

    text: str
    link: str
    equation: str


@dataclass(frozen=True)
class Arm:
    """One model, or one way of producing predictions.

    Attributes:
        name: ``source``, ``mapped-source``, ``constant``, ``mean-target``, ``local-<site>``,
            ``centralised``, ``regression``, ``ensemble``, a federated strategy, or
            ``<strategy>@<site>`` for a site's own model of a strategy.
        label: the name of this one model, as shown to readers.
        seconds: wall-clock training time, or None; of the whole family where it has one.
        rounds: communication rounds, or None.
        steps: optimiser steps, or None.
        bytes_sent: bytes over the network, or None.
        note: one line said in the provenance table.
        site: the site this model belongs to, or None.
        family: name of the models that belong together, one per site; None without a site.
        family_label: as shown; empty without a site.
        does: what the strategy does, a few words; None where the run does not say.
        acts: whether a ratio or a moved fraction of the strategy is expected to differ from 0; None
            where the run does not say.
        reference: whether the other federated arms are to be compared with this one.
        privacy: the privacy mechanism of its job, or None.
        paper: where its strategy comes from; None where the run does not say.
    """

    name: str
    label: str
    seconds: float | None
    rounds: int | None
    steps: int | None
    bytes_sent: int | None
    note: str
    site: str | None = None
    family: str | None = None
    family_label: str = ""
    does: str | None = None
    acts: bool | None = None
    reference: bool = False
    privacy: Privacy | None = None
    paper: Paper | None = None

    @property
    def kind(self) -> str:
        """The name of a baseline, ``local``, ``federated`` (one global model) or ``personal``.

        ``personal`` is a site's own model after federated training.
        """
        if self.site is not None:
            return "local" if self.family == LOCAL_ONLY else "personal"
        baselines = (*UNTRAINED, CENTRALISED, REGRESSION, ENSEMBLE)
        return self.name if self.name in baselines else "federated"

    @property
    def job(self) -> str:
        """The name under which ``curves.csv`` records the training that made this model."""
        return self.name.rpartition(OF_SITE)[0] if self.kind == "personal" else self.name


@dataclass(frozen=True)
class PrimaryOutcome:
    """The outcome that the run was made for; every other one is secondary.

    Attributes:
        metric: its name.
        unseen: whether the patients are those of the unseen sites, not of the federated ones.
    """

    metric: str = "psnr"
    unseen: bool = False


@dataclass(frozen=True)
class ShownWindow:
    """What grey values of pictures mean.

    Attributes:
        low: value of black.
        high: value of white.
        unit: of both, or "".
    """

    low: float = 0.0
    high: float = 1.0
    unit: str = ""

    @property
    def text(self) -> str:
        """``-1000 to 1000 HU``."""
        return f"{self.low:g} to {self.high:g} {self.unit}".rstrip()

    def error(self, part: float) -> float:
        """A part of the distance from black to white as a difference of values."""
        return part * (self.high - self.low)


@dataclass(frozen=True)
class RunDescription:
    """The content of ``run.json``: what was run, on whose data, with which settings.

    Attributes:
        shown: the window of pictures, from ``preset``; 0 to 1 where it says nothing of it.
        participation: the plan by which sites missed rounds or parts of them; empty without one.
        hostile: by site, what it sent by plan in place of its model; empty where all were honest.
    """

    title: str
    created: str
    seed: int
    computed: bool
    data_note: str
    preset: Mapping[str, Any]
    experiment: Mapping[str, Any]
    versions: Mapping[str, str]
    machine: Mapping[str, Any]
    manifests: Mapping[str, str]
    metrics: tuple[Metric, ...]
    sites: tuple[Site, ...]
    arms: tuple[Arm, ...]
    primary: PrimaryOutcome = PrimaryOutcome()
    shown: ShownWindow = ShownWindow()
    spent_together: tuple[SpentTogether, ...] = ()
    design: str = ""
    participation: Mapping[str, Any] = field(default_factory=dict)
    hostile: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def federated_sites(self) -> tuple[Site, ...]:
        """The sites that took part in training."""
        return tuple(site for site in self.sites if not site.unseen)

    @property
    def unseen_sites(self) -> tuple[Site, ...]:
        """The sites that took part in no training."""
        return tuple(site for site in self.sites if site.unseen)


@dataclass(frozen=True)
class SetDistances:
    """The rows of the test split in ``distributions.csv``.

    Attributes:
        rows: arm, site (or ``all``), measure, value, standard_error, patients, slices; value and
            error are NaN where a model diverged.
        extractor: names the weights that the kernel distances were made with.
    """

    rows: pd.DataFrame
    extractor: str


@dataclass(frozen=True)
class Run:
    """One run folder, read and checked.

    Attributes:
        folder: where it was read from.
        about: the content of ``run.json``.
        results: rows arm, site, split, subject, metric, value; every split. A value is NaN where a
            diverged model gave no number.
        curves: rows arm, site, round, metric, value, or None when the run has none; NaN as above.
        slices: (site, subject, what) to a 2D array in [0, 1], row 0 anterior; empty when none.
        undefined: by metric, the number of test patients for whom it is not defined, whatever the
            prediction; they have no rows.
        distributions: how far each arm's slices, as a set, are from the real ones; None where that
            was not measured.
    """

    folder: Path
    about: RunDescription
    results: pd.DataFrame
    curves: pd.DataFrame | None
    slices: Mapping[tuple[str, str, str], Slice]
    undefined: Mapping[str, int] = field(default_factory=dict)
    distributions: SetDistances | None = None

    @cached_property
    def test_rows(self) -> pd.DataFrame:
        """The rows of the test split, the only ones tables are made from."""
        return self.results[self.results["split"] == "test"]

    @cached_property
    def diverged(self) -> frozenset[str]:
        """Names of the arms with a NaN among their test values."""
        test = self.test_rows
        return frozenset(test[test["value"].isna()]["arm"])

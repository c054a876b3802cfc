"""Picture panels: which pictures belong to a patient, and the shared window of the error maps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from report.highlights import PICTURES, Highlights
from report.methods import Method, pictured_arm
from report.patient_choice import ChosenPatient, chosen_patients
from report.pictures import absolute_error
from report.records import SOURCE, Arm, Run, Site, Slice

WINDOW_PERCENTILE = 99.5
WINDOW_STEP = 0.05


@dataclass(frozen=True)
class PanelColumn:
    """One predicted picture.

    Attributes:
        label: of its column; with the site whose model it is, where the method has one per site.
        arm: the model that made it.
    """

    label: str
    arm: Arm


@dataclass(frozen=True)
class PatientPanel:
    """The pictures of one patient.

    Attributes:
        chosen: who and why.
        source: input slice in [0, 1], row 0 anterior.
        target: acquired or computed target slice of the same grid.
        mask: where metrics look, or None.
        lesion: lesion region, or None.
        predictions: a slice per column; None where none is stored.
    """

    chosen: ChosenPatient
    source: Slice | None
    target: Slice
    mask: Slice | None
    lesion: Slice | None
    predictions: tuple[Slice | None, ...]

    def source_error(self) -> Slice | None:
        """|source - target|: the error before any translation."""
        return None if self.source is None else absolute_error(self.source, self.target, self.mask)

    def errors(self) -> tuple[Slice | None, ...]:
        """|prediction - target| per column."""
        return tuple(
            None if prediction is None else absolute_error(prediction, self.target, self.mask)
            for prediction in self.predictions
        )


@dataclass(frozen=True)
class SitePanel:
    """All pictures of one site."""

    site: Site
    columns: tuple[PanelColumn, ...]
    ranked_by: Method
    patients: tuple[PatientPanel, ...]


def site_panels(run: Run, shown: Highlights) -> tuple[SitePanel, ...]:
    """Choose and gather the pictures of every site; sites without stored slices are left out."""
    ranked_by = ranking_method(shown)
    panels = []
    for site in run.about.sites:
        columns = panel_columns(run, shown.chosen(PICTURES), site)
        patients = tuple(
            _patient_panel(run, site, chosen, columns)
            for chosen in chosen_patients(run, site, ranked_by)
        )
        if patients:
            panels.append(SitePanel(site, columns, ranked_by, patients))
    return tuple(panels)


def ranking_method(shown: Highlights) -> Method:
    """FedAvg or the first federated method; without one, the first trained method."""
    trained = [method for method in shown.methods if method.kind != SOURCE]
    return shown.reference or trained[0]


def panel_columns(run: Run, methods: Sequence[Method], site: Site) -> tuple[PanelColumn, ...]:
    """One column per trained method; of one model per site that of ``pictured_arm``."""
    columns = []
    for method in methods:
        arm = pictured_arm(run, method, site)
        if method.kind == SOURCE or arm is None:
            continue
        named = f" · {arm.site}" if arm.site is not None else ""
        columns.append(PanelColumn(f"{method.label}{named}", arm))
    return tuple(columns)


def error_window(panels: Iterable[SitePanel]) -> float:
    """Upper end of the one window used for every error map.

    The 99.5th percentile of all shown predictions' errors inside the masks, rounded up to the next
    0.05, so that a few pixels do not make every map dark.

    Returns:
        A number of (0, 1].
    """
    shown = [
        error[patient.mask > 0.5] if patient.mask is not None else error.ravel()
        for panel in panels
        for patient in panel.patients
        for error in patient.errors()
        if error is not None
    ]
    values = np.concatenate(shown) if shown else np.zeros(0, dtype=np.float32)
    if values.size == 0:
        return 1.0
    # one millionth less keeps a float32 value like 0.20000001 from becoming 0.25
    steps = math.ceil(float(np.percentile(values, WINDOW_PERCENTILE)) / WINDOW_STEP - 1e-6)
    return round(min(max(steps, 1) * WINDOW_STEP, 1.0), 2)


def _patient_panel(
    run: Run, site: Site, chosen: ChosenPatient, columns: Sequence[PanelColumn]
) -> PatientPanel:
    def stored(what: str) -> Slice | None:
        return run.slices.get((site.name, chosen.subject, what))

    return PatientPanel(
        chosen=chosen,
        source=stored("source"),
        target=run.slices[site.name, chosen.subject, "target"],
        mask=stored("mask"),
        lesion=stored("lesion"),
        predictions=tuple(stored(column.arm.name) for column in columns),
    )

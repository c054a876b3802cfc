"""Pictures: a grid per site, a block of lines per patient."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from report.figures.pictures import (
    Box,
    ChosenPatient,
    PatientPanel,
    SitePanel,
    colour_bar,
    content_box,
    error_colours,
    error_window,
    framed,
    grey,
    has_lesion,
    lesion_box,
    png_address,
    site_panels,
    zoomed_lesion,
)
from report.number_format import number
from report.numbers.featured import FeaturedRows
from report.numbers.results_table import DIVERGED
from report.run.records import SOURCE, Run, Site, Slice

NOT_STORED = "not stored"


@dataclass(frozen=True)
class PictureCell:
    """One picture of the grid.

    Attributes:
        source: ``data:`` address of the image, or None.
        alt: what it shows, for those who cannot see it; without an image, why there is none.
        below: what stands below it.
    """

    source: str | None
    alt: str
    below: str = ""


@dataclass(frozen=True)
class PatientBlock:
    """The lines of one patient.

    Attributes:
        chosen: which patient, and why.
        images: source, target, and every prediction.
        errors: of the source and of every prediction.
        lesions: enlarged lesions, as ``images``; empty where the slice meets none.
    """

    chosen: ChosenPatient
    images: tuple[PictureCell, ...]
    errors: tuple[PictureCell, ...]
    lesions: tuple[PictureCell, ...]


@dataclass(frozen=True)
class PictureGrid:
    """One figure.

    Attributes:
        site: whose patients.
        columns: labels of the predictions.
        patients: the blocks.
        stored: number of test patients of the site with a stored target.
    """

    site: Site
    columns: tuple[str, ...]
    patients: tuple[PatientBlock, ...]
    stored: int

    @property
    def evaluated(self) -> int:
        """Number of test patients of the site."""
        return self.patients[0].chosen.patients


@dataclass(frozen=True)
class PicturesSection:
    """All pictures.

    Attributes:
        grids: one per site.
        ranked_by: label of the row that orders the patients.
        window: upper end of every error map, as a part of the distance from black to white.
        window_text: the same with its unit.
        shown: the values of black and white.
        colour_bar: ``data:`` address of the colours of error maps.
        borrowed: labels of the columns of an unseen site that show the model of another site.
    """

    grids: tuple[PictureGrid, ...]
    ranked_by: str
    window: float
    window_text: str
    shown: str
    colour_bar: str
    borrowed: list[str]


def pictures_section(run: Run, featured: FeaturedRows) -> PicturesSection | None:
    """One grid per site; None where the run stored no pictures."""
    panels = site_panels(run, featured)
    if not panels:
        return None
    window = error_window(panels)
    return PicturesSection(
        grids=tuple(_grid(run, panel, window) for panel in panels),
        ranked_by=panels[0].ranked_by.label,
        window=window,
        window_text=f"{run.about.shown.error(window):g} {run.about.shown.unit}".rstrip(),
        shown=run.about.shown.text,
        colour_bar=colour_bar(),
        borrowed=_borrowed(panels),
    )


def _borrowed(panels: Iterable[SitePanel]) -> list[str]:
    labels = (
        column.label
        for panel in panels
        if panel.site.unseen
        for column in panel.columns
        if column.arm.site is not None
    )
    return list(dict.fromkeys(labels))


def _grid(run: Run, panel: SitePanel, window: float) -> PictureGrid:
    test = run.test_rows
    subjects = test[test["site"] == panel.site.name]["subject"].unique()
    return PictureGrid(
        site=panel.site,
        columns=tuple(column.label for column in panel.columns),
        patients=tuple(_patient_block(run, panel, patient, window) for patient in panel.patients),
        stored=sum((panel.site.name, subject, "target") in run.slices for subject in subjects),
    )


def _patient_block(
    run: Run, panel: SitePanel, patient: PatientPanel, window: float
) -> PatientBlock:
    box = content_box(patient.mask, patient.target.shape)
    missing = [
        DIVERGED if column.arm.name in run.diverged else NOT_STORED for column in panel.columns
    ]
    errors = zip((patient.source_error(), *patient.errors()), (NOT_STORED, *missing), strict=True)
    return PatientBlock(
        chosen=patient.chosen,
        images=tuple(_images(run, panel, patient, box, missing)),
        errors=tuple(_error(error, box, window, why) for error, why in errors),
        lesions=tuple(_lesions(patient, missing)),
    )


def _images(
    run: Run, panel: SitePanel, patient: PatientPanel, box: Box, missing: Sequence[str]
) -> Iterable[PictureCell]:
    def image(picture: Slice | None, alt: str, arm: str, why_missing: str) -> PictureCell:
        if picture is None:
            return PictureCell(None, why_missing)
        scores = patient_scores(run, panel.site, patient.chosen.subject, arm)
        return PictureCell(png_address(grey(picture)[box]), alt, scores)

    yield image(patient.source, "source", SOURCE, NOT_STORED)
    target = grey(patient.target)
    if patient.lesion is not None and has_lesion(patient.lesion):
        target = framed(target, lesion_box(patient.lesion))
    yield PictureCell(png_address(target[box]), "target", "reference")
    for column, picture, why in zip(panel.columns, patient.predictions, missing, strict=True):
        yield image(picture, column.label, column.arm.name, why)


def _error(error: Slice | None, box: Box, window: float, why_missing: str) -> PictureCell:
    if error is None:
        return PictureCell(None, why_missing)
    return PictureCell(png_address(error_colours(error[box], window)), "absolute error")


def _lesions(patient: PatientPanel, missing: Sequence[str]) -> Iterable[PictureCell]:
    lesion = patient.lesion
    if lesion is None or not has_lesion(lesion):
        return
    box = lesion_box(lesion)
    pictures = (patient.source, patient.target, *patient.predictions)
    for picture, why in zip(pictures, (NOT_STORED, NOT_STORED, *missing), strict=True):
        if picture is None:
            yield PictureCell(None, why)
        else:
            enlarged = zoomed_lesion(picture, lesion, box)
            yield PictureCell(png_address(enlarged), "lesion, enlarged")


def patient_scores(run: Run, site: Site, subject: str, arm: str, named: bool = False) -> str:
    """``27.31 dB · 0.912`` of this patient, or nothing when the arm has no such values.

    With MS-SSIM and the error in HU where the preset has them.

    Args:
        run: the files read.
        site: of the patient.
        subject: the patient's identifier.
        arm: the model that made the picture.
        named: whether PSNR and SSIM are named, where no text around them does.
    """
    test = run.test_rows
    own = test[(test["arm"] == arm) & (test["site"] == site.name) & (test["subject"] == subject)]
    values = own.set_index("metric")["value"]
    parts = []
    if "psnr" in values.index:
        parts.append(f"{'PSNR ' * named}{number(float(values['psnr']), 2)} dB")
    if "ssim" in values.index:
        parts.append(f"{'SSIM ' * named}{number(float(values['ssim']), 3)}")
    if "ms_ssim" in values.index:
        parts.append(f"{'MS-SSIM ' * named}{number(float(values['ms_ssim']), 3)}")
    if "mae_hu" in values.index:
        parts.append(f"{'MAE ' * named}{number(float(values['mae_hu']), 1)} HU")
    return " · ".join(parts)

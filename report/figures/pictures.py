"""Pictures of patients: which are shown, the one window of their errors, and their pixels.

Patients are chosen by rule, never by eye.
"""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib import colormaps
from matplotlib.image import imsave
from scipy import ndimage

from report.numbers.featured import PICTURES, FeaturedRows
from report.numbers.rows import TableRow, converged_rows
from report.run.records import Arm, Run, Site, Slice

WINDOW_PERCENTILE = 99.5
WINDOW_STEP = 0.05
ERROR_COLOURS = "inferno"
OUTLINE_RGB = (0, 229, 255)
ZOOM_SIDE_PIXELS = 216
SMALLEST_CROP = 24
MARGIN = 4

Rgb = npt.NDArray[np.uint8]
Box = tuple[slice, slice]


@dataclass(frozen=True)
class ChosenPatient:
    """A patient shown.

    Attributes:
        subject: its identifier.
        role: ``worst``, ``median``, ``best`` or ``only``.
        rank: 1 for the lowest PSNR among all test patients of the site.
        patients: number of test patients of the site.
    """

    subject: str
    role: str
    rank: int
    patients: int


@dataclass(frozen=True)
class PanelColumn:
    """One predicted picture.

    Attributes:
        label: of its column; with the site whose model it is, where the row has one per site.
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
    ranked_by: TableRow
    patients: tuple[PatientPanel, ...]


def site_panels(run: Run, featured: FeaturedRows) -> tuple[SitePanel, ...]:
    """Choose and gather the pictures of every site; sites without stored slices are left out."""
    ranked_by = ranking_row(featured)
    panels = []
    for site in run.about.sites:
        columns = panel_columns(run, featured.shown_in_figures(PICTURES), site)
        patients = tuple(
            _patient_panel(run, site, chosen, columns)
            for chosen in chosen_patients(run, site, ranked_by)
        )
        if patients:
            panels.append(SitePanel(site, columns, ranked_by, patients))
    return tuple(panels)


def ranking_row(featured: FeaturedRows) -> TableRow:
    """The reference row; without one, the first trained row, if possible a converged one."""
    trained = [row for row in featured.rows if row.is_trained]
    return featured.reference or (*converged_rows(trained), *trained)[0]


def panel_columns(run: Run, rows: Sequence[TableRow], site: Site) -> tuple[PanelColumn, ...]:
    """One column per trained row; of one model per site that of ``pictured_arm``."""
    columns = []
    for row in rows:
        arm = pictured_arm(run, row, site)
        if not row.is_trained or arm is None:
            continue
        named = f" · {arm.site}" if arm.site is not None else ""
        columns.append(PanelColumn(f"{row.label}{named}", arm))
    return tuple(columns)


def pictured_arm(run: Run, row: TableRow, site: Site) -> Arm | None:
    """The one model whose pictures stand for a table row at a site.

    Of one model per site this is the site's own; at an unseen site that of the site with most
    training patients (the first one of a tie).
    """
    patients = {other.name: other.train for other in run.about.sites}
    return max(row.arms_at(site), key=lambda arm: patients.get(arm.site or "", 0), default=None)


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


def chosen_patients(run: Run, site: Site, ranked_by: TableRow) -> tuple[ChosenPatient, ...]:
    """The patients of a site to show.

    Patients are ordered by the PSNR of ``ranked_by``, equal values by identifier. The choice is
    among those with a stored target slice: the first is the worst, the last the best, number
    ``(m - 1) // 2`` counted from 0 the median (the lower of the two middle ones for an even m).
    """
    test = run.test_rows
    psnr = test[
        (test["metric"] == "psnr")
        & (test["site"] == site.name)
        & test["arm"].isin([arm.name for arm in ranked_by.arms_at(site)])
    ]
    # a NaN is the worst that can happen
    means = psnr.groupby("subject")["value"].mean(skipna=False).fillna(-np.inf)
    ordered = sorted(means.index, key=lambda subject: (means[subject], subject))
    stored = [s for s in ordered if (site.name, s, "target") in run.slices]
    return tuple(
        ChosenPatient(stored[index], role, ordered.index(stored[index]) + 1, len(ordered))
        for role, index in _roles(len(stored))
    )


def _roles(count: int) -> list[tuple[str, int]]:
    if count == 0:
        return []
    if count == 1:
        return [("only", 0)]
    middle = [("median", (count - 1) // 2)] if count > 2 else []
    return [("worst", 0), *middle, ("best", count - 1)]


def grey(picture: Slice) -> Rgb:
    """Intensities of [0, 1] as grey, shape (rows, columns, 3); the window is always [0, 1]."""
    levels = np.round(np.clip(picture, 0, 1) * 255).astype(np.uint8)
    return np.repeat(levels[:, :, np.newaxis], 3, axis=2)


def error_colours(error: Slice, largest: float) -> Rgb:
    """|error| in the window [0, ``largest``]; larger errors take the top colour."""
    scaled = np.clip(error / largest, 0, 1)
    return np.asarray(colormaps[ERROR_COLOURS](scaled, bytes=True)[:, :, :3])


def absolute_error(prediction: Slice, target: Slice, mask: Slice | None) -> Slice:
    """|prediction - target|, 0 outside the mask, where no metric looks."""
    error = np.abs(prediction - target)
    return error if mask is None else np.where(mask > 0.5, error, np.float32(0))


def content_box(mask: Slice | None, shape: tuple[int, ...]) -> Box:
    """The rectangle around the mask with a margin of 4 pixels, inside the picture."""
    if mask is None or not (mask > 0.5).any():
        return slice(0, shape[0]), slice(0, shape[1])
    rows, columns = ndimage.find_objects((mask > 0.5).astype(int))[0]
    return _widen(rows, MARGIN, shape[0]), _widen(columns, MARGIN, shape[1])


def lesion_box(lesion: Slice) -> Box:
    """A square around the lesion, half as large again, at least 24 pixels, inside the picture."""
    rows, columns = ndimage.find_objects((lesion > 0.5).astype(int))[0]
    extent = max(rows.stop - rows.start, columns.stop - columns.start)
    side = min(max(round(1.5 * extent) + 2 * MARGIN, SMALLEST_CROP), *lesion.shape)
    return _square(rows, side, lesion.shape[0]), _square(columns, side, lesion.shape[1])


def has_lesion(lesion: Slice | None) -> bool:
    """True when the slice meets the lesion."""
    return lesion is not None and bool((lesion > 0.5).any())


def zoomed_lesion(picture: Slice, lesion: Slice, box: Box) -> Rgb:
    """The crop, enlarged by linear interpolation, with the lesion's outline."""
    crop = picture[box]
    factor = ZOOM_SIDE_PIXELS / crop.shape[0]
    colours = grey(ndimage.zoom(crop, factor, order=1))
    inside = ndimage.zoom((lesion[box] > 0.5).astype(np.float32), factor, order=1) > 0.5
    outline = inside & ~ndimage.binary_erosion(inside, iterations=2, border_value=1)
    colours[outline] = OUTLINE_RGB
    return colours


def framed(colours: Rgb, box: Box) -> Rgb:
    """The picture with the one-pixel frame of the crop that is shown enlarged."""
    rows, columns = box
    marked = colours.copy()
    marked[[rows.start, rows.stop - 1], columns] = OUTLINE_RGB
    marked[rows, [columns.start, columns.stop - 1]] = OUTLINE_RGB
    return marked


def colour_bar() -> str:
    """A vertical strip of the error colours, largest error on top, as a ``data:`` address."""
    ramp = np.linspace(1, 0, 128, dtype=np.float32)[:, np.newaxis]
    return png_address(error_colours(np.repeat(ramp, 10, axis=1), 1.0))


def png_address(colours: Rgb) -> str:
    """A ``data:`` address of a PNG image."""
    stream = io.BytesIO()
    imsave(stream, np.ascontiguousarray(colours), format="png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode()


def _widen(side: slice, margin: int, size: int) -> slice:
    return slice(max(side.start - margin, 0), min(side.stop + margin, size))


def _square(side: slice, length: int, size: int) -> slice:
    start = (side.start + side.stop - length) // 2
    start = min(max(start, 0), size - length)
    return slice(start, start + length)

"""The picture panels as HTML: a grid per site, a block of rows per patient."""

from __future__ import annotations

from collections.abc import Sequence

from report.highlights import Highlights
from report.markup import Markup, joined, note, tag
from report.number_format import counted, listed, number
from report.panels import PatientPanel, SitePanel, error_window, site_panels
from report.pictures import (
    Box,
    Rgb,
    colour_bar,
    content_box,
    error_colours,
    framed,
    grey,
    has_lesion,
    lesion_box,
    png_address,
    zoomed_lesion,
)
from report.records import SOURCE, Run, Slice

NOT_STORED = Markup('<td class="none">not stored</td>')
FIRST_FIGURE = 6


def panels_section(run: Run, shown: Highlights) -> Markup:
    """The section with one figure per site, or the sentence that there are no pictures."""
    heading = tag("h2", "Pictures", id="pictures")
    panels = site_panels(run, shown)
    if not panels:
        return tag(
            "section",
            heading,
            note("This run folder has no slices.npz with target slices, so no pictures are shown."),
        )
    window = error_window(panels)
    figures = [
        _figure(run, panel, window, FIRST_FIGURE + index) for index, panel in enumerate(panels)
    ]
    rules = [_rule(panels, window)]
    if not shown.show_all:
        rules.append(tag("p", _columns_rule(shown)))
    return tag("section", heading, *rules, *figures)


def _rule(panels: Sequence[SitePanel], window: float) -> Markup:
    ranked_by = panels[0].ranked_by.label
    sentences = [
        f"Patients are chosen by rule: ordered by the PSNR of {ranked_by} (equal values by "
        "identifier), the first is the worst, the middle one the median (of an even number the "
        "lower of the two), the last the best. ",
        "Left is the patient's right; grey values 0 to 1 for every picture; "
        f"|error| is |picture \N{MINUS SIGN} target| inside the mask, window "
        f"0 to {window:g} for every map of this report (99.5th percentile "
        "of the errors shown, rounded up; larger errors take the "
        "top colour). PSNR and SSIM under a picture are those of the patient, as in Table 1, not "
        "of the slice.",
    ]
    borrowed = _borrowed(panels)
    if borrowed:
        sentences.append(
            " Of a method with one model per hospital, a federated hospital shows its own; the "
            "unseen hospital shows that of the hospital with most training patients: "
            f"{listed(borrowed)}."
        )
    return tag("p", *sentences)


def _borrowed(panels: Sequence[SitePanel]) -> list[str]:
    """Columns of an unseen site that show the model of another one."""
    return list(
        dict.fromkeys(
            column.label
            for panel in panels
            if panel.site.unseen
            for column in panel.columns
            if column.arm.site is not None
        )
    )


def _columns_rule(shown: Highlights) -> str:
    """Which of many federated methods have a column."""
    named = [shown.reference.label] if shown.reference else []
    if shown.best_global:
        named.append(f"the best of the other global strategies, {shown.best_global[0].label}")
    if shown.best_personal:
        named.append(f"the best of the personal ones, {shown.best_personal[0].label}")
    return (
        f"Of the federated methods the pictures show {listed(named)}; best by mean PSNR over "
        f"{shown.ranked_on.lower()} (Table 1a), the same methods for all hospitals."
    )


def _figure(run: Run, panel: SitePanel, window: float, figure: int) -> Markup:
    """One site: caption and grid."""
    site = panel.site
    header = ["", "Source", "Target", *(column.label for column in panel.columns)]
    groups = [_patient_rows(run, panel, patient, window) for patient in panel.patients]
    first = panel.patients[0].chosen
    stored = sum((site.name, s, "target") in run.slices for s in _subjects(run, panel))
    text = f"{site.name}{' (unseen hospital)' if site.unseen else ''}"
    shown = ", ".join(f"{p.chosen.role} {p.chosen.subject}" for p in panel.patients)
    caption = joined(
        [
            tag("b", f"Figure {figure}. {text}: "),
            "computed images, not acquired. " if run.about.computed else "",
            f"Shown: {shown}, of {counted(first.patients, 'test patient')}",
            f", {stored} with stored slices, chosen among these" if stored < first.patients else "",
            ".",
        ]
    )
    grid = tag(
        "table",
        tag("thead", tag("tr", *(tag("th", text, scope="col") for text in header))),
        *groups,
        class_="pictures",
    )
    return tag("figure", tag("figcaption", caption), tag("div", grid, class_="wide"))


def _subjects(run: Run, panel: SitePanel) -> list[str]:
    test = run.test_rows
    return list(test[test["site"] == panel.site.name]["subject"].unique())


def _patient_rows(run: Run, panel: SitePanel, patient: PatientPanel, window: float) -> Markup:
    chosen = patient.chosen
    box = content_box(patient.mask, patient.target.shape)
    lesion = patient.lesion if has_lesion(patient.lesion) else None
    label = [
        tag("b", chosen.role),
        tag("br"),
        chosen.subject,
        tag("br"),
        tag("small", f"rank {chosen.rank} of {chosen.patients}"),
    ]
    if run.about.computed:
        label += [tag("br"), tag("small", "computed")]
    rows = [_image_row(run, panel, patient, box, label), _error_row(patient, box, window)]
    if lesion is not None:
        rows.append(_lesion_row(patient, lesion))
    return tag("tbody", *rows)


def _image_row(
    run: Run, panel: SitePanel, patient: PatientPanel, box: Box, label: Sequence[str]
) -> Markup:
    subject = patient.chosen.subject
    target = grey(patient.target)
    if patient.lesion is not None and has_lesion(patient.lesion):
        target = framed(target, lesion_box(patient.lesion))
    cells = [
        NOT_STORED
        if patient.source is None
        else _cell(grey(patient.source)[box], "source", _scores(run, panel, subject, SOURCE)),
        _cell(target[box], "target", "reference"),
    ]
    for column, prediction in zip(panel.columns, patient.predictions, strict=True):
        scores = _scores(run, panel, subject, column.arm.name)
        cells.append(
            NOT_STORED if prediction is None else _cell(grey(prediction)[box], column.label, scores)
        )
    return tag("tr", tag("th", *label, scope="row"), *cells)


def _error_row(patient: PatientPanel, box: Box, window: float) -> Markup:
    def cell(error: Slice | None) -> Markup:
        if error is None:
            return NOT_STORED
        return _cell(error_colours(error[box], window), "absolute error")

    bar = tag(
        "div",
        tag("img", src=colour_bar(), alt=f"colour bar from 0 to {window:g}"),
        tag("span", tag("i", number(window, 2)), tag("i", "|error|"), tag("i", "0")),
        class_="bar",
    )
    cells = [cell(patient.source_error()), tag("td", bar), *map(cell, patient.errors())]
    return tag("tr", tag("th", "|error|", scope="row"), *cells)


def _lesion_row(patient: PatientPanel, lesion: Slice) -> Markup:
    box = lesion_box(lesion)

    def cell(picture: Slice | None) -> Markup:
        if picture is None:
            return NOT_STORED
        return _cell(zoomed_lesion(picture, lesion, box), "lesion, enlarged")

    pictures = (patient.source, patient.target, *patient.predictions)
    head = tag(
        "th", "lesion", tag("br"), tag("small", "frame in the target, enlarged"), scope="row"
    )
    return tag("tr", head, *map(cell, pictures))


def _cell(colours: Rgb, alt: str, under: str = "") -> Markup:
    parts = [tag("img", src=png_address(colours), alt=alt)]
    if under:
        parts.append(tag("span", under))
    return tag("td", *parts)


def _scores(run: Run, panel: SitePanel, subject: str, arm: str) -> str:
    """``27.3 dB · 0.912`` of this patient, or nothing when the arm has no such rows."""
    test = run.test_rows
    rows = test[
        (test["arm"] == arm) & (test["site"] == panel.site.name) & (test["subject"] == subject)
    ].set_index("metric")["value"]
    parts = []
    if "psnr" in rows.index:
        parts.append(f"{number(float(rows['psnr']), 2)} dB")
    if "ssim" in rows.index:
        parts.append(number(float(rows["ssim"]), 3))
    return " · ".join(parts)

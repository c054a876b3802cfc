"""The report on the console, as JSON and as a page."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

from fedi2i.html_pages import page_templates
from partitions.heterogeneity.comparison import Comparison, Distance
from partitions.heterogeneity.intensities import FEATURES
from partitions.heterogeneity.sites import SiteView, shown_categories
from partitions.manifest import SPLITS
from partitions.preparation.configuration import DOMAINS
from partitions.preparation.intensities import Scale

VERSION = 1
"""Format of the JSON file."""
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000")
"""Okabe and Ito's, told apart by the colour-blind; a second turn is dashed."""
WIDTH, HEIGHT = 560, 200
"""Of a plot, in units of its own; below it there are some for the axis."""
MOST_INTERVALS = 6
"""Between the numbers of an axis in HU or SUV."""
WELL_APART = 0.05
"""A distance that is shaded in full where none is larger, so that small ones stay pale."""


def console_text(comparison: Comparison) -> str:
    """One line per site, and the two sites that are furthest apart in each domain."""
    lines = [
        f"{view.site}: {view.patients} patients, age {_ages(view)}" for view in comparison.views
    ]
    for domain in DOMAINS:
        found = [one for one in comparison.distances if one.domain == domain]
        if found:
            most = max(found, key=lambda one: one.wasserstein)
            lines.append(
                f"{domain}: furthest apart are {most.one} and {most.other}, {most.wasserstein:.3f} "
                f"of the intensity range{_in_unit(most, ' ({})')}"
            )
    return "\n".join(lines)


def as_json(comparison: Comparison) -> str:
    """Everything as JSON; pictures and single patients' values are left out."""
    content = {
        "version": VERSION,
        "dataset": comparison.dataset,
        "seed": comparison.seed,
        "preparation": dict(comparison.settings),
        "sites": [_site(view) for view in comparison.views],
        "distances": [vars(distance) for distance in comparison.distances],
        "tests": {
            key: {"test": name, "statistic": statistic, "p": p}
            for key, (name, statistic, p) in comparison.tests.items()
        },
    }
    return json.dumps(content, indent=1) + "\n"


def as_page(comparison: Comparison) -> str:
    """A page in HTML that refers to no other file or address."""
    views = comparison.views
    return (
        page_templates("partitions.heterogeneity")
        .get_template("heterogeneity.html")
        .render(
            dataset=comparison.dataset,
            computed=any(view.computed for view in views),
            views=views,
            splits=SPLITS,
            has_splits=any(view.scans is not None for view in views),
            ages={view.site: _ages(view) for view in views},
            categories=shown_categories(views),
            tests=comparison.tests,
            plots={domain: _plot(views, domain) for domain in _domains(views)},
            ticks={domain: ticks_of(comparison.scales.get(domain)) for domain in DOMAINS},
            units={domain: scale.unit for domain, scale in comparison.scales.items()},
            tables={domain: _table(comparison, domain) for domain in _domains(views)},
            legend=_styles(views),
            settings=comparison.settings,
            features=FEATURES,
            width=WIDTH,
            height=HEIGHT,
        )
    )


def _site(view: SiteView) -> dict[str, Any]:
    return {
        "site": view.site,
        "patients": view.patients,
        "scans": view.scans,
        "splits": dict(view.splits),
        "computed": view.computed,
        "age": {
            "known": view.ages.known,
            "mean": view.ages.mean,
            "quartiles": view.ages.quartiles,
        },
        "metadata": {key: dict(counts) for key, counts in view.categories.items()},
        "images": {
            domain: {"patients": images.patients, "histogram": images.histogram.tolist()}
            for domain, images in view.images.items()
        },
    }


def _ages(view: SiteView) -> str:
    """Median and quartiles of the ages, or what there is."""
    ages = view.ages
    if ages.quartiles is not None:
        low, middle, high = ages.quartiles
        text = f"{middle:.3g} ({low:.3g} to {high:.3g})"
    elif ages.mean is not None:
        text = f"mean {ages.mean:.3g}"
    else:
        return "unknown"
    missing = view.patients - ages.known
    return f"{text}, {missing} unknown" if missing else text


def _domains(views: Sequence[SiteView]) -> list[str]:
    return [domain for domain in DOMAINS if any(domain in view.images for view in views)]


def _styles(views: Sequence[SiteView]) -> dict[str, tuple[str, str]]:
    """Colour and dashes of every site's line."""
    return {
        view.site: (COLOURS[n % len(COLOURS)], "6 4" if n // len(COLOURS) % 2 else "none")
        for n, view in enumerate(views)
    }


def _plot(views: Sequence[SiteView], domain: str) -> list[tuple[str, str, str, str]]:
    """Every site's histogram as a line: name, points, colour, dashes.

    Densities, so that histograms of other numbers of bins lie on one scale. What lies in the first
    and the last bin is clipped to them and may be much: the scale is that of the others.
    """
    styles = _styles(views)
    shown = {v.site: v.images[domain].histogram for v in views if domain in v.images}
    densities = {site: shares * len(shares) for site, shares in shown.items()}
    inner = [values[1:-1] if len(values) > 2 else values for values in densities.values()]
    top = max(float(values.max()) for values in inner) * 1.05 or 1.0
    lines = []
    for site, values in densities.items():
        points = " ".join(
            f"{WIDTH * (n + 0.5) / len(values):.1f},{HEIGHT * (1 - min(value / top, 1)):.1f}"
            for n, value in enumerate(values)
        )
        lines.append((site, points, *styles[site]))
    return lines


def ticks_of(scale: Scale | None) -> list[tuple[float, str]]:
    """Where an axis of intensities has numbers, from 0 to 1, and which.

    Args:
        scale: of all volumes of the domain; the numbers are then round ones of its unit.
    """
    if scale is None or not scale.unit:
        return [(place, f"{place:g}") for place in (0, 0.25, 0.5, 0.75, 1)]
    power = 10.0 ** math.floor(math.log10(scale.span / MOST_INTERVALS))
    step = next(n * power for n in (1, 2, 5, 10) if scale.span <= MOST_INTERVALS * n * power)
    multiples = range(math.ceil(scale.low / step), math.floor(scale.high / step) + 1)
    return [((n * step - scale.low) / scale.span, f"{n * step:g}") for n in multiples]


def _table(comparison: Comparison, domain: str) -> list[tuple[str, list[dict[str, Any]]]]:
    """Rows of the table of distances: the site, and a cell per other site with its shade."""
    found = {
        frozenset((one.one, one.other)): one for one in comparison.distances if one.domain == domain
    }
    most = max([WELL_APART, *(one.wasserstein for one in comparison.distances)])
    sites = [view.site for view in comparison.views]
    return [
        (row, [_cell(found.get(frozenset((row, column))), most) for column in sites])
        for row in sites
    ]


def _in_unit(distance: Distance, form: str = "{}") -> str:
    """The distance in the unit of the values, e.g. ``41.3 HU``; nothing where they have none."""
    if distance.in_unit is None:
        return ""
    return form.format(f"{distance.in_unit:.3g} {distance.unit}")


def _cell(distance: Distance | None, most: float) -> dict[str, Any]:
    if distance is None:
        return {"text": "", "unit": "", "more": "", "shade": 0.0}
    more = ""
    if distance.mmd is not None and distance.p is not None:
        more = f"{distance.mmd:.2f}, p {distance.p:.3f}"
    shade = 0.6 * distance.wasserstein / most
    return {
        "text": f"{distance.wasserstein:.3f}",
        "unit": _in_unit(distance),
        "more": more,
        "shade": round(shade, 3),
    }

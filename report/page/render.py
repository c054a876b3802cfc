"""Put the sections together into one self-contained HTML page."""

from __future__ import annotations

from jinja2 import Environment

from fedi2i.html_pages import page_templates
from report import number_format
from report.numbers.analysis import Analysis
from report.numbers.cross_site import cross_site_matrix
from report.numbers.rows import need_headings, row_groups
from report.numbers.set_distances import MEANING, distance_tables
from report.numbers.statistics import ALPHA, RESAMPLES
from report.numbers.strategy_effects import ROLES, SMALLEST_ACTION
from report.page.convergence import convergence_section
from report.page.pictures import pictures_section
from report.page.privacy import privacy_section
from report.page.provenance import provenance_section, setting_text
from report.page.strategies import WARNINGS, strategies_section
from report.page.summary import ONE_RUN, primary_sentence, summary
from report.page.tables import comparisons_section, length_class, results_section, shade_style

FORMATS = (
    "byte_size",
    "counted",
    "duration",
    "epsilon_text",
    "listed",
    "number",
    "p_value",
    "percent",
    "ratio",
    "thousands",
)
"""Functions of ``number_format`` that templates use as filters."""


def render_page(analysis: Analysis) -> str:
    """The whole page as text; it refers to no other file or address."""
    run, featured = analysis.run, analysis.featured
    return (
        environment()
        .get_template("page.html")
        .render(
            about=run.about,
            summary=summary(analysis),
            featured=featured,
            results=results_section(run, analysis.tables),
            distances=distance_tables([run], analysis.rows),
            over_runs=False,
            matrix=cross_site_matrix(run, analysis.rows),
            comparisons=comparisons_section(analysis),
            primary=primary_sentence(run),
            like=analysis.like,
            convergence=convergence_section(run, featured),
            strategies=strategies_section(run, analysis.effects),
            privacy=privacy_section(run),
            pictures=pictures_section(run, featured),
            provenance=provenance_section(run),
        )
    )


def environment() -> Environment:
    """The report's templates with their formats and constants."""
    environment = page_templates("report.page")
    environment.filters |= {name: getattr(number_format, name) for name in FORMATS}
    environment.filters |= {
        "length_class": length_class,
        "need_headings": need_headings,
        "row_groups": row_groups,
        "setting_text": setting_text,
    }
    environment.globals |= {
        "ALPHA": ALPHA,
        "DISTANCES": MEANING,
        "NONE": number_format.NONE,
        "ONE_RUN": ONE_RUN,
        "RESAMPLES": RESAMPLES,
        "ROLES": ROLES,
        "SMALLEST_ACTION": SMALLEST_ACTION,
        "WARNINGS": WARNINGS,
        "shade_style": shade_style,
    }
    return environment

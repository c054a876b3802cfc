"""The cross-site matrix as a heat table."""

from __future__ import annotations

from report.cross_site import CrossSiteMatrix
from report.grouped_rows import grouped_rows, table_class
from report.markup import Markup, joined, note, row, table, tag
from report.methods import Method, personal_methods
from report.number_format import counted, number

# ends of a one-hue ramp, light to dark: lightness alone carries the order
_LIGHT = (247, 251, 255)
_DARK = (8, 69, 128)
EQUAL_CONTRAST = 0.68


def cross_site_section(matrix: CrossSiteMatrix) -> Markup:
    """Table 2: mean PSNR of every trained model at every site."""
    caption = joined(
        [
            tag("b", "Table 2. Cross-site matrix"),
            " · mean PSNR (dB) over test patients · rows: trained on · columns: tested at",
        ]
    )
    header = [
        "",
        *(
            tag(
                "th",
                f"Unseen: {site.name}" if site.unseen else site.name,
                tag("small", f"n = {count}"),
                scope="col",
            )
            for site, count in zip(matrix.sites, matrix.counts, strict=True)
        ),
    ]
    places = {arm.name: index for index, arm in enumerate(matrix.arms)}

    def rows_of(method: Method) -> list[Markup]:
        columns = range(len(matrix.sites))
        return [
            row(arm.label, *(_cell(matrix, places[arm.name], column) for column in columns))
            for arm in method.arms
        ]

    body = grouped_rows(matrix.methods, len(header), rows_of)
    return tag(
        "section",
        tag("h2", "Every model at every hospital", id="cross-site"),
        table(caption, header, body, class_=table_class(body, "numbers", "heat")),
        note(_how_to_read(matrix)),
    )


def _how_to_read(matrix: CrossSiteMatrix) -> str:
    models = "a local or personal model" if personal_methods(matrix.methods) else "a local model"
    text = (
        f"Darker is higher; one scale for the whole table. Outlined: {models} on patients of its "
        "own hospital. Rows of one column compare on the same patients; columns differ in "
        "patients, so a column as a whole may be easier or harder."
    )
    if matrix.off_scale:
        text += (
            f" Far below all others and outside the scale, in its lightest shade: "
            f"{counted(matrix.off_scale, 'cell')}."
        )
    return text


def _cell(matrix: CrossSiteMatrix, row_index: int, column: int) -> Markup:
    value = float(matrix.values[row_index, column])
    shade = matrix.shade(row_index, column)
    own = "own" if matrix.is_own(row_index, column) else ""
    if shade is None:
        return tag("td", number(value, 2), class_=own)
    colour = tuple(round(a + (b - a) * shade) for a, b in zip(_LIGHT, _DARK, strict=True))
    # black and white ink contrast equally (about 4.3 : 1) at this shade
    ink = "#ffffff" if shade > EQUAL_CONTRAST else "#111111"
    style = f"background:rgb{colour};color:{ink}".replace(" ", "")
    return tag("td", number(value, 2), class_=own, style=style)

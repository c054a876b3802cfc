"""The cross-site matrix as a heat table."""

from __future__ import annotations

from report.cross_site import CrossSiteMatrix
from report.markup import Markup, joined, note, row, table, tag
from report.number_format import number

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
    body = [
        row(arm.label, *(_cell(matrix, index, column) for column in range(len(matrix.sites))))
        for index, arm in enumerate(matrix.arms)
    ]
    return tag(
        "section",
        tag("h2", "Every model at every hospital", id="cross-site"),
        table(caption, header, body, class_="numbers heat"),
        note(
            "Darker is higher; one scale for the whole table. Outlined: a local model on patients "
            "of its own hospital. Rows of one column compare on the same patients; columns differ "
            "in patients, so a column as a whole may be easier or harder."
        ),
    )


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

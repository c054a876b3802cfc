"""What every page has in common: its head, its look, and that nothing in it is taken as HTML."""

from __future__ import annotations

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined


def page_templates(package: str) -> Environment:
    """Templates of a package, in which every text is escaped and every unknown name is an error.

    They extend ``document.html`` of this package (blocks ``title``, ``style`` and ``main``), so
    that a page refers to no other file or address.

    Args:
        package: the package whose folder ``templates`` holds them.
    """
    return Environment(
        loader=ChoiceLoader([PackageLoader(package), PackageLoader("fedi2i")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )

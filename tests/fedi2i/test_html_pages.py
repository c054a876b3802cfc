"""What every page has in common."""

from __future__ import annotations

import re

import pytest
from jinja2 import DictLoader, UndefinedError

from fedi2i.html_pages import page_templates

PAGE = '{% extends "document.html" %}{% block title %}{{ name }}{% endblock %}'


def _page(template: str, **values: str) -> str:
    templates = page_templates("fedi2i")
    assert templates.loader is not None
    overlay = DictLoader({"page": template})
    templates.loader.loaders.append(overlay)  # type: ignore[attr-defined]
    return templates.get_template("page").render(**values)


def test_a_name_in_a_page_is_text_and_never_html() -> None:
    page = _page(PAGE, name="<script>alert(1)</script> & co")
    assert "<title>&lt;script&gt;alert(1)&lt;/script&gt; &amp; co</title>" in page
    assert "<script" not in page


def test_a_page_without_a_value_is_an_error_and_not_an_empty_place() -> None:
    with pytest.raises(UndefinedError, match="name"):
        _page(PAGE)


def test_a_page_names_no_other_file_or_address() -> None:
    page = _page(PAGE, name="a")
    assert not re.findall(r"(?:src|href)=|@import|url\(", page)
    assert page.count("<main>") == page.count("</html>") == 1

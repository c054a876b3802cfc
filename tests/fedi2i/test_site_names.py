from __future__ import annotations

import pytest

from fedi2i.errors import ConfigError
from fedi2i.site_names import check_site_name, check_site_names


@pytest.mark.parametrize("name", ["north", "St-Mary", "site_2", "7", "N0-rth_"])
def test_letters_digits_hyphens_and_underscores_make_a_name(name: str) -> None:
    check_site_name(name, "table.csv: row 2")


@pytest.mark.parametrize("name", ["", "st.mary", "a/b", "..", "-north", "_x", "nörd", "a b", "a\n"])
def test_other_names_are_refused_with_their_place(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^table\.csv: row 2: site '"):
        check_site_name(name, "table.csv: row 2")


@pytest.mark.parametrize("name", ["all", "server", "Server", "ALL"])
def test_names_with_a_meaning_in_run_files_are_refused_in_any_case(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be called"):
        check_site_name(name, "x")


def test_two_sites_that_differ_in_case_alone_are_refused() -> None:
    check_site_names(["North", "North", "south"], "table.csv")
    with pytest.raises(ConfigError, match="'North' and 'north' differ in upper and lower case"):
        check_site_names(["North", "south", "north"], "table.csv")

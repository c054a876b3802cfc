"""Federations of four sites with kits of one authority."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from masked_federation import CODE, Authority, MaskedFederation, MaskedSite, forget_everything
from masked_rounds import SAMPLES, MakeFederation, first_model, train


@pytest.fixture(scope="session")
def kits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four sites' kits of one authority."""
    folder, authority = tmp_path_factory.mktemp("kits"), Authority()
    for site in SAMPLES:
        authority.kit(folder / site / "startup", site)
    return folder


@pytest.fixture
def make(kits: Path, tmp_path: Path) -> Iterator[MakeFederation]:
    """Makes federations of the four sites with their kits."""
    forget_everything()

    def made(least: int = 3, **arguments: Any) -> MaskedFederation:
        code = {key: arguments[key] for key in CODE if key in arguments}
        sites: dict[str, MaskedSite] = {}
        for name, samples in SAMPLES.items():
            root = tmp_path / name
            (root / "startup").mkdir(parents=True)
            for file in (kits / name / "startup").iterdir():
                (root / "startup" / file.name).write_bytes(file.read_bytes())
            sites[name] = MaskedSite(root, name, samples, train, least, **code)
        return MaskedFederation(sites, first_model(), **arguments)

    yield made
    forget_everything()

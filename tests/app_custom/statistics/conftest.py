"""Sites for the tests of federated statistics."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from site_of_numbers import SHARES, Site

from app_custom.statistics import site_statistics
from partitions.heterogeneity.intensities import BINS, mean_histogram
from partitions.heterogeneity.sites import Ages, SiteImages, SiteView
from partitions.manifest import SiteManifest, write_manifest


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Site]:
    """Make a site of some patients; images are drawn and not prepared from scans."""
    views: dict[str, SiteView] = {}
    monkeypatch.setattr(site_statistics, "prepare_site", lambda *_, **__: None)
    monkeypatch.setattr(site_statistics, "view_of", lambda manifest, _: views[manifest.site])

    def make(name: str, patients: int, own: str = SHARES, ages: tuple[float, ...] = ()) -> Site:
        rng = np.random.default_rng([patients, *name.encode()])
        drawn = tuple(float(age) for age in rng.normal(50, 12, patients))
        images = {}
        for domain in ("source", "target"):
            histograms = rng.dirichlet(np.linspace(1, 3, BINS), size=patients)
            means = histograms @ ((np.arange(BINS) + 0.5) / BINS)
            features = np.column_stack([means, rng.normal(size=(patients, 5))])
            images[domain] = SiteImages(patients, mean_histogram(histograms), features)
        views[name] = SiteView(
            name, patients, patients, {}, Ages(patients, None, 0, ages or drawn), {}, images
        )
        root = tmp_path / name
        write_manifest(SiteManifest("demo", name, (), root / "data"))
        (root / "local").mkdir()
        text = f"datasets: {{demo: {root / 'data'}}}\n{own}"
        (root / "local" / "fedi2i.yaml").write_text(text)
        return Site(name, views[name], root)

    return make

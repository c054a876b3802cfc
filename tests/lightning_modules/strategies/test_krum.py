"""Krum against scores worked out by hand and against a direct implementation."""

from __future__ import annotations

import numpy as np
import pytest
from server_rules import Server

from fedi2i.errors import ConfigError
from lightning_modules.combining import chunks
from lightning_modules.combining.distances import squared_distances
from lightning_modules.combining.updates import SiteUpdate
from lightning_modules.strategies.catalogue import STRATEGIES
from lightning_modules.strategies.krum import KrumSettings, krum_scores

KEY = "generator.w"


def updates(*values: float, samples: float = 1.0) -> list[SiteUpdate]:
    return [
        SiteUpdate(f"site-{n}", {KEY: np.array([value]), "generator.n": np.array(n)}, samples + n)
        for n, value in enumerate(values)
    ]


def test_the_scores_are_those_worked_out_by_hand() -> None:
    # 0, 1, 3, 7, 100 with one hostile site: each is summed over its 5 - 1 - 2 = 2 nearest.
    scores = krum_scores(squared_distances(updates(0.0, 1.0, 3.0, 7.0, 100.0)), hostile=1)
    np.testing.assert_array_equal(scores, [1 + 9, 1 + 4, 4 + 9, 16 + 36, 93**2 + 97**2])


def test_the_model_of_the_lowest_score_is_taken_as_it_is() -> None:
    found = updates(0.0, 1.0, 3.0, 7.0, 100.0)
    server = Server("krum", hostile_sites=1, selected=1)
    combined = server.combine("generator", found, {})
    assert float(combined[KEY][0]) == 1.0
    notes = {(site, metric): value for site, metric, value in server.view.notes.rows()}
    chosen = [site for (site, metric), value in notes.items() if value == 1.0]
    assert chosen == ["site-1"]
    assert len(notes) == 5


@pytest.mark.parametrize(("by_samples", "expected"), [(False, 4 / 3), (True, (0 + 2 + 9) / 6)])
def test_several_selected_models_are_averaged(by_samples: bool, expected: float) -> None:
    found = updates(0.0, 1.0, 3.0, 7.0, 100.0)  # with 1, 2, 3, 4, 5 samples
    server = Server("krum", hostile_sites=1, selected=3, sample_weights=by_samples)
    assert float(server.combine("generator", found, {})[KEY][0]) == pytest.approx(expected)


def test_a_direct_implementation_chooses_the_same_model() -> None:
    rng = np.random.default_rng(11)
    for sites, hostile in ((5, 1), (7, 2), (9, 3)):
        models = rng.normal(size=(sites, 40))
        found = [SiteUpdate(f"{n}", {KEY: model}, 1.0) for n, model in enumerate(models)]
        scores = []
        for one in models:
            distances = sorted(float(((one - other) ** 2).sum()) for other in models)
            scores.append(sum(distances[1 : sites - hostile - 1]))
        server = Server("krum", hostile_sites=hostile)
        combined = server.combine("generator", found, {})[KEY]
        np.testing.assert_array_equal(combined, models[int(np.argmin(scores))])


def test_distances_do_not_depend_on_the_size_of_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(2)
    arrays = [rng.normal(size=(7, 5)).astype(np.float32) for _ in range(4)]
    found = [SiteUpdate(str(n), {KEY: array}, 1.0) for n, array in enumerate(arrays)]
    flat = np.stack([array.reshape(-1).astype(np.float64) for array in arrays])
    expected = ((flat[:, None] - flat[None]) ** 2).sum(axis=2)
    monkeypatch.setattr(chunks, "CHUNK", 3)
    np.testing.assert_allclose(squared_distances(found), expected, rtol=1e-12)


def test_of_equal_models_the_first_by_name_wins_whatever_two_colluding_sites_send() -> None:
    found = updates(1.0, 1.0, 1.0, 50.0, 50.0)
    combined = Server("krum", hostile_sites=2).combine("generator", found, {})
    assert float(combined[KEY][0]) == 1.0


@pytest.mark.parametrize(
    ("settings", "fewest", "reason"),
    [
        (KrumSettings(hostile_sites=1), 3, "needs at least 4 in every round, and its proof 5"),
        (KrumSettings(hostile_sites=2), 4, "needs at least 5 in every round, and its proof 7"),
        (KrumSettings(selected=4), 4, "at most 3 can be taken"),
    ],
)
def test_a_round_that_too_few_sites_can_make_is_refused_before_the_first_one(
    settings: KrumSettings, fewest: int, reason: str
) -> None:
    check = STRATEGIES["krum"].check_sites
    assert check is not None
    with pytest.raises(ConfigError, match=reason):
        check(settings, 9, fewest, "job.yaml")
    check(KrumSettings(), 4, 4, "job.yaml")

"""Federated statistics, by NVFlare's own handler, filter, cleansers and controller."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from nvflare.apis.dxo import DXO, DataKind, from_shareable
from nvflare.apis.shareable import Shareable
from nvflare.app_common.abstract.statistics_spec import (
    StatisticConfig,
)
from nvflare.app_common.app_constant import StatisticsConstants as Names
from nvflare.app_common.filters.statistics_privacy_filter import StatisticsPrivacyFilter
from nvflare.app_common.statistics.numeric_stats import get_global_stats
from nvflare.app_common.utils.json_utils import ObjectEncoder
from nvflare.app_common.workflows.statistics_controller import StatisticsController
from nvflare.fuel.utils import fobs
from nvflare.fuel.utils.class_utils import instantiate_class
from nvflare_fakes import Engine
from site_of_numbers import POLICY, SERVER, SHARES, SITE, Site, computed, generator

from app_custom.gates.job_limits import JobRefusedError
from partitions.heterogeneity.federated import GROUP, read_federated
from partitions.heterogeneity.intensities import wasserstein


def answer(site: Site, inputs: Shareable, **changes: Any) -> dict[str, Any]:
    """What leaves a site: the answer past the site's own gate and then the job's cleansers."""
    components = {
        one["id"]: instantiate_class(one["path"], one["args"]) for one in SITE["components"][1:]
    }
    ctx = Engine(site.root, site.name, components=components).new_context()
    found = computed(site, inputs, **changes)
    message = POLICY.process(DXO(DataKind.STATISTICS, data=found).to_shareable(), ctx)
    cleaning = StatisticsPrivacyFilter(
        SITE["task_result_filters"][0]["filters"][0]["args"]["result_cleanser_ids"]
    )
    return dict(cleaning.process_dxo(from_shareable(message), message, ctx).data)


def run(*sites: Site, **changes: Any) -> dict[str, Any]:
    """What the server writes, by the controller's own steps, as it is read from the file."""
    (workflow,) = SERVER["workflows"]
    controller = StatisticsController(**workflow["args"])
    for task in (Names.STATS_1st_STATISTICS, Names.STATS_2nd_STATISTICS):
        inputs = controller._prepare_inputs(task)
        for site in sites:
            found = fobs.loads(answer(site, inputs, **changes)[task])
            for name, value in found.items():
                controller.client_statistics.setdefault(name, {})[site.name] = value
        controller.global_statistics = get_global_stats(
            controller.global_statistics,
            controller.client_statistics,
            task,
            controller.statistic_configs,
        )
    return dict(json.loads(json.dumps(controller._combine_all_statistics(), cls=ObjectEncoder)))


def test_a_site_with_too_few_patients_counts_none_and_no_mean_is_divided_by_them(
    site: Callable[..., Site],
) -> None:
    """40, 12 and 6 patients: NVFlare alone divides the sum of 52 by 58."""
    sites = [site(name, count) for name, count in (("north", 40), ("east", 12), ("west", 6))]
    found = run(*sites)
    ages = np.concatenate([one.view.ages.values for one in sites[:2]])
    assert found["age"]["mean"]["Global"][GROUP] == pytest.approx(ages.mean(), abs=1e-3)
    assert found["age"]["stddev"]["Global"][GROUP] == pytest.approx(ages.std(ddof=1), abs=1e-3)
    assert found["age"]["count"]["Global"][GROUP] == 52
    assert found["age"]["count"]["west"][GROUP] == 0
    given = {name for one in found.values() for name in one if one[name].get("west")}
    assert given == {"count"}


def test_the_job_s_least_number_holds_where_the_site_s_own_is_smaller(
    site: Callable[..., Site],
) -> None:
    small = site("west", 6, "statistics: {share: true, least_patients: 2}\n")
    assert run(site("north", 40), small)["age"]["count"]["Global"][GROUP] == 40
    larger = site("east", 30, "statistics: {share: true, least_patients: 31}\n")
    assert run(larger)["age"]["count"]["east"][GROUP] == 0


def test_the_server_s_file_makes_the_report_that_the_sites_would_make_together(
    site: Callable[..., Site], tmp_path: Path
) -> None:
    sites = [site("north", 40), site("east", 12), site("west", 6)]
    path = tmp_path / "statistics.json"
    path.write_text(json.dumps(run(*sites)))
    east, north, west = read_federated(path)
    assert (east.patients, north.patients, west.patients) == (12, 40, 0)
    assert (west.images, west.ages.mean) == ({}, None)
    assert north.ages.mean == pytest.approx(np.mean(sites[0].view.ages.values), abs=1e-3)
    assert len(north.images["source"].histogram) == 8
    here = [one.view.images["source"].histogram for one in sites[:2]]
    there = [one.images["source"].histogram for one in (north, east)]
    assert wasserstein(*there) == pytest.approx(wasserstein(*here), abs=1 / 64)


def test_a_single_patient_of_many_voxels_is_no_crowd(site: Callable[..., Site]) -> None:
    found = run(site("north", 40), site("west", 1))
    assert found["source"]["count"]["west"][GROUP] == 0
    assert "west" not in found["source"]["mean"]


def test_no_smallest_or_largest_value_is_asked_of_a_site(site: Callable[..., Site]) -> None:
    north = generator(site("north", 40))
    for ask in (north.min_value, north.max_value):
        with pytest.raises(NotImplementedError):
            ask(GROUP, "age")


def ask_for_variance(site: Site, mean: Any, count: Any = 2) -> Any:
    """What leaves when the server sends any mean and count; None where nothing does."""
    inputs = Shareable()
    inputs[Names.STATISTICS_TASK_KEY] = Names.STATS_2nd_STATISTICS
    wanted = [StatisticConfig(Names.STATS_VAR, {})]
    inputs[Names.STATS_TARGET_STATISTICS] = fobs.dumps(wanted)
    for key, value in ((Names.STATS_GLOBAL_MEAN, mean), (Names.STATS_GLOBAL_COUNT, count)):
        inputs[key] = {GROUP: {"age": value, "source": 0.0, "target": 0.0}}
    found = fobs.loads(answer(site, inputs)[Names.STATS_2nd_STATISTICS])
    return found[Names.STATS_VAR][GROUP].get("age")


@pytest.mark.parametrize("kind", [list, tuple, np.array])
def test_a_mean_for_each_patient_in_place_of_one_gets_no_variance(
    kind: Callable[[list[float]], Any], site: Callable[..., Site]
) -> None:
    """Otherwise an answer with one more than there are patients gives every age exactly."""
    north = site("north", 12)
    assert ask_for_variance(north, 0.0) > 0
    for patient in range(12):
        means = [1000.0 if one == patient else 0.0 for one in range(12)]
        assert ask_for_variance(north, kind(means)) is None
        assert ask_for_variance(north, 0.0, kind(means)) is None


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "fifty", None, {}, 10**400])
def test_a_variance_about_no_finite_number_is_not_given(
    value: Any, site: Callable[..., Site]
) -> None:
    north = site("north", 12)
    assert ask_for_variance(north, value) is None
    assert ask_for_variance(north, 50.0, value) is None


def test_a_site_s_part_of_the_variance_is_the_sum_of_squares_about_the_mean(
    site: Callable[..., Site],
) -> None:
    north = site("north", 12)
    squares = sum((age - 47.5) ** 2 for age in north.view.ages.values)
    assert ask_for_variance(north, 47.5, 31) == pytest.approx(squares / 30, abs=1e-4)


@pytest.mark.parametrize("exponent", range(50, 61))
def test_patients_of_the_same_mean_and_variance_answer_alike_about_any_mean(
    exponent: int, site: Callable[..., Site]
) -> None:
    """A mean so large that ages are rounded away would count those above the rounding's limit."""
    even, spread = (40.0, 60.0) * 6, (30.0, 70.0, 40.0, 60.0, 40.0, 60.0, *(50.0,) * 6)
    for ages in (even, spread):
        assert (np.mean(ages), np.var(ages)) == (50, 100)
    first, second = (site(f"site-{n}", 12, ages=ages) for n, ages in enumerate((even, spread)))
    mean = -(2.0**exponent)
    assert ask_for_variance(first, mean) == ask_for_variance(second, mean)


@pytest.mark.parametrize("value", [[8] * 40, np.arange(40), None, "8", 8.0, {}])
def test_something_else_than_numbers_in_place_of_bins_gets_no_histogram(
    value: Any, site: Callable[..., Site]
) -> None:
    north = generator(site("north", 40))
    with pytest.raises((TypeError, ValueError)):
        north.histogram(GROUP, "source", value, 0, 1)
    for low, high in ((value, 1), (0, value)):
        with pytest.raises((TypeError, ValueError)):
            north.histogram(GROUP, "source", 8, low, high)


@pytest.mark.parametrize(("bins", "low", "high"), [(64, 0, 1), (8, 0, 0.5), (7, 0, 1), (0, 0, 1)])
def test_other_bins_than_ours_are_not_given(
    bins: int, low: float, high: float, site: Callable[..., Site]
) -> None:
    with pytest.raises(ValueError, match="are not given"):
        generator(site("north", 40)).histogram(GROUP, "source", bins, low, high)


def test_ages_have_no_histogram(site: Callable[..., Site]) -> None:
    assert generator(site("north", 40)).histogram(GROUP, "age", 8, 0, 1).bins == []


@pytest.mark.parametrize(
    ("own", "rule"),
    [
        ("", "'statistics\\.share' is false here"),
        ("statistics: {share: false}\n", "'statistics\\.share' is false here"),
        (f"{SHARES}patient_privacy: {{required: true}}\n", "'patient_privacy'"),
        (f"{SHARES}limits: {{plain_updates: false}}\n", "'plain_updates'"),
        (f"{SHARES}limits: {{most_pixels: 100}}\n", "'most_pixels'"),
    ],
)
def test_a_site_s_own_file_refuses_statistics(
    own: str, rule: str, site: Callable[..., Site]
) -> None:
    with pytest.raises(JobRefusedError, match=rule):
        generator(site("north", 40, own))


def test_a_job_of_another_release_is_refused(site: Callable[..., Site]) -> None:
    with pytest.raises(JobRefusedError, match=r"FedI2I 0.1.9 wrote the job"):
        generator(site("north", 40), release="0.1.9")

"""A job that trains nothing: how unlike the sites are, by NVFlare's federated statistics.

NVFlare's own controller, executor, filter and cleansers; the numbers are ours
(``app_custom.statistics.site_statistics``).
"""

from __future__ import annotations

from dataclasses import dataclass

from app_custom.gates.allowed_statistics import MOST_BINS
from fedi2i import __version__
from fedi2i.typed_config import as_dict, number
from jobs.writing import job_folder
from jobs.writing.export import as_texts
from jobs.writing.federation import FederatedExperiment
from jobs.writing.topologies.parts import Config
from lightning_modules.contrasts import refuse_conditional
from lightning_modules.source_contrasts import refuse_several_contrasts

NAME = "statistics"
RESULT = "statistics.json"
"""Written by the server into its run folder."""
TASK = "fed_stats"

_NVFLARE = "nvflare.app_common"
_CLEANSERS = ("min_count_cleanser", "min_max_cleanser", "histogram_bins_cleanser")


@dataclass(frozen=True)
class StatisticsSettings:
    """What a job of statistics asks for; a site's own file may ask for more patients.

    Attributes:
        min_count: patients of a site below whom no number is given, their count included; NVFlare's
            cleanser, which leaves the count, has the same number.
        bins: of histograms of intensities over [0, 1]. Distances need no more than 8.
        max_bins_percent: NVFlare's cleanser takes a histogram away unless its bins are fewer than
            this percentage of the patients.
    """

    min_count: int = number(10, low=2, most=1_000_000)
    bins: int = number(8, low=2, most=MOST_BINS)
    max_bins_percent: float = number(100.0, above=True, most=100.0)


def statistics_files(
    name: str, job: FederatedExperiment, settings: StatisticsSettings
) -> dict[str, str]:
    """Relative path to text of every file of the job folder.

    Args:
        name: the job's.
        job: its sites, and how their scans are prepared.
        settings: what is asked for.
    """
    one_pair = "a job of statistics describes one pair of sequences"
    refuse_conditional(job.experiment, name, one_pair)
    refuse_several_contrasts(job.experiment, name, one_pair)
    return as_texts(
        {
            "meta.json": {**job_folder.meta(name, job), "resource_spec": {}},
            "app_server/config/config_fed_server.json": _server(job, settings),
            "app_site/config/config_fed_client.json": _site(job, settings),
        }
    )


def _server(job: FederatedExperiment, settings: StatisticsSettings) -> Config:
    controller = {
        "id": "statistics_controller",
        "path": f"{_NVFLARE}.workflows.statistics_controller.StatisticsController",
        "args": {
            "statistic_configs": {
                "count": {},
                "sum": {},
                "mean": {},
                "stddev": {},
                # With a range given no site is asked for its smallest and largest value.
                "histogram": {"*": {"bins": settings.bins, "range": [0, 1]}},
            },
            "writer_id": "statistics_writer",
            "min_clients": job.federation.needed,
            "enable_pre_run_task": False,
        },
    }
    writer = {
        "id": "statistics_writer",
        "path": f"{_NVFLARE}.statistics.json_stats_file_persistor.JsonStatsFileWriter",
        "args": {"output_path": RESULT},
    }
    return {
        "format_version": 2,
        "server": {"heart_beat_timeout": 600, "task_request_interval": 0.1},
        "task_data_filters": [],
        "task_result_filters": [],
        "components": [writer],
        "workflows": [controller],
    }


def _site(job: FederatedExperiment, settings: StatisticsSettings) -> Config:
    data = job.experiment.data
    generator = {
        "id": "site_statistics",
        "path": "app_custom.statistics.site_statistics.SiteStatistics",
        "args": {
            "dataset": data.dataset,
            "preparation": as_dict(data.preparation),
            "least_patients": settings.min_count,
            "release": __version__,
        },
    }
    executor = {
        "path": f"{_NVFLARE}.executors.statistics.statistics_executor.StatisticsExecutor",
        "args": {"generator_id": "site_statistics"},
    }
    cleaning = {
        "path": f"{_NVFLARE}.filters.statistics_privacy_filter.StatisticsPrivacyFilter",
        "args": {"result_cleanser_ids": list(_CLEANSERS)},
    }
    return {
        "format_version": 2,
        "default_task_fetch_interval": 0.1,
        "executors": [{"tasks": [TASK], "executor": executor}],
        "task_data_filters": [],
        "task_result_filters": [{"tasks": [TASK], "filters": [cleaning]}],
        "components": [generator, *_cleansers(settings)],
    }


def _cleansers(settings: StatisticsSettings) -> list[Config]:
    arguments = (
        ("MinCountCleanser", {"min_count": settings.min_count}),
        ("AddNoiseToMinMax", {"min_noise_level": 0.1, "max_noise_level": 0.3}),
        ("HistogramBinsCleanser", {"max_bins_percent": settings.max_bins_percent}),
    )
    return [
        {"id": module, "path": f"{_NVFLARE}.statistics.{module}.{kind}", "args": given}
        for module, (kind, given) in zip(_CLEANSERS, arguments, strict=True)
    ]

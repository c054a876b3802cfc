"""A site whose patients are numbers, and what the committed job of statistics computes there."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from nvflare.apis.shareable import Shareable
from nvflare.app_common.app_constant import StatisticsConstants as Names
from nvflare.app_common.executors.statistics.statistics_task_handler import StatisticsTaskHandler
from nvflare_fakes import Engine

from app_custom.gates.site_policy import SitePolicy
from app_custom.statistics.site_statistics import SiteStatistics
from jobs.writing.federation import DEFAULT_FILE, read_federated_experiment
from jobs.writing.statistics_job import StatisticsSettings, statistics_files
from partitions.heterogeneity.sites import SiteView

JOB = statistics_files(
    "statistics", read_federated_experiment(DEFAULT_FILE, {}), StatisticsSettings()
)
SITE = json.loads(JOB["app_site/config/config_fed_client.json"])
SERVER = json.loads(JOB["app_server/config/config_fed_server.json"])
SHARES = "statistics: {share: true, least_patients: 10}\n"
POLICY = SitePolicy(["generator"])


@dataclass(frozen=True)
class Site:
    """A site whose patients are numbers, and what NVFlare makes of them at the site."""

    name: str
    view: SiteView
    root: Path


def generator(site: Site, **changes: Any) -> SiteStatistics:
    """The component that the job builds, initialised at a site."""
    given = {**SITE["components"][0]["args"], **changes}
    found = SiteStatistics(**given)
    found.initialize(Engine(site.root, site.name).new_context())
    return found


def computed(site: Site, inputs: Shareable, **changes: Any) -> dict[str, Any]:
    """The answer of NVFlare's handler, before any filter."""
    handler = StatisticsTaskHandler("site_statistics")
    handler.stats_generator = generator(site, **changes)
    ctx = Engine(site.root, site.name).new_context()
    return dict(handler.execute_task(Names.FED_STATS_TASK, inputs, ctx, None))

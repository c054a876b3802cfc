"""NVFlare's simulator leaves a run's files at these places of a workspace."""

from __future__ import annotations

from pathlib import Path

from fedi2i.metric_files import FILE_NAME as METRICS_FILE

_RUN = Path("server") / "simulate_job"
PERSONAL_MODEL = "personal_model.pt"
"""A site's own model, in the site's run folder."""
GLOBAL_MODEL = "global_model.pt"
"""The final global model of an encrypted job, in each site's run folder."""


def personal_model_path(workspace: Path, site: str) -> Path:
    """Locate the model that a site would use, for strategies that make sites differ."""
    return workspace / site / "simulate_job" / PERSONAL_MODEL


def final_model_path(workspace: Path) -> Path:
    """Locate the global model after the last round."""
    return workspace / _RUN / "app_server" / "FL_global_model.pt"


def metrics_path(workspace: Path) -> Path:
    """Locate the server's record: site, round, metric, value."""
    return workspace / _RUN / METRICS_FILE

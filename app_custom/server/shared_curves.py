"""Sends curves to the server, and nothing else."""

from __future__ import annotations

from nvflare.apis.analytix import ANALYTIC_EVENT_TYPE
from nvflare.app_common.widgets.convert_to_fed_event import FED_EVENT_PREFIX, ConvertToFedEvent


class SharedCurves(ConvertToFedEvent):
    """NVFlare's widget for the one event that holds a point of a curve or a picture panel.

    In NVFlare's own a job chooses the events, and may name those that carry the site's log: names
    of files and patients, which pass no filter on this way. What becomes a curve is decided at the
    site (``share_curves``, ``share_images``).
    """

    def __init__(self) -> None:
        super().__init__([ANALYTIC_EVENT_TYPE], FED_EVENT_PREFIX)

"""A site's own policy limits what may leave, whatever the filters of a job say.

It stands in the site's ``privacy.json``. NVFlare takes a missing policy for no limits, so whoever
admits a job asks here whether the policy holds the gates.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from nvflare.apis.dxo import DXO, DataKind
from nvflare.apis.fl_constant import ReturnCode
from nvflare.apis.fl_context import FLContext
from nvflare.apis.shareable import ReservedHeaderKey, Shareable

from app_custom.gates.allowed_statistics import statistics_fault
from app_custom.gates.allowed_update import AllowedUpdate, UpdateNotAllowedError

ANSWERS_GATE = "app_custom.gates.site_policy.SitePolicy"
SPENDS = "app_custom.privacy.update_filters.SpendBudget"
NOISES = "app_custom.privacy.update_filters.AddNoise"
"""The pair of update-level differential privacy."""
REMEMBERS = "app_custom.privacy.nvflare_filters.RememberReceived"
PAIRS = (
    (SPENDS, NOISES),
    (REMEMBERS, "app_custom.privacy.nvflare_filters.PercentileOnUpdates"),
    (REMEMBERS, "app_custom.privacy.nvflare_filters.SVTOnUpdates"),
)
"""What meets the models that arrive, and what meets the answers: neither acts alone."""
MESSAGES_GATE = "app_custom.gates.allowed_peer_message.AllowedPeerMessage"
JOB_GUARD = "app_custom.participant.message_guard.JobGuard"


class SitePolicy(AllowedUpdate):
    """``AllowedUpdate`` for every task of every job; it stands in the site's ``privacy.json``.

    NVFlare applies a site's filters to all tasks, also to those that only steer a swarm. Their
    answers hold nothing but a return code and pass.

    Args:
        networks, local, arrays: as for ``AllowedUpdate``.
    """

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Check an answer; it is passed on unchanged.

        Raises:
            UpdateNotAllowedError: naming the first thing that is not listed.
        """
        headers = shareable.get(ReservedHeaderKey.HEADERS) or {}
        only_headers = shareable.keys() <= {ReservedHeaderKey.HEADERS}
        if only_headers and headers == {ReservedHeaderKey.RC: ReturnCode.OK}:
            return shareable
        return super().process(shareable, fl_ctx)

    def _check(self, dxo: DXO) -> None:
        """Let statistics pass besides; whether this site gives any says its ``fedi2i.yaml``."""
        if dxo.data_kind != DataKind.STATISTICS:
            super()._check(dxo)
            return
        fault = statistics_fault(dxo.data)
        if fault or dxo.meta:
            raise UpdateNotAllowedError(
                f"statistics are refused: {fault or 'they carry meta data'}"
            )


def policy_fault(path: Path | None) -> str:
    """Say why a policy's file would not limit what jobs send; empty if it does."""
    try:
        policy = json.loads(path.read_text(encoding="utf-8")) if path else None
    except (OSError, ValueError):
        policy = None
    if not isinstance(policy, dict):
        return "it is missing or damaged"
    return missing_gates(policy)


def missing_guard(policy: Mapping[str, Any]) -> str:
    """Say that a ``privacy.json`` lacks what compares senders in every job; empty if it has it."""
    components = policy.get("components")
    listed = components if isinstance(components, list) else []
    paths = [component.get("path") for component in listed if isinstance(component, dict)]
    return "" if JOB_GUARD in paths else f"it lacks {JOB_GUARD} in its components"


def missing_gates(policy: Mapping[str, Any]) -> str:
    """Say what a ``privacy.json`` lacks to stop what is not listed; empty if nothing.

    A site may shorten the lists, add filters, and add scopes that have the gates as well.
    """
    scopes = policy.get("scopes")
    if not isinstance(scopes, list) or not all(isinstance(scope, dict) for scope in scopes):
        return "it has no list of scopes"
    if policy.get("default_scope") not in [scope.get("name") for scope in scopes]:
        return "its default_scope is none of its scopes"
    for scope in scopes:
        for key, gate, directions in (
            # Without a direction NVFlare filters answers on their way out, and data on its way in.
            ("task_result_filters", ANSWERS_GATE, (None, "out", "inout")),
            ("task_data_filters", MESSAGES_GATE, ("out", "inout")),
        ):
            filters = [found for found in scope.get(key) or [] if isinstance(found, dict)]
            ours = [found for found in filters if found.get("path") == gate]
            if not any(found.get("direction") in directions for found in ours):
                return f"scope '{scope.get('name')}' lacks {gate}, for what goes out, in its {key}"
    return _half_a_pair(scopes) or missing_guard(policy)


def _half_a_pair(scopes: list[dict[str, Any]]) -> str:
    """Say where a part of a privacy mechanism is missing; empty if it is whole or nowhere.

    A job chooses among the site's scopes, so what one of them has, all must have.
    """
    named = json.dumps(scopes)
    for arriving, leaving in PAIRS:
        if leaving not in named and (arriving == REMEMBERS or arriving not in named):
            continue
        for scope in scopes:
            for key, path, direction in (
                ("task_data_filters", arriving, "in"),
                ("task_result_filters", leaving, "out"),
            ):
                if not _acts(scope.get(key) or [], path, direction):
                    return (
                        f"scope '{scope.get('name')}' lacks {path}, which this policy has elsewhere"
                    )
    return ""


def _acts(filters: list[Any], path: str, direction: str) -> bool:
    """Whether a chain has a filter, and on the way that it is for."""
    return any(
        isinstance(one, dict)
        and one.get("path") == path
        and one.get("direction") in (None, direction)
        for one in filters
    )

"""Run an audit: all pieces, then what they found."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fedi2i.files import private_folder
from jobs.running.audit.findings import PRIVATE, findings_of, write_findings
from jobs.running.audit.inversion import ROUND, inversion_pieces
from jobs.running.audit.linking import linking_pieces
from jobs.running.audit.membership import membership_pieces
from jobs.running.audit.pieces import Piece, results_of
from jobs.running.audit.plan import AuditPlan
from lightning_modules.configuration import ExperimentConfig
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site
from partitions.site_folders import find_site_folders

PIECES = "pieces"


def prepared_sites(data: Path, experiment: ExperimentConfig) -> list[PreparedSite]:
    """The sites whose data are here, prepared as the run prepares them.

    Args:
        data: a site's own folder, or the folder of a simulated federation.
        experiment: the run's settings.

    Raises:
        UserError: no data, or data that cannot be used.
    """
    return [
        prepare_site(read_manifest(folder), experiment.data.preparation, folder / "prepared")
        for folder in find_site_folders(data)
    ]


def run_audit(plan: AuditPlan, out: Path, at_once: int) -> None:
    """Do everything that is not there yet, and write the findings into a folder.

    Args:
        plan: what is audited.
        out: gets ``audit.json``, ``audit.csv`` and the folder ``site-only``, which nobody but this
            account may enter.
        at_once: processes at a time, one thread each; results do not depend on it.

    Raises:
        UserError: a process was ended, or there is no room.
    """
    private_folder(out / PRIVATE)
    pieces = _longest_first(plan)
    results = results_of(pieces, out / PRIVATE / PIECES, at_once)
    findings = findings_of(plan, results)
    write_findings(plan, findings, results, out)


def _longest_first(plan: AuditPlan) -> Sequence[Piece]:
    """So that the last process is not alone for long."""
    inversion = sorted(inversion_pieces(plan), key=lambda piece: piece.amount != ROUND)
    return [*linking_pieces(plan), *membership_pieces(plan), *inversion]

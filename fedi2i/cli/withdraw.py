"""``fedi2i data withdraw``: a person reads what a withdrawal takes away, and then says yes.

It stands here because it needs two packages: the data of ``partitions``, the kit of ``provision``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fedi2i.commands import Commands
from fedi2i.errors import UserError

if TYPE_CHECKING:
    from app_custom.participant.used_data import Use
    from partitions.withdrawal import Holding
    from provision.removal.withdrawal import Withdrawal


def add_withdraw(commands: Commands) -> None:
    """Add ``withdraw`` to the commands of ``fedi2i data``."""
    parser = commands.add_parser(
        "withdraw", help="take a patient out of a site, and say which runs used their scans"
    )
    parser.add_argument("patient", help="the patient's name, as the manifest has it")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--kit", type=Path, help="the site's kit, or a simulator's workspace")
    where.add_argument("--data", type=Path, help="a site folder, where there is no kit")
    parser.add_argument("--site", help="which one, in a workspace of several")
    parser.add_argument("--dataset", help="which one, of several data sets of the kit")
    parser.add_argument(
        "--scans", action="store_true", help="also delete the scans inside the site folder"
    )
    parser.add_argument(
        "--table", type=Path, action="append", default=[], help="also delete rows of this table"
    )
    do = parser.add_mutually_exclusive_group()
    do.add_argument("--dry-run", action="store_true", help="only show what would go")
    do.add_argument("--yes", action="store_true", help="do it; it cannot be undone")
    parser.set_defaults(run=withdraw_command)


def withdraw_command(options: argparse.Namespace) -> None:
    """Show what a withdrawal takes away and what it cannot; with ``--yes`` do it.

    Raises:
        UserError: nobody is called like that, something is in use, or ``--yes`` is missing.
    """
    # Imported here, as the other commands of the group have no use for it.
    from provision.removal.withdrawal import Place, carry_out, only_plan, places_of

    if options.kit is not None:
        places = list(places_of(options.kit, options.site, options.dataset))
    else:
        places = [Place(options.data, (options.data / "prepared",))]
    plan = only_plan(places, options.patient, options.table)
    print("\n".join(sentences(plan, with_scans=options.scans)))
    if options.yes:
        carry_out(plan, with_scans=options.scans)
        print(f"done: '{options.patient}' is withdrawn at site '{plan.holding.manifest.site}'")
    elif not options.dry_run:
        raise UserError("nothing was removed yet; give --yes to remove all this for good")


def sentences(plan: Withdrawal, with_scans: bool) -> list[str]:
    """What a person reads before anything is removed.

    Args:
        plan: what was found.
        with_scans: whether the scans inside the site folder go, too.
    """
    return [
        *_head(plan.holding),
        *_going(plan, with_scans),
        *_staying(plan, with_scans),
        *_past(plan),
    ]


def _head(holding: Holding) -> Iterator[str]:
    count = len(holding.subjects)
    where = f"site '{holding.manifest.site}', data set '{holding.manifest.dataset}'"
    yield f"patient '{holding.patient}' at {where}: {count} row(s) in the manifest"
    if holding.withdrawn:
        yield f"was withdrawn on {holding.withdrawn}; what is left of it is named below"


def _going(plan: Withdrawal, with_scans: bool) -> Iterator[str]:
    holding = plan.holding
    if holding.subjects:
        names = ", ".join(record.subject for record in holding.subjects)
        yield f"goes: {names} from {holding.manifest.root / 'manifest.json'}"
    for folder in holding.caches:
        yield f"goes: {folder}, prepared slices (those of the others are made again)"
    for folder in plan.states:
        yield f"goes: {folder}, what this site kept of a run that trained with the patient"
    for path in holding.copies if with_scans else ():
        yield f"goes: {path}"
    for path, numbers in plan.rows.items():
        yield f"goes: {len(numbers)} row(s) of {path}"


def _staying(plan: Withdrawal, with_scans: bool) -> Iterator[str]:
    holding = plan.holding
    for path in () if with_scans else holding.copies:
        yield f"stays: {path}, a scan in the site folder; --scans deletes it"
    for path in holding.elsewhere:
        yield f"stays: {path}, a scan outside the site folder, or one that others use, too"
    for path in plan.models:
        yield f"stays: {path}, a model of a run that trained with the patient"
    for path in plan.studies:
        yield (
            f"stays: {path}, rows, pictures and models of a study on data that the patient was "
            "part of; delete the folder"
        )
    for path in plan.logs:
        yield f"stays: {path}, a log that names the patient"
    if holding.subjects and not plan.rows:
        yield "stays: the table that the scans were brought in with; --table deletes its rows"


def _past(plan: Withdrawal) -> Iterator[str]:
    if plan.place.state is None:
        yield "not looked at: which jobs used the patient; a site's kit has that record (--kit)"
        return
    for use, splits in plan.uses:
        sender = f" of {use.submitter}" if use.submitter else ""
        how = " and ".join(splits)
        yield f"used by: job {use.job}{sender}, run {use.run}, on {use.time[:10]}, as {how}"
    if not plan.uses:
        yield "used by: no job since this site has kept its record"
        return
    yield from _not_undone(plan.uses)
    yield (
        "not undone: results, figures and models that 'fedi2i train', 'evaluate' or 'compare' made "
        "outside the kit, backups, and whatever people have downloaded"
    )


def _not_undone(uses: Sequence[tuple[Use, tuple[str, ...]]]) -> Iterator[str]:
    trained = [use for use, splits in uses if "train" in splits]
    measured = [use for use, splits in uses if "val" in splits]
    if trained:
        bare = any(not use.accounted for use in trained)
        noise = "; no noise of differential privacy covered them" if bare else ", under noise"
        yield (
            f"not undone: {_counted(trained)} trained with the patient: the server, and whoever "
            f"has their models, holds weights to which the patient contributed{noise}. Training "
            "anew from the first round, without the patient, is what gives a model free of them: "
            "tell the other participants which jobs"
        )
    if measured:
        yield (
            f"not undone: {_counted(measured)} sent means of metrics over validation patients, of "
            "whom this was one"
        )
    if any(use.pictures for use in measured):
        yield "not undone: pictures of a validation patient were sent to the server (share_images)"


def _counted(uses: Sequence[Use]) -> str:
    jobs = sorted({use.job for use in uses})
    return f"{len(jobs)} job(s) ({', '.join(jobs)})"

"""``audit``: attack models of one's own, trained in a run's settings, and measure what leaks."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

from fedi2i.commands import Commands
from fedi2i.cores import available_cores
from fedi2i.errors import ConfigError
from jobs.commands.settings import read_settings

DEFAULT_MECHANISMS = (
    "update_noise:noise_multiplier=0.001",
    "update_noise:noise_multiplier=0.01",
)


class AuditOptions(Protocol):
    """What ``audit`` is told."""

    run_folder: Path
    settings: list[str]
    data: Path
    site: str | None
    mechanisms: list[str]
    out: Path | None
    quick: bool
    at_once: int | None
    title: str


def add_audit(commands: Commands) -> None:
    """Add ``audit``."""
    parser = commands.add_parser(
        "audit", help="attack models trained as a run's, and measure what leaks"
    )
    parser.add_argument(
        "run_folder", type=Path, metavar="RUN", help="a comparison's folder, or an experiment file"
    )
    parser.add_argument(
        "--data",
        type=Path,
        default=Path("data/demo"),
        help="a site's folder, or the folder of a simulated federation; by default data/demo",
    )
    parser.add_argument("--site", help="whose patients; by default the site that has most")
    parser.add_argument(
        "--mechanism",
        action="append",
        default=[],
        dest="mechanisms",
        metavar="NAME[:KEY=VALUE,...]",
        help="a privacy mechanism to compare with none; may be repeated",
    )
    parser.add_argument("--out", type=Path, help="by default RUN/audit; for a file runs/audit")
    parser.add_argument("--quick", action="store_true", help="a first look, too few trials to tell")
    parser.add_argument("--at-once", type=int, help="processes; by default one a core")
    parser.add_argument("--title", default="Leakage audit", help="heading of the page")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="settings",
        metavar="KEY=VALUE",
        help="a setting of the experiment, e.g. training.rounds=4; may be repeated",
    )
    parser.set_defaults(run=audit)


def audit(options: AuditOptions) -> None:
    """Audit one run at one site.

    Raises:
        UserError: settings or data that cannot be audited; nothing is half-written.
    """
    # Imported here, as a mistake in the command line should not wait seconds for torch.
    from jobs.running.audit.plan import audited, make_plan, mechanism_from, read_run
    from jobs.running.audit.run import prepared_sites, run_audit

    at_once = available_cores() if options.at_once is None else options.at_once
    if at_once < 1:
        raise ConfigError(f"--at-once {at_once}: write 1 or more processes")
    experiment, privacy = read_run(options.run_folder, read_settings(options.settings))
    mechanisms = [mechanism_from(text) for text in options.mechanisms or DEFAULT_MECHANISMS]
    if privacy.acts:
        mechanisms.append(audited(privacy, str(options.run_folder)))
    out = options.out or _default_folder(options.run_folder)
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file; name a folder")
    sites = prepared_sites(options.data, experiment)
    plan = make_plan((experiment, mechanisms), sites, options.site, options.quick, options.title)
    run_audit(plan, out, at_once)
    print(f"written: {out / 'audit.json'}; the page: fedi2i report {out}")


def _default_folder(run: Path) -> Path:
    return run / "audit" if run.is_dir() else Path("runs/audit")

"""The commands ``fedi2i readers prepare`` and ``fedi2i readers score``."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from fedi2i.commands import Commands

SCORES = "scores"


def add_commands(commands: Commands) -> None:
    """Add the commands of a reader study."""
    prepare = commands.add_parser(
        "prepare", help="draw a blinded reader study from a run: folders for readers, and a key"
    )
    prepare.add_argument("run_folder", type=Path, metavar="RUN", help="folder of a finished run")
    prepare.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="to be written")
    prepare.add_argument(
        "--arm", action="append", required=True, help="whose pictures are judged; may be repeated"
    )
    prepare.add_argument(
        "--seed", type=int, required=True, help="of all that is drawn; readers must not know it"
    )
    prepare.add_argument("--readers", type=int, default=3, help="how many (by default 3)")
    prepare.add_argument(
        "--task", choices=("turing", "preference"), help="only this one (by default both)"
    )
    prepare.add_argument(
        "--question",
        choices=("closer", "better"),
        default="closer",
        help="of the preference: which is closer to the target, shown between, or which is better",
    )
    prepare.add_argument("--site", action="append", default=[], help="only this site's patients")
    prepare.add_argument("--patients", type=int, help="at most so many of each site")
    prepare.add_argument(
        "--repeated", type=float, default=0.2, help="share of cases shown twice (by default 0.2)"
    )
    prepare.set_defaults(run=prepare_command)
    score = commands.add_parser("score", help="score the filled sheets of a reader study")
    score.add_argument("folder", type=Path, help="what 'prepare' wrote, with sheets in 'filled'")
    score.set_defaults(run=score_command)


def prepare_command(options: argparse.Namespace) -> None:
    """Draw a study and write it.

    Raises:
        UserError: the run cannot be used or an option is out of range; nothing is written.
    """
    # Imported here, as help should not wait seconds for pandas.
    from report.readers.design import TASKS, TURING, Plan
    from report.readers.key import KEY_FILE
    from report.readers.preparation import prepare

    every_task = TASKS if len(options.arm) > 1 else (TURING,)
    plan = Plan(
        arms=tuple(options.arm),
        readers=tuple(f"reader-{number}" for number in range(1, options.readers + 1)),
        tasks=(options.task,) if options.task else every_task,
        question=options.question,
        repeated=options.repeated,
        seed=options.seed,
        sites=tuple(options.site),
        patients=options.patients,
    )
    key, gallery = prepare(options.run_folder, plan, options.out)
    for reader, items in key.sheets.items():
        print(f"{options.out / reader}: {len(items)} items; hand this folder to the reader")
    if gallery.left_out:
        print(f"left out: {len(gallery.left_out)} test patient(s) without a picture of every arm")
    print(f"{options.out / KEY_FILE}: the key; readers must not see it")
    if not key.computed:
        print("these are patients' pictures: the folder stays at the site")


def score_command(options: argparse.Namespace) -> None:
    """Score what came back, and write text, tables and a page.

    Raises:
        DataError: the key is damaged, or no sheet can be used; nothing is written.
    """
    from fedi2i.files import write_csv, write_text
    from report.readers.folders import changed_folders
    from report.readers.key import read_key
    from report.readers.page import render_scores
    from report.readers.scores import score
    from report.readers.sheets import read_sheets
    from report.readers.tables import COLUMNS, as_json, console_text, csv_rows

    key = read_key(options.folder)
    scores = score(read_sheets(options.folder, key), key, changed_folders(options.folder, key))
    page, content = render_scores(scores), json.dumps(as_json(scores), indent=1) + "\n"
    text = console_text(scores)
    out = options.folder / SCORES
    write_text(out / "scores.html", page)
    write_text(out / "scores.json", content)
    write_csv(out / "scores.csv", COLUMNS, csv_rows(scores))
    write_text(out / "scores.txt", text + "\n")
    print(f"{text}\n\nwritten: {out}")

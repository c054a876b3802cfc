"""Did the strategies act? A table of their diagnostics, and what FedMA moved, as HTML."""

from __future__ import annotations

from collections.abc import Sequence

from report.actions import StrategyActions
from report.channel_figures import draw_group_moves, draw_moved_curves
from report.channel_moves import group_labels, group_moves, moved_curves
from report.diagnostic_rows import ROLES
from report.diagnostics import SMALLEST_ACTION, OverRounds, StrategyDiagnosis, Verdict
from report.markup import Markup, foldable, joined, note, row, table, tag
from report.number_format import NONE, byte_size, duration, listed, percent, ratio
from report.records import Run
from report.strategy_verdicts import verdict_sentences

NO_ROWS = (
    "Table 4 and Figures 4 and 5 are not shown: the run recorded no strategy diagnostics, so this "
    "report cannot say whether its federated strategies acted."
)
WARNING = (Verdict.NOTHING, Verdict.UNEXPECTED)


def diagnostics_section(run: Run, actions: StrategyActions) -> Markup:
    """Table 4, Figures 4 and 5, or the sentence that nothing was recorded."""
    heading = tag("h2", "Did the strategies act?", id="action")
    said = [
        tag("p", text, class_="remark" if alarming else "")
        for text, alarming in verdict_sentences(actions)
    ]
    jobs = actions.jobs
    if not jobs:
        return tag("section", heading, *said, note(NO_ROWS))
    return tag("section", heading, *said, _table(jobs), _how_to_read(), *_moves(run, jobs))


def _table(jobs: Sequence[StrategyDiagnosis]) -> Markup:
    columns = [
        ("term at the sites", ROLES),
        ("departure at the server", ROLES),
        ("channels moved", ROLES),
    ]
    header = [
        "",
        tag("th", "verdict", scope="col", class_="text"),
        *(
            _head(title, role, divided=index == 0)
            for title, roles in columns
            for index, role in enumerate(roles)
        ),
        _head("sent and received", "per round", divided=True),
        _head("time", "", divided=False),
    ]
    caption = joined(
        [
            tag("b", "Table 4. What each strategy did"),
            " · mean over rounds, below it the last round; channels: first, below it last round",
        ]
    )
    return table(caption, header, [_row(job) for job in jobs], class_="numbers actions")


def _head(title: str, under: str, divided: bool) -> Markup:
    small = tag("small", under) if under else ""
    return tag("th", title, small, scope="col", class_="divided" if divided else "")


def _row(job: StrategyDiagnosis) -> Markup:
    does = job.note.does if job.note else "not known to this report"
    verdict = tag(
        "td", job.verdict.value, class_=f"text{' strong' if job.verdict in WARNING else ''}"
    )
    cells = [verdict]
    for kind in (job.site_ratio, job.server_ratio):
        for index, role in enumerate(ROLES):
            cells.append(_two(*_ratios(kind.get(role)), divided=index == 0))
    for index, role in enumerate(ROLES):
        cells.append(_two(*_moved(job.moved.get(role)), divided=index == 0))
    total = "" if job.bytes_total is None else f"{byte_size(job.bytes_total)} in all"
    cells.append(_two(byte_size(job.bytes_per_round), total, divided=True))
    cells.append(tag("td", duration(job.seconds)))
    return row(joined([job.label, tag("small", does)]), *cells)


def _ratios(found: OverRounds | None) -> tuple[str, str]:
    return (NONE, "") if found is None else (ratio(found.mean), f"last {ratio(found.last)}")


def _moved(found: OverRounds | None) -> tuple[str, str]:
    if found is None:
        return NONE, ""
    return percent(found.first), f"last {percent(found.last)}"


def _two(above: str, below: str, divided: bool) -> Markup:
    lines = [above, tag("br"), tag("small", below)] if below else [above]
    return tag("td", *lines, class_="divided" if divided else "")


def _how_to_read() -> Markup:
    return note(
        "Term at the sites: length of what the strategy adds to a gradient, divided by the length "
        "of the task's gradient, mean over steps and hospitals. Departure at the server: distance "
        "of the new global model from the FedAvg mean of the same updates, divided by the length "
        "of FedAvg's own step; 0 means that the server did what FedAvg would have done, ∞ that "
        "FedAvg would not have moved. Channels moved: fraction that FedMA put in another place "
        "before averaging. Sent and received: arrays to and from all hospitals; the total includes "
        f"the final evaluation. Changed nothing: every one of these numbers stayed below "
        f"{SMALLEST_ACTION:g}, in all rounds and at all hospitals."
    )


def _moves(run: Run, jobs: Sequence[StrategyDiagnosis]) -> list[Markup]:
    parts = []
    curves = moved_curves(run, jobs)
    if curves:
        caption = joined(
            [
                tag("b", "Figure 4. Channels moved per round"),
                ", over all hospitals. From common first weights, channels are expected to stay "
                "where they are; from weights that every hospital drew itself, to move in the "
                "first round and hardly after.",
            ]
        )
        labels = listed([arm.label for arm in curves])
        parts.append(_figure(draw_moved_curves(curves), f"Channels moved: {labels}", caption))
    else:
        parts.append(note("Figure 4 is not shown: no arm recorded moved channels."))
    arms = group_moves(run, jobs)
    if arms:
        caption = joined(
            [
                tag("b", "Figure 5. Channels moved per channel group and round"),
                ", mean over hospitals. Rows: network and layer, shortened; grey: the group was "
                "not matched in that round.",
            ]
        )
        labels = listed([arm.label for arm in arms])
        parts.append(_figure(draw_group_moves(arms), f"Channel groups moved: {labels}", caption))
        parts.append(_full_names(arms[0].groups))
    else:
        parts.append(note("Figure 5 is not shown: no arm recorded moved channels by group."))
    return parts


def _full_names(groups: Sequence[str]) -> Markup:
    short = group_labels(groups)
    items = [part for group in groups for part in (tag("dt", short[group]), tag("dd", group))]
    return foldable("Full names of the channel groups", tag("dl", *items))


def _figure(source: str, alt: str, caption: Markup) -> Markup:
    return tag(
        "figure",
        tag("img", src=source, alt=alt, class_="plot"),
        tag("figcaption", caption),
        class_="curves",
    )

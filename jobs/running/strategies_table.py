"""One line per federated strategy: validation, cost, and whether it did anything."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fedi2i.files import write_csv
from fedi2i.metric_files import MetricRow
from fedi2i.site_names import ALL_SITES
from jobs.running.arm_outcome import ArmOutcome, final_mean

FILE_NAME = "strategies.csv"


@dataclass(frozen=True)
class StrategyLine:
    """A strategy's line.

    Attributes:
        strategy: the job's name.
        psnr: mean over sites of the final model's validation PSNR in dB, or None.
        ssim: the same for SSIM.
        personal_psnr: the same for the sites' personal models (Ditto), or None.
        site_ratio: largest over rounds and networks of ||term|| / ||task gradient|| at the sites.
        server_ratio: largest distance of the server's model from FedAvg's, next to FedAvg's step.
        moved: largest fraction of channels that FedMA moved.
        matchable: smallest share over networks of hidden channels that FedMA could move.
        megabytes: arrays sent and received, in 10^6 bytes.
        seconds: wall time.
    """

    strategy: str
    psnr: float | None
    ssim: float | None
    personal_psnr: float | None
    site_ratio: float | None
    server_ratio: float | None
    moved: float | None
    matchable: float | None
    megabytes: float
    seconds: float


def strategy_line(arm: ArmOutcome) -> StrategyLine:
    """The line of a finished arm, from its metrics file."""
    rows = arm.rows
    return StrategyLine(
        strategy=arm.name,
        psnr=final_mean(rows, "val/psnr"),
        ssim=final_mean(rows, "val/ssim"),
        personal_psnr=final_mean(rows, "personal/psnr"),
        site_ratio=_largest(rows, "strategy/ratio_"),
        server_ratio=_largest(rows, "strategy/server_ratio_"),
        moved=_largest(rows, "fedma/moved_"),
        matchable=min(_values(rows, "fedma/matchable_"), default=None),
        megabytes=arm.bytes_sent / 1e6,
        seconds=arm.seconds,
    )


def write_strategies(out: Path, lines: Sequence[StrategyLine]) -> Path:
    """Write ``strategies.csv`` into a run folder."""
    names = list(StrategyLine.__dataclass_fields__)
    values = ([getattr(line, name) for name in names] for line in lines)
    rows = (["" if value is None else value for value in row] for row in values)
    write_csv(out / FILE_NAME, names, rows)
    return out / FILE_NAME


def strategies_text(lines: Sequence[StrategyLine]) -> str:
    """The lines as a table for the console."""
    width = max(len(line.strategy) for line in lines) + 1
    head = f"{'strategy':<{width}}{'PSNR':>7}{'SSIM':>8}{'personal':>10}{'site':>8}{'server':>8}"
    head += f"{'moved':>8}{'of':>6}{'MB':>9}{'s':>7}"
    rows = [
        f"{line.strategy:<{width}}{_number(line.psnr, 7, 2)}{_number(line.ssim, 8, 4)}"
        f"{_number(line.personal_psnr, 10, 2)}{_number(line.site_ratio, 8, 4)}"
        f"{_number(line.server_ratio, 8, 3)}{_number(line.moved, 8, 3)}"
        f"{_number(line.matchable, 6, 2)}{_number(line.megabytes, 9, 1)}"
        f"{_number(line.seconds, 7, 0)}"
        for line in lines
    ]
    legend = (
        "PSNR (dB), SSIM: final model, mean over sites of their validation patients.\n"
        "personal: PSNR of the sites' own models. site: strategy's term over task gradient;\n"
        "server: distance from FedAvg over FedAvg's step; moved: channels; each the largest of\n"
        "all rounds. of: share of hidden channels that can be matched at all. MB: arrays sent and\n"
        "received."
    )
    return "\n".join([head, *rows, legend])


def _largest(rows: Sequence[MetricRow], prefix: str) -> float | None:
    return max(_values(rows, prefix), default=None)


def _values(rows: Sequence[MetricRow], prefix: str) -> list[float]:
    return [row[3] for row in rows if row[0] == ALL_SITES and row[2].startswith(prefix)]


def _number(value: float | None, width: int, digits: int) -> str:
    return f"{'-':>{width}}" if value is None else f"{value:>{width}.{digits}f}"

"""What each strategy is known to do, and so where its diagnostics are expected to differ from 0.

The report reads files only; these notes are its own knowledge of the strategies' names.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class StrategyNote:
    """One strategy.

    Attributes:
        does: what it adds to FedAvg, in a few words.
        acts: whether a ratio or a moved fraction shows its action. Where it does not, equal to 0 is
            what these are meant to be.
    """

    does: str
    acts: bool


STRATEGY_NOTES = {
    "fedavg": StrategyNote("weighted mean", False),
    "fedavg_independent": StrategyNote("weighted mean, own first weights", False),
    "fedprox": StrategyNote("proximal term at the sites", True),
    "fedma": StrategyNote("matches channels, then averages", True),
    "fedma_independent": StrategyNote("matches channels, own first weights", True),
    "fedma_layerwise": StrategyNote("matches one layer per round", True),
    "fedavgm": StrategyNote("server momentum", True),
    "fedadam": StrategyNote("adaptive server step", True),
    "fedyogi": StrategyNote("adaptive server step", True),
    "fedbn": StrategyNote("normalisation stays at the site", False),
    "fedper": StrategyNote("a part of the model stays at the site", False),
    "scaffold": StrategyNote("control variates at the sites", True),
    "feddyn": StrategyNote("dynamic term, sites and server", True),
    "ditto": StrategyNote("personal model pulled to the global", True),
    "fedmedian": StrategyNote("median instead of mean", True),
    "trimmed_mean": StrategyNote("mean without extremes", True),
    "cyclic": StrategyNote("model goes from site to site", False),
    "swarm": StrategyNote("weighted mean, made at the sites", False),
}

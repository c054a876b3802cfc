"""Everything known about whether the federated strategies of a run acted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from report.diagnostics import StrategyDiagnosis, diagnoses
from report.equal_results import equal_to_reference, families_of_equal_models
from report.methods import Method, reference_method
from report.records import Run


@dataclass(frozen=True)
class StrategyActions:
    """What the strategies did, by their diagnostics and by their results.

    Attributes:
        jobs: the diagnostics of every federated job; empty when the run recorded none.
        reference: the method that results are compared with, or None.
        equal: global strategies whose every test value is that of the reference.
        equal_models: personal strategies whose models of all sites give equal values.
    """

    jobs: tuple[StrategyDiagnosis, ...]
    reference: Method | None
    equal: tuple[Method, ...]
    equal_models: tuple[Method, ...]


def strategy_actions(
    run: Run, methods: Sequence[Method], patients: pd.DataFrame
) -> StrategyActions:
    """Collect it.

    Args:
        run: the run.
        methods: its methods.
        patients: columns method, site, subject, metric, value.
    """
    return StrategyActions(
        jobs=diagnoses(run, methods),
        reference=reference_method(methods),
        equal=equal_to_reference(patients, methods),
        equal_models=families_of_equal_models(run, methods),
    )

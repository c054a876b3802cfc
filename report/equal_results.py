"""Models that give equal values for every patient: what a strategy left without any effect."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from report.methods import Method, federated_methods, personal_methods, reference_method
from report.records import Run


def equal_to_reference(patients: pd.DataFrame, methods: Sequence[Method]) -> tuple[Method, ...]:
    """The global strategies whose every test value is that of the reference (FedAvg).

    Args:
        patients: columns method, site, subject, metric, value.
        methods: the methods of the run.
    """
    reference = reference_method(methods)
    others = [method for method in federated_methods(methods) if method != reference]
    if reference is None or reference.kind != "federated":
        return ()
    table = patients.pivot(index=["site", "subject", "metric"], columns="method", values="value")
    return tuple(m for m in others if table[m.name].equals(table[reference.name]))


def families_of_equal_models(run: Run, methods: Sequence[Method]) -> tuple[Method, ...]:
    """The personal strategies whose models of all sites give equal values for every patient."""
    test = run.test_rows
    found = []
    for method in personal_methods(methods):
        names = [arm.name for arm in method.arms]
        rows = test[test["arm"].isin(names)]
        spread = rows.groupby(["site", "subject", "metric"])["value"].nunique()
        if len(names) > 1 and (spread == 1).all():
            found.append(method)
    return tuple(found)

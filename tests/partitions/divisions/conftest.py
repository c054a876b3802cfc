"""Patients without scans: a division looks at manifests alone."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from partitions.divisions.patients import Patient
from partitions.manifest import SubjectRecord

MakePatient = Callable[..., Patient]


@pytest.fixture
def person() -> MakePatient:
    """Make a patient; several dictionaries of metadata are several scans."""

    def make(
        name: str,
        *metadata: dict[str, Any],
        site: str = "pool",
        sequences: tuple[str, ...] = ("t1", "t2"),
    ) -> Patient:
        records = tuple(
            SubjectRecord(
                f"{name}-{number}",
                site,
                "train",
                {sequence: f"{name}-{number}/{sequence}.nii.gz" for sequence in sequences},
                metadata={"patient_id": name, **said},
            )
            for number, said in enumerate(metadata or ({},))
        )
        return Patient(site, name, records)

    return make


@pytest.fixture
def eighty(person: MakePatient) -> list[Patient]:
    """Eighty patients in categories of 40, 24 and 16."""
    vendors = ["GE"] * 40 + ["Philips"] * 24 + ["Siemens"] * 16
    return [
        person(f"P{number:02d}", {"manufacturer": vendor, "age": 20 + number % 50})
        for number, vendor in enumerate(vendors)
    ]

"""The pictures that readers see: test patients alone, all of one size, and nothing but grey.

What could tell arms apart without being looked at is taken away: the background outside the mask,
where networks leave traces that no metric looks at, is black; all pictures have the same number of
pixels and the same grey window; files hold no text and no compression, which would make smooth
pictures smaller.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from fedi2i.errors import DataError
from report.figures.pictures import content_box, grey, pictured_arm
from report.numbers.rows import TableRow, table_rows
from report.readers.design import TARGET, Patient
from report.run.records import SOURCE, Run, Site, Slice

Grey = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Gallery:
    """The pictures of a reader study.

    Attributes:
        patients: who is shown, site by site.
        left_out: test patients of the sites without a picture of every arm.
        pictures: patient and what it shows (``target`` or an arm's name) to grey values 0 to 255,
            all of one shape (rows, columns), row 0 anterior.
        models: arm and site to the model whose picture stands for the arm there.
    """

    patients: tuple[Patient, ...]
    left_out: tuple[Patient, ...]
    pictures: Mapping[tuple[Patient, str], Grey]
    models: Mapping[tuple[str, str], str]


def chosen_rows(run: Run, names: Sequence[str]) -> tuple[TableRow, ...]:
    """The rows of the results table that the arms of a study are.

    Raises:
        DataError: an arm is unknown, named twice, has no pictures by its nature or has diverged.
    """
    known = {row.name: row for row in table_rows(run) if row.is_trained or row.name == SOURCE}
    for name in names:
        if name not in known:
            raise DataError(
                f"{run.folder}: has no pictures of an arm '{name}'; there are {', '.join(known)}"
            )
        if known[name].diverged:
            raise DataError(f"{run.folder}: arm '{name}' has diverged; leave it out")
    if len(set(names)) < len(names):
        raise DataError("--arm: an arm is named twice; name each once")
    return tuple(known[name] for name in names)


def gather(run: Run, rows: Sequence[TableRow], sites: Sequence[str], most: int | None) -> Gallery:
    """Choose the patients and make their pictures.

    Args:
        run: the files read.
        rows: the arms.
        sites: names of the sites whose patients are shown; all of them where empty.
        most: largest number of patients of a site, or None for all. They are spread evenly over
            the site's patients in the order of the first arm's PSNR, worst and best included.

    Raises:
        DataError: a site is unknown, pictures of other than test patients are stored, or fewer than
            two patients have all pictures.
    """
    refuse_other_splits(run)
    eligible, left_out = [], []
    for site in _sites(run, sites):
        ordered = _by_psnr(run, rows[0], site)
        whole = [one for one in ordered if _stored(run, rows, site, one)]
        left_out += [one for one in ordered if one not in whole]
        eligible += spread(whole, most)
    if len(eligible) < 2:
        raise DataError(
            f"{run.folder / 'slices.npz'}: holds the target and all arms of {len(eligible)} test "
            "patient(s), and a reader study needs two; name fewer arms or other sites, or evaluate "
            "again"
        )
    models = {
        (row.name, site.name): arm.name
        for row in rows
        for site in run.about.sites
        if (arm := pictured_arm(run, row, site)) is not None
    }
    return Gallery(tuple(eligible), tuple(left_out), _pictures(run, rows, eligible, models), models)


def refuse_other_splits(run: Run) -> None:
    """Refuse a run that stores pictures of training or validation patients.

    A model has seen them, so that its pictures of them say nothing of new patients.

    Raises:
        DataError: a patient with pictures has no test rows, or rows of another split.
    """
    splits: dict[tuple[str, str], set[str]] = {}
    for site, subject, split in set(
        run.results[["site", "subject", "split"]].itertuples(index=False, name=None)
    ):
        splits.setdefault((site, subject), set()).add(split)
    for site, subject in sorted({key[:2] for key in run.slices}):
        found = splits.get((site, subject), set())
        if found != {"test"}:
            what = " and ".join(sorted(found - {"test"})) or "no"
            raise DataError(
                f"{run.folder / 'slices.npz'}: shows subject '{subject}' of site '{site}', who is "
                f"of the split {what} in results.csv; readers judge test patients only, so "
                "evaluate again with test patients"
            )


def spread(ordered: Sequence[Patient], most: int | None) -> list[Patient]:
    """At most so many of them, evenly spread, first and last included; of one the lower median."""
    if most is None or most >= len(ordered):
        return list(ordered)
    if most == 1:
        return [ordered[(len(ordered) - 1) // 2]]
    return [ordered[round(place)] for place in np.linspace(0, len(ordered) - 1, most)]


def png(picture: Grey) -> bytes:
    """A grey PNG file without text and without compression: equal shapes give equal sizes."""
    stream = io.BytesIO()
    Image.fromarray(picture, mode="L").save(stream, format="png", compress_level=0)
    return stream.getvalue()


def _sites(run: Run, names: Sequence[str]) -> tuple[Site, ...]:
    known = {site.name: site for site in run.about.sites}
    for name in names:
        if name not in known:
            raise DataError(f"--site {name}: no such site in the run; there are {', '.join(known)}")
    return tuple(site for name, site in known.items() if not names or name in names)


def _by_psnr(run: Run, row: TableRow, site: Site) -> list[Patient]:
    """A site's test patients by mean PSNR of an arm, worst first, equal ones by identifier."""
    test = run.test_rows
    own = test[
        (test["metric"] == "psnr")
        & (test["site"] == site.name)
        & test["arm"].isin([arm.name for arm in row.arms_at(site)])
    ]
    means = own.groupby("subject")["value"].mean()
    return [Patient(site.name, s) for s in sorted(means.index, key=lambda s: (means[s], s))]


def _stored(run: Run, rows: Sequence[TableRow], site: Site, patient: Patient) -> bool:
    arms = [pictured_arm(run, row, site) for row in rows]
    wanted = [TARGET, *(arm.name if arm is not None else "" for arm in arms)]
    return all((patient.site, patient.subject, what) in run.slices for what in wanted)


def _pictures(
    run: Run,
    rows: Sequence[TableRow],
    patients: Iterable[Patient],
    models: Mapping[tuple[str, str], str],
) -> dict[tuple[Patient, str], Grey]:
    cut: dict[tuple[Patient, str], Grey] = {}
    for patient in patients:
        mask = run.slices.get((patient.site, patient.subject, "mask"))
        stored = {row.name: models[row.name, patient.site] for row in rows} | {TARGET: TARGET}
        for what, key in stored.items():
            cut[patient, what] = _cut(run.slices[patient.site, patient.subject, key], mask)
    rows_needed = max(picture.shape[0] for picture in cut.values())
    columns_needed = max(picture.shape[1] for picture in cut.values())
    return {key: centred(one, (rows_needed, columns_needed)) for key, one in cut.items()}


def _cut(picture: Slice, mask: Slice | None) -> Grey:
    """Grey values around the mask, black outside it."""
    inside = picture if mask is None else np.where(mask > 0.5, picture, np.float32(0))
    levels: Grey = grey(inside)[content_box(mask, picture.shape)][:, :, 0]
    return levels


def centred(picture: Grey, shape: tuple[int, int]) -> Grey:
    """The picture in the middle of a black one of this shape, which is not smaller."""
    whole = np.zeros(shape, dtype=np.uint8)
    top, left = ((large - small) // 2 for large, small in zip(shape, picture.shape, strict=True))
    whole[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return whole

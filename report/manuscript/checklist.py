"""The CLAIM checklist (2024 update, doi:10.1148/ryai.240300), filled from a study's files.

The numbers and subjects of its 44 items are the checklist's, their words are ours. What the files
do not hold is left to the author, and no item counts as met by this page: a manuscript meets it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from report.manuscript import methods
from report.manuscript.references import Sentence
from report.manuscript.settings import setting
from report.number_format import NONE, counted, listed
from report.numbers.over_seeds.study import StudyAnalysis

FILLED, PARTLY, AUTHOR, NOT_APPLICABLE = "filled", "in part", "for the author", "not applicable"

SUBJECTS = {
    "Title and abstract": {
        1: "The title says that it is a study of artificial intelligence, and of which kind",
        2: "The abstract sums up design, methods, results and conclusions",
    },
    "Introduction": {
        3: "Background, and what the method is meant to be used for",
        4: "Aims and hypotheses",
    },
    "Study design": {
        5: "Prospective or retrospective",
        6: "What kind of study it is",
    },
    "Data": {
        7: "Where the data come from",
        8: "Who was included and who was left out",
        9: "How images were prepared",
        10: "Which parts of the data were taken",
        11: "How identities were removed",
        12: "What was done about missing data",
        13: "How images were acquired",
    },
    "Reference standard": {
        14: "What the reference is",
        15: "Why this reference",
        16: "Who annotated, with which experience",
        17: "How the test set was annotated",
        18: "How far annotators agree",
    },
    "Partitions": {
        19: "How patients were assigned to training, validation and test",
        20: "At which level the parts share nothing",
        21: "How large the test set was meant to be",
    },
    "Model and training": {
        22: "The model, in detail",
        23: "Software",
        24: "First weights",
        25: "How it was trained",
        26: "How the final model was chosen",
        27: "Ensembles",
    },
    "Evaluation": {
        28: "Measures of performance",
        29: "Uncertainty and tests",
        30: "Robustness",
        31: "Explanation of what the model does",
        32: "Tests on the federation's own sites",
        33: "Tests on data from elsewhere",
        34: "Registration of a clinical trial",
    },
    "Results": {
        35: "Numbers of patients included and left out",
        36: "Who the patients were, by part",
        37: "Performance with its uncertainty",
        38: "Diagnostic performance",
        39: "Where the model failed",
    },
    "Discussion and other": {
        40: "Limitations",
        41: "What it means for practice",
        42: "Where the protocol is",
        43: "Where software, models and data can be had",
        44: "Funding, and what funders decided",
    },
}
"""Section to item number to its subject, in our words."""


@dataclass(frozen=True)
class Item:
    """One item of the checklist.

    Attributes:
        number: in the 2024 update.
        subject: what it asks for, in our words.
        state: ``filled``, ``in part``, ``for the author`` or ``not applicable``.
        answer: what the study's files say; a dash where they say nothing.
    """

    number: int
    subject: str
    state: str
    answer: str


Answer = tuple[str, str]
"""State and answer."""
_UNKNOWN: Answer = (AUTHOR, NONE)


def checklist(analysis: StudyAnalysis) -> Mapping[str, tuple[Item, ...]]:
    """Every item by its section."""
    answers = {
        **_design(analysis),
        **_data(analysis),
        **_reference(analysis),
        **_partitions(analysis),
        **_model(analysis),
        **_evaluation(analysis),
        **_results(analysis),
    }
    return {
        section: tuple(
            Item(number, subject, *answers.get(number, _UNKNOWN))
            for number, subject in items.items()
        )
        for section, items in SUBJECTS.items()
    }


def _design(analysis: StudyAnalysis) -> dict[int, Answer]:
    study, tests = analysis.study, analysis.primary
    computed = study.first.about.computed
    answers = {
        5: (NOT_APPLICABLE, "The images are computed.") if computed else _UNKNOWN,
        6: (FILLED, f"A comparison of {counted(len(analysis.rows), 'arm')}, each trained "
            f"{counted(len(study.runs), 'time')}."),
        42: (PARTLY, f"study.json, begun {study.about.created}, design {study.about.design[:12]}."),
    }  # fmt: skip
    if tests is not None:
        unit = f" {tests.metric.unit}" if tests.metric.unit else ""
        answers[4] = (
            PARTLY,
            f"Named before the first run: {tests.metric.label}, {tests.reference.label} against "
            f"every other arm, margin of equivalence {study.about.margin:g}{unit}. "
            "The hypothesis behind it is for the author.",
        )
    return answers


def _data(analysis: StudyAnalysis) -> dict[int, Answer]:
    about = analysis.study.first.about
    dataset = setting(about.experiment, "data.dataset")
    described = [f"{site.name}: {site.description}" for site in about.sites if site.description]
    fraction = setting(about.experiment, "data.preparation.min_mask_fraction")
    undefined = analysis.study.first.undefined
    sources = f"Data set {dataset}; " if dataset else ""
    sources += f"sites {listed([site.name for site in about.sites])}."
    return {
        7: (PARTLY, sources + (" Computed, not acquired." if about.computed else "")),
        9: _said(methods.preparation(about)),
        10: (FILLED, f"Slices whose mask covers less than {100 * fraction:g} % of them were left "
             "out.") if isinstance(fraction, float) else _UNKNOWN,
        11: (NOT_APPLICABLE, "The images are computed and of nobody.") if about.computed
        else _UNKNOWN,
        12: (PARTLY, f"Measures not defined for some patients: {listed(list(undefined))}.")
        if undefined else _UNKNOWN,
        13: (PARTLY, f"{'; '.join(described)}.") if described else _UNKNOWN,
        36: (PARTLY, f"{'; '.join(described)}.") if described else _UNKNOWN,
    }  # fmt: skip


def _reference(analysis: StudyAnalysis) -> dict[int, Answer]:
    about = analysis.study.first.about
    target = setting(about.experiment, "data.preparation.target")
    kind = "computed" if about.computed else "acquired"
    answers: dict[int, Answer] = {14: _UNKNOWN}
    if target:
        answers[14] = (FILLED, f"The {kind} {target} image of the same patient.")
    if not any("lesion" in table.metric.name for table in analysis.tables):
        none = "Nobody annotated: the reference is an image."
        answers |= {number: (NOT_APPLICABLE, none) for number in (16, 17, 18)}
    return answers


def _partitions(analysis: StudyAnalysis) -> dict[int, Answer]:
    about = analysis.study.first.about
    counts = (f"{s.name} {s.train} / {s.val} / {s.test}" for s in about.sites)
    said = f"Patients for training / validation / test: {'; '.join(counts)}."
    return {
        19: (PARTLY, f"{said} The rule of the draw is for the author."),
        20: (FILLED, "The patient."),
        21: (PARTLY, f"{counted(len(analysis.study.runs), 'run')} per arm and the test patients of "
             "Table A1; why so many is for the author."),
        35: (PARTLY, f"{said} Who was left out is for the author."),
    }  # fmt: skip


def _model(analysis: StudyAnalysis) -> dict[int, Answer]:
    about = analysis.study.first.about
    notes = {arm.note for row in analysis.rows if row.is_trained for arm in row.arms if arm.note}
    ensembles = [row.label for row in analysis.rows if "ensemble" in row.name]
    start = setting(about.experiment, "strategy.initialisation")
    weights = "Drawn with the seed; arms of one seed share them"
    return {
        22: _said(methods.model(about)),
        23: _said(methods.software(about)),
        24: (FILLED, f"{weights}{', unless an arm says otherwise' if start else ''}."),
        25: _said(methods.training(analysis)),
        26: (FILLED, f"{listed(sorted(notes))[:1].upper()}{listed(sorted(notes))[1:]}.")
        if notes else _UNKNOWN,
        27: (FILLED, f"{listed(ensembles)}.") if ensembles else (NOT_APPLICABLE, "None."),
    }  # fmt: skip


def _evaluation(analysis: StudyAnalysis) -> dict[int, Answer]:
    about = analysis.study.first.about
    said = list(methods.evaluation(analysis))
    measures = 1 + any("grey-level co-occurrence" in sentence.text for sentence in said)
    unseen = [f"{site.name} ({counted(site.test, 'patient')})" for site in about.unseen_sites]
    count = sum(site.test for site in about.federated_sites)
    return {
        28: _said(said[:measures]),
        29: _said(said[measures:]),
        30: (PARTLY, "The spread between runs stands beside every difference (Table 2)."),
        32: (FILLED, f"{counted(count, 'test patient')} of the federated sites (Table 1)."),
        33: (FILLED, f"{listed(unseen)}, where nobody trained (Table 1).") if unseen
        else (NOT_APPLICABLE, "No site was left out of training."),
        34: (NOT_APPLICABLE, "The images are computed.") if about.computed else _UNKNOWN,
    }  # fmt: skip


def _results(analysis: StudyAnalysis) -> dict[int, Answer]:
    study = analysis.study
    release = study.about.release
    gaps = f" Left out: {' '.join(study.gaps)}" if study.gaps else ""
    return {
        37: (FILLED, "Tables 1 and 2, with spreads between runs and 95 % intervals."),
        38: (NOT_APPLICABLE, "No diagnosis was made."),
        39: (PARTLY, "The page of every run shows each site's worst, median and best patient."
             + gaps),
        40: (PARTLY, "The section Limitations; what the files cannot know is for the author."),
        43: (PARTLY, f"Software: FedI2I {release}. Data are identified by the hashes in the "
             "appendix; where they and the models can be had is for the author."),
    }  # fmt: skip


def _said(sentences: Iterable[Sentence]) -> Answer:
    text = " ".join(f"{sentence.text}." for sentence in sentences)
    return (FILLED, text) if text else _UNKNOWN


def count_by_state(items: Mapping[str, tuple[Item, ...]]) -> dict[str, int]:
    """How many items there are of every state."""
    states = [item.state for section in items.values() for item in section]
    return {state: states.count(state) for state in (FILLED, PARTLY, AUTHOR, NOT_APPLICABLE)}

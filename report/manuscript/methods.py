"""The methods of a study in sentences, by subject."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from report.manuscript.references import (
    BINKOWSKI,
    DORFMAN,
    HARALICK,
    HILLIS,
    HOLM,
    METRICS,
    MODELS,
    SCHUIRMANN,
    SOFTWARE,
    Sentence,
    of_strategy,
)
from report.manuscript.settings import TIMES, numbers_text, setting
from report.number_format import counted, epsilon_text, listed
from report.numbers.over_seeds.crossed_t import FEWEST_SEEDS
from report.numbers.over_seeds.study import StudyAnalysis
from report.numbers.rows import TableRow
from report.numbers.statistics import ALPHA
from report.run.records import Run, RunDescription, Site

PACKAGES = {"torch": "PyTorch", "nvflare": "NVIDIA FLARE", "monai": "MONAI"}
"""The packages that the methods name, as they call themselves; all others are in the appendix."""

HOSTILE = {
    "flip": "the received model with its update reversed, times {factor}",
    "scale": "the received model with its update times {factor}",
    "noise": "the received model with normal noise of {factor} times its update's length",
    "zeros": "zeros",
}
"""What a hostile site sends, as run.json names it and as a paper says it."""


def methods(analysis: StudyAnalysis) -> list[list[Sentence]]:
    """Paragraphs of sentences, in the order of a paper's methods: data, model, tests, software."""
    run = analysis.study.first
    about = run.about
    return [
        [*data(about), *preparation(about)],
        [*model(about), *training(analysis), *strategies(analysis.rows), *privacy(run)],
        list(evaluation(analysis)),
        list(software(about)),
    ]


def data(about: RunDescription) -> Iterator[Sentence]:
    """Who was in which split at which site."""
    sites = about.federated_sites
    patients = sum(site.train + site.val + site.test for site in about.sites)
    yield Sentence(
        f"The images are those of {counted(patients, 'patient')}. Training took place at "
        f"{counted(len(sites), 'site')}: {listed(list(map(_splits, sites)))}"
    )
    unseen = [f"{site.name} ({counted(site.test, 'patient')})" for site in about.unseen_sites]
    if unseen:
        yield Sentence(f"For external testing only there was {listed(unseen)}")
    if about.computed:
        yield Sentence("All images are computed, not acquired")
    yield Sentence("Patients were divided, not slices, so that a patient is in one split alone")


def _splits(site: Site) -> str:
    return f"{site.name} ({site.train} training, {site.val} validation, {site.test} test patients)"


def preparation(about: RunDescription) -> Iterator[Sentence]:
    """From images to slices."""

    def said(key: str) -> object:
        return setting(about.experiment, f"data.preparation.{key}")

    source, target, size = said("source"), said("target"), said("size")
    further = said("further_sources")
    if isinstance(further, (list, tuple)):
        source = f"{listed([str(source), *further])}, as far as a patient has them,"
    if source and target:
        pairs = {"paired": ", by pairs of one patient", "unpaired": ", without pairs"}
        yield Sentence(
            f"Images were translated from {source} to {target}{pairs.get(str(said('pairing')), '')}"
        )
    if size:
        spacing = f" of {numbers_text(said('spacing'), TIMES)} mm" if said("spacing") else ""
        yield Sentence(f"Slices have {numbers_text(size, TIMES)} pixels{spacing}")
    if said("percentiles") and not said("source_scaling") and not said("target_scaling"):
        yield Sentence(
            f"Of every volume the {numbers_text(said('percentiles'), ' and ')} percentiles inside "
            "the mask became 0 and 1, and values beyond them were clipped"
        )
    if said("registration") == "headers":
        yield Sentence(
            "Targets were resampled to the grids of their sources by the positions in their headers"
        )
    elif said("registration") not in (None, "none"):
        yield Sentence(f"Targets were registered to their sources ({said('registration')})")
    if said("bias_correction") not in (None, "none"):
        yield Sentence(f"Bias fields were corrected ({str(said('bias_correction')).upper()})")


def model(about: RunDescription) -> Iterator[Sentence]:
    """The networks and their losses."""

    def said(key: str) -> object:
        return setting(about.experiment, f"model.{key}")

    name = said("name")
    if not name:
        return
    works = (MODELS[str(name)],) if name in MODELS else ()
    parts = []
    if said("module.kind"):
        parts.append(f"Lightning module {said('module.kind')}, with optimizers of its own")
    if said("generator.kind"):
        channels = said("generator.channels")
        width = f" with {numbers_text(channels, ', ')} channels" if channels else ""
        parts.append(f"generator {said('generator.kind')}{width}")
    if said("adversarial_loss"):
        parts.append(f"adversarial loss {said('adversarial_loss')}")
    if said("lambda_l1") is not None:
        parts.append(f"weight of the L1 term {numbers_text(said('lambda_l1'), '')}")
    if said("lambda_features"):
        weight = numbers_text(said("lambda_features"), "")
        parts.append(f"weight of the feature matching {weight}")
    ending = f" ({'; '.join(parts)})" if parts else ""
    yield Sentence(f"The model was {name}{ending}", works)
    if dropped := said("contrast_dropout"):
        yield Sentence(
            "A training slice of several contrasts lost some of them with the probability "
            f"{numbers_text(dropped, '')}, drawn evenly among all smaller sets but the empty one"
        )
    if neighbours := said("neighbours"):
        yield Sentence(
            "Beside each slice the generator was shown the source's neighbouring slices, "
            f"{neighbours} on either side"
        )
    if patch := said("patch"):
        yield Sentence(
            "The networks were trained on patches of the volumes, of "
            f"{numbers_text(patch, ' x ')} voxels (slices, rows, columns), and whole volumes were "
            "translated by overlapping windows of that size"
        )


def training(analysis: StudyAnalysis) -> Iterator[Sentence]:
    """How long and with which optimizer, and with how many seeds."""
    experiment = analysis.study.first.about.experiment

    def said(key: str) -> Any:
        return setting(experiment, f"training.{key}")

    if said("rounds") and said("steps"):
        batch = f" with batches of {said('batch_size')}" if said("batch_size") else ""
        yield Sentence(
            f"Federated arms were trained for {said('rounds')} rounds of {said('steps')} steps per "
            f"site{batch}"
        )
    yield from departures(analysis.study.first.about)
    if said("optimizer"):
        rates = {role: said(f"learning_rate_{role}") for role in ("generator", "discriminator")}
        named = [f"{numbers_text(rate, '')} for the {role}" for role, rate in rates.items() if rate]
        ending = f" with a learning rate of {listed(named)}" if named else ""
        yield Sentence(f"The optimizer was {str(said('optimizer')).capitalize()}{ending}")
    if said("schedule") not in (None, "constant"):
        yield Sentence(f"Learning rates followed a {said('schedule')} schedule over the whole run")
    if said("warm_up"):
        yield Sentence(f"They rose over the first {said('warm_up'):.0%} of every round's steps")
    changes = [f"{key} {value:g}" for key, value in (said("augmentation") or {}).items() if value]
    if changes:
        yield Sentence(
            f"Training slices were augmented anew in every step, at most by {listed(changes)}"
        )
    steps = {arm.steps for row in analysis.rows if row.is_trained for arm in row.arms}
    if len(steps) == 1 and None not in steps:
        yield Sentence("All trained arms took the same number of optimizer steps")
    seeds = len(analysis.study.runs)
    yield Sentence(
        f"Every arm was trained {counted(seeds, 'time')} with different seeds; arms of one seed "
        "share the order of slices and, where no independent start is named, their first weights"
    )


def departures(about: RunDescription) -> Iterator[Sentence]:
    """What sites did otherwise than train every round's steps and send what they learnt."""
    missing = about.participation.get("missing")
    if missing:
        yield Sentence(f"By plan a site missed a round with a probability of {missing:g}")
    parts = about.participation.get("stragglers") or {}
    if parts:
        named = [f"{site} {part:.0%}" for site, part in sorted(parts.items())]
        yield Sentence(f"By plan these sites did a part of every round's steps: {listed(named)}")
    for site, plan in sorted(about.hostile.items()):
        sent = HOSTILE.get(str(plan.get("does")), str(plan.get("does")))
        factor = f"{plan.get('factor', 1.0):g}"
        yield Sentence(
            f"The site {site} was hostile by plan: in place of the model it had trained it sent "
            f"{sent.format(factor=factor)}"
        )


def strategies(rows: Sequence[TableRow]) -> Iterator[Sentence]:
    """What was compared."""
    federated = [row for row in rows if row.is_federated]
    others = [f"{row.label[:1].lower()}{row.label[1:]}" for row in rows if not row.is_federated]
    if federated:
        works = tuple(work for row in federated for work in of_strategy(row.arms[0]))
        labels = listed([row.label for row in federated])
        yield Sentence(f"The federated strategies were {labels}", works)
    if others:
        yield Sentence(f"The baselines were {listed(others)}")


def privacy(run: Run) -> Iterator[Sentence]:
    """Which jobs carried a mechanism, and what it promises."""
    private = {arm.job: arm for arm in run.about.arms if arm.privacy}
    if not private:
        yield Sentence("No privacy mechanism was used")
    for arm in private.values():
        promised = arm.privacy
        if promised is None:
            continue
        spent = "" if promised.epsilon is None else f", {epsilon_text(promised.epsilon)}"
        at = "" if promised.delta is None else f" at δ = {promised.delta:g}"
        yield Sentence(
            f"{arm.family_label or arm.label} was trained under {promised.label}{spent}{at}"
        )


def evaluation(analysis: StudyAnalysis) -> Iterator[Sentence]:
    """Outcome, metrics and tests."""
    study, tests = analysis.study, analysis.primary
    metrics = [table.metric for table in analysis.tables]
    mask = study.first.about.preset.get("mask")
    where = f" (mask: {mask})" if mask else ""
    works = tuple(METRICS[metric.name] for metric in metrics if metric.name in METRICS)
    labels = [metric.label.partition(" (")[0] for metric in metrics]
    yield Sentence(
        f"Every test patient was measured by {listed(labels)}{where}",
        works,
    )
    if all(run.distributions is not None for run in study.runs.values()):
        yield Sentence(
            "Sets of slices were compared with the real ones by a polynomial-kernel maximum mean "
            "discrepancy over pairs of slices of different patients, of features of a denoising "
            "network trained on the training patients' targets, and by a texture distance on "
            "grey-level co-occurrence; the values hold within these data only",
            (BINKOWSKI, HARALICK),
        )
    if tests is None:
        return
    unit = f" {tests.metric.unit}" if tests.metric.unit else ""
    patients = listed(list(tests.population.sites))
    yield Sentence(
        f"The primary outcome, named before the first run, was {tests.metric.label} over the test "
        f"patients of {patients}, {tests.reference.label} against every other trained arm"
    )
    if len(study.runs) < FEWEST_SEEDS:
        yield Sentence(
            f"With fewer than {FEWEST_SEEDS} runs differences were described, not tested"
        )
        return
    yield Sentence(
        "Differences were tested by a crossed t over training runs and patients, both taken as "
        "drawn, two-sided, with Satterthwaite's degrees of freedom",
        (DORFMAN, HILLIS),
    )
    yield Sentence(
        f"The {counted(len(tests.comparisons), 'comparison')} of the primary outcome were "
        f"corrected by Holm's method at {ALPHA}",
        (HOLM,),
    )
    yield Sentence(
        f"Equivalence within a margin of {study.about.margin:g}{unit} was tested by two one-sided "
        f"tests at {ALPHA}",
        (SCHUIRMANN,),
    )
    yield Sentence("Secondary outcomes were not corrected and describe")


def software(about: RunDescription) -> Iterator[Sentence]:
    """Releases and the machine."""
    versions = about.versions
    named = [f"{label} {versions[key]}" for key, label in PACKAGES.items() if key in versions]
    works = tuple(work for key, work in SOFTWARE.items() if key in versions)
    if "fedi2i" in versions:
        named = [f"FedI2I {versions['fedi2i']}", *named]
    if named:
        yield Sentence(f"Software: {listed(named)}", works)
    machine = about.machine
    if "cpu" in machine and "cores" in machine:
        accelerator = machine.get("accelerator", "cpu")
        beside = "" if accelerator == "cpu" else f" and {accelerator}"
        yield Sentence(f"All runs were made on {machine['cpu']}, {machine['cores']} cores{beside}")

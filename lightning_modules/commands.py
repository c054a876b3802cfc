"""``train``, ``evaluate`` and ``channels``: train without a federation, look into networks."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Protocol

from fedi2i.commands import Commands, name_and_path
from fedi2i.errors import ConfigError
from fedi2i.typed_config import choose
from lightning_modules.configuration import ExperimentConfig, read_experiment
from lightning_modules.evaluation.baselines import UNTRAINED_ARMS
from lightning_modules.source_contrasts import refuse_unheld, unheld
from partitions.manifest import SiteManifest, read_manifest
from partitions.preparation import PreparationConfig, PreparedSite, prepare_site

# What results.csv and slices.npz hold besides the arms.
_RESERVED = (*UNTRAINED_ARMS, "target", "mask", "lesion")


class TrainOptions(Protocol):
    """What ``train`` is told."""

    experiment: Path
    data: list[Path]
    out: Path
    threads: int
    arm: str | None
    start: Path | None


class EvaluateOptions(Protocol):
    """What ``evaluate`` is told."""

    experiment: Path
    data: list[Path]
    out: Path
    threads: int
    model: list[str]
    ensemble: list[str]
    split: str
    unseen: list[str]
    distributions: bool
    uncertainty: bool


class ChannelsOptions(Protocol):
    """What ``channels`` is told."""

    experiment: Path


def add_commands(commands: Commands) -> None:
    """Add all commands of this package."""
    for add in (add_train, add_evaluate, add_channels):
        add(commands)


def add_train(commands: Commands) -> None:
    """Add ``train``."""
    parser = commands.add_parser(
        "train", help="train without a federation: local-only (one --data) or centralised (several)"
    )
    parser.add_argument("--arm", help="name of the arm; by default the site, or 'centralised'")
    parser.add_argument(
        "--start",
        type=Path,
        metavar="FILE",
        help="a trained model to go on with, not first weights",
    )
    _add_experiment(parser)
    _add_work(parser)
    parser.set_defaults(run=train_command)


def add_evaluate(commands: Commands) -> None:
    """Add ``evaluate``."""
    parser = commands.add_parser(
        "evaluate", help="measure models on patients that they were not trained on"
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="NAME=FILE",
        help="a model file and what results.csv calls it; may be repeated",
    )
    parser.add_argument(
        "--ensemble",
        action="append",
        default=[],
        metavar="NAME=MODEL,MODEL",
        help="measure the mean of these models' outputs, too",
    )
    parser.add_argument("--split", default="test", help="split to evaluate on; by default test")
    parser.add_argument(
        "--unseen",
        action="append",
        default=[],
        metavar="SITE",
        help="no model was trained at this site: all of its patients are test patients",
    )
    parser.add_argument(
        "--distributions",
        action="store_true",
        help="also write how far each model's slices, as a set, are from the real ones",
    )
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="also write how well the disagreement of a run's last models, or of an ensemble's, "
        "tells their error",
    )
    _add_experiment(parser)
    _add_work(parser, "torch threads, and processes that measure beside them")
    parser.set_defaults(run=evaluate_command)


def add_channels(commands: Commands) -> None:
    """Add ``channels``."""
    parser = commands.add_parser(
        "channels", help="show what networks offer and which of their channels FedMA matches"
    )
    _add_experiment(parser)
    parser.set_defaults(run=channels_command)


def train_command(options: TrainOptions) -> None:
    """Train one arm on the pooled training slices of the given site folders."""
    _check_folder(options.out)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    experiment = read_experiment(options.experiment)
    # Imported here, as a mistake in the experiment should not wait seconds for torch.
    from lightning_modules.training.hardware import choose_hardware
    from lightning_modules.training.training_run import Arm, train_arm

    _look_for_contrasts(experiment.data.preparation, [read_manifest(one) for one in options.data])
    sites = _sites(experiment, options.data)
    hardware = choose_hardware(experiment.training.precision, options.threads)
    steps = experiment.training.steps * len(sites)
    arm = Arm(options.arm or _arm_name(sites), sites, steps, options.start)
    print(f"wrote {train_arm(experiment, arm, hardware, options.out)}")


def _look_for_contrasts(preparation: PreparationConfig, sites: list[SiteManifest]) -> None:
    """Refuse a contrast that no patient has; one site alone may lack what others have."""
    if len(sites) > 1:
        refuse_unheld(preparation, sites)
    for name in unheld(preparation, sites):
        print(
            f"warning: no training patient of site '{sites[0].site}' has the contrast '{name}' "
            "beside the target; its channel stays empty",
            file=sys.stderr,
        )


def evaluate_command(options: EvaluateOptions) -> None:
    """Evaluate models on the test patients of the given site folders."""
    _check_folder(options.out)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    experiment = read_experiment(options.experiment)
    models = _models(options.model)
    ensembles = _ensembles(options.ensemble, models)
    # Imported here, as a mistake in the experiment should not wait seconds for torch.
    from lightning_modules.contrasts import refuse_conditional
    from lightning_modules.evaluation.disagreement import uncertain_arms, write_uncertainty
    from lightning_modules.evaluation.distributions.measured import ONE_TARGET, Distributions
    from lightning_modules.evaluation.results import evaluate, read_generator
    from lightning_modules.training.hardware import choose_hardware

    if options.uncertainty:
        refuse_conditional(experiment, "--uncertainty", "a model file holds those of one pair")
    if options.distributions:
        refuse_conditional(experiment, "--distributions", ONE_TARGET)
    generators = {name: read_generator(experiment.model, path) for name, path in models.items()}
    hardware = choose_hardware(experiment.training.precision, options.threads)
    sites = _sites(experiment, options.data)
    for name in options.unseen:
        choose(name, [site.site for site in sites], "--unseen")
    out, split, unseen = options.out, options.split, options.unseen
    preset, view = experiment.preset, experiment.model.view
    uncertain = (
        uncertain_arms(models, generators, ensembles, hardware, view)
        if options.uncertainty
        else None
    )
    sets = Distributions(sites, unseen, split) if options.distributions else None
    written = evaluate(
        generators, sites, hardware, out, split, unseen, preset, ensembles, view, sets
    )
    print(f"wrote {written}")
    if uncertain is not None:
        print(f"wrote {write_uncertainty(uncertain, sites, out, split, unseen)}")


def channels_command(options: ChannelsOptions) -> None:
    """Try the networks of an experiment on noise, and print how FedMA sees them.

    A network that FedMA cannot see into is refused after what it offers has been printed.
    """
    experiment = read_experiment(options.experiment)
    # Imported here, as a mistake in the experiment should not wait seconds for torch.
    from lightning_modules.matching.channel_groups import groups_table
    from lightning_modules.matching.network_groups import network_groups
    from lightning_modules.networks.building import build_networks
    from lightning_modules.networks.own_check import offers
    from lightning_modules.training.step_memory import step_memory

    step = step_memory(experiment)
    for offer in offers(experiment):
        print(f"{offer.network}: {offer.text}")
    if step:
        print(f"memory: {step.text}")
    networks = build_networks(experiment.model, experiment.seed)
    size = experiment.data.preparation.size
    for name, groups in network_groups(networks, experiment.model, networks.keys(), size).items():
        print(f"\n{name}: {groups.matchable_text}\n\n{groups_table(groups)}")


def _sites(experiment: ExperimentConfig, folders: list[Path]) -> list[PreparedSite]:
    return [
        prepare_site(
            manifest, experiment.data.preparation_at(manifest.site), manifest.root / "prepared"
        )
        for manifest in map(read_manifest, folders)
    ]


def _arm_name(sites: list[PreparedSite]) -> str:
    return sites[0].site if len(sites) == 1 else "centralised"


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise ConfigError(f"--out {out}: is a file; name a folder")


def _models(texts: list[str]) -> dict[str, Path]:
    models: dict[str, Path] = {}
    for text in texts:
        name, path = name_and_path(text, "--model", "name=file, e.g. fedavg=FL_global_model.pt")
        if name in _RESERVED or name in models:
            raise ConfigError(f"--model {name}={path}: '{name}' is taken; choose another name")
        models[name] = path
    return models


def _ensembles(texts: list[str], models: Collection[str]) -> dict[str, tuple[str, ...]]:
    ensembles: dict[str, tuple[str, ...]] = {}
    for text in texts:
        name, _, listed = text.partition("=")
        members = tuple(listed.split(","))
        if not name or not listed:
            raise ConfigError(f"--ensemble {text}: write name=model,model")
        for member in members:
            choose(member, models, f"--ensemble {name}")
        if name in (*_RESERVED, *models, *ensembles):
            raise ConfigError(f"--ensemble {name}: '{name}' is taken; choose another name")
        ensembles[name] = members
    return ensembles


def _add_experiment(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--experiment", type=Path, required=True, help="YAML file")


def _add_work(parser: argparse.ArgumentParser, threads: str = "torch threads") -> None:
    parser.add_argument(
        "--data", type=Path, action="append", required=True, help="a site's folder; may be repeated"
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for results")
    parser.add_argument("--threads", type=int, default=1, help=f"{threads}; by default 1")

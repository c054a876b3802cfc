"""``python -m lightning_modules``: train without a federation, evaluate, look into networks."""

from __future__ import annotations

import argparse
import logging
import sys
from pathlib import Path

from fedi2i.commands import name_and_path, run_command
from fedi2i.errors import ConfigError
from lightning_modules.configuration import ExperimentConfig, read_experiment
from partitions.manifest import read_manifest
from partitions.preparation import PreparedSite, prepare_site

# What results.csv and slices.npz hold besides the arms.
_RESERVED = ("source", "target", "mask", "lesion")


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    options = _parser().parse_args(arguments)
    return run_command(lambda: options.run(options))


def train_command(options: argparse.Namespace) -> None:
    """Train one arm on the pooled training slices of the given site folders."""
    _check_folder(options.out)
    experiment = read_experiment(options.experiment)
    # Imported here, as a mistake in the experiment should not wait seconds for torch.
    from lightning_modules.training.hardware import choose_hardware
    from lightning_modules.training.training_run import Arm, train_arm

    sites = _sites(experiment, options.data)
    hardware = choose_hardware(experiment.training.precision, options.threads)
    steps = experiment.training.steps * len(sites)
    arm = Arm(options.arm or _arm_name(sites), sites, steps)
    print(f"wrote {train_arm(experiment, arm, hardware, options.out)}")


def evaluate_command(options: argparse.Namespace) -> None:
    """Evaluate models on the test patients of the given site folders."""
    _check_folder(options.out)
    experiment = read_experiment(options.experiment)
    models = _models(options.model)
    # Imported here, as a mistake in the experiment should not wait seconds for torch.
    from lightning_modules.evaluation.results import evaluate, read_generator
    from lightning_modules.training.hardware import choose_hardware

    generators = {name: read_generator(experiment.model, path) for name, path in models.items()}
    hardware = choose_hardware(experiment.training.precision, options.threads)
    sites = _sites(experiment, options.data)
    print(f"wrote {evaluate(generators, sites, hardware, options.out, options.split)}")


def channels_command(options: argparse.Namespace) -> None:
    """Print how FedMA sees the networks of an experiment."""
    experiment = read_experiment(options.experiment)
    # Imported here, as a mistake in the experiment should not wait seconds for torch.
    from lightning_modules.matching.groups_table import groups_table
    from lightning_modules.matching.network_groups import network_groups
    from lightning_modules.networks.building import build_networks

    networks = build_networks(experiment.model, experiment.seed)
    for name, groups in network_groups(networks, experiment.model, networks.keys()).items():
        print(f"{name}\n\n{groups_table(groups)}")


def _sites(experiment: ExperimentConfig, folders: list[Path]) -> list[PreparedSite]:
    return [
        prepare_site(read_manifest(folder), experiment.data.preparation, folder / "prepared")
        for folder in folders
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m lightning_modules", description=__doc__)
    commands = parser.add_subparsers(required=True)
    train = commands.add_parser("train", help="local-only (one --data) or centralised (several)")
    train.add_argument("--arm", help="name of the arm; by default the site, or 'centralised'")
    train.set_defaults(run=train_command)
    evaluate = commands.add_parser("evaluate", help="measure models on unseen patients")
    evaluate.add_argument("--model", action="append", default=[], metavar="NAME=FILE")
    evaluate.add_argument("--split", default="test", help="split to evaluate on")
    evaluate.set_defaults(run=evaluate_command)
    channels = commands.add_parser("channels", help="channel groups, layer by layer (FedMA)")
    channels.set_defaults(run=channels_command)
    for command in (train, evaluate, channels):
        command.add_argument("--experiment", type=Path, required=True, help="YAML file")
    for command in (train, evaluate):
        command.add_argument(
            "--data", type=Path, action="append", required=True, help="a site's folder"
        )
        command.add_argument("--out", type=Path, required=True, help="folder for results")
        command.add_argument("--threads", type=int, default=1, help="torch threads")
    return parser


if __name__ == "__main__":
    sys.exit(main())

"""``translate`` and ``export``: put a trained model to use, here or in other programs."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Protocol

from fedi2i.commands import Commands, commands_of
from fedi2i.cores import available_cores
from fedi2i.errors import ConfigError, DataError
from lightning_modules.configuration import read_experiment
from lightning_modules.translation.model_card import NOTICE, ModelCard


class TranslateOptions(Protocol):
    """What ``translate`` is told."""

    model: Path
    scans: list[Path]
    out: Path
    task: str | None
    nifti: bool
    uncertainty: bool
    suv_factor: float | None
    largest: bool
    batch: int
    threads: int


def add_translate(commands: Commands) -> None:
    """Add ``translate``."""
    parser = commands.add_parser("translate", help="translate scans of new patients")
    parser.add_argument(
        "scans",
        type=Path,
        nargs="+",
        metavar="IN",
        help="file or DICOM folder; of several contrasts t1=IN,flair=IN",
    )
    parser.add_argument("--model", type=Path, required=True, help="a run's .safetensors file")
    parser.add_argument("--out", type=Path, required=True, help="folder for results")
    parser.add_argument("--task", metavar="SOURCE:TARGET", help="refuse a model of another task")
    parser.add_argument("--nifti", action="store_true", help="write NIfTI for DICOM, too")
    parser.add_argument(
        "--uncertainty",
        action="store_true",
        help="also write how much the run's last global models disagree",
    )
    parser.add_argument(
        "--largest", action="store_true", help="DICOM: of several series, the one of most slices"
    )
    parser.add_argument("--suv-factor", type=float, help="PET: what makes the values SUV")
    parser.add_argument(
        "--batch", type=int, default=8, help="slices or patches at a time; by default 8"
    )
    parser.add_argument("--threads", type=int, default=available_cores(), help="torch threads")
    parser.set_defaults(run=translate_command)


def translate_command(options: TranslateOptions) -> None:
    """Translate scans; those that can be translated are, whatever is wrong with others.

    Raises:
        UserError: the model cannot be used, or some scans could not be translated.
    """
    _check(options)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    # Imported here, as a mistake on the command line should not wait seconds for torch.
    import torch

    from lightning_modules.translation.model_file import read_model
    from lightning_modules.translation.scans_to_scans import Wish, refusal_of, translate_scans
    from lightning_modules.translation.translator import Translator, check_uncertainty

    model = read_model(options.model)
    check_task(model.card, options.task, options.model)
    if options.uncertainty:
        check_uncertainty(options.model, dict(model.earlier))
    torch.set_num_threads(options.threads)
    device = "gpu" if torch.cuda.is_available() else "cpu"
    translator = Translator(model, device, options.threads, options.batch)
    print(f"{model.card.task}: {model.card.name}. {NOTICE}")
    wish = Wish(
        options.out, options.nifti, options.uncertainty, options.suv_factor, options.largest
    )
    written, refused = translate_scans(options.scans, translator, wish)
    for path in written:
        print(f"wrote {path}")
    if refused:
        raise DataError(refusal_of(refused, options.scans))


def check_task(card: ModelCard, task: str | None, where: Path) -> None:
    """Refuse a model that translates something else than was expected.

    Args:
        card: the model's.
        task: ``source:target``, or None where nothing is expected.
        where: the model's file.

    Raises:
        ConfigError: naming both tasks.
    """
    if task is None:
        return
    source, separator, target = task.partition(":")
    if not separator or not source or not target:
        raise ConfigError(f"--task {task}: write source:target, e.g. t1:ct")
    own = (card.source, card.preparation.target)
    if own != (source, target):
        raise ConfigError(
            f"{where}: translates {card.task}, not {source} to {target}; name another model"
        )


def _check(options: TranslateOptions) -> None:
    if options.out.exists() and not options.out.is_dir():
        raise ConfigError(f"--out {options.out}: is a file; name a folder")
    for name, value in (("--batch", options.batch), ("--threads", options.threads)):
        if value < 1:
            raise ConfigError(f"{name} {value}: give 1 or more")


def add_export(commands: Commands) -> None:
    """Add ``export`` with what it writes: ``model``, ``onnx`` and ``bundle``."""
    kinds = commands_of(commands.add_parser("export", help="pass a model on to other programs"))
    model = kinds.add_parser("model", help="make a file for 'translate' of an older run's model")
    model.add_argument("--model", type=Path, required=True, help="e.g. FL_global_model.pt")
    model.add_argument("--experiment", type=Path, required=True, help="the run's YAML file")
    model.add_argument("--out", type=Path, required=True, help="a name that ends in .safetensors")
    model.add_argument("--metrics", type=Path, help="the run's metrics.csv, for the card")
    model.add_argument(
        "--data",
        type=Path,
        action="append",
        default=[],
        help="a site's folder: adds the hash of its data and its intensities to the card",
    )
    model.set_defaults(run=export_model_command)
    for name, what, run in (
        ("onnx", "an .onnx file", export_onnx_command),
        ("bundle", "a folder: a bundle that 'python -m monai.bundle run' executes", bundle_command),
    ):
        parser = kinds.add_parser(name, help=f"write {what}")
        parser.add_argument("--model", type=Path, required=True, help="a .safetensors file")
        parser.add_argument("--out", type=Path, required=True, help=what)
        parser.set_defaults(run=run)


class ExportOptions(Protocol):
    """What ``export onnx`` and ``export bundle`` are told."""

    model: Path
    out: Path


class ExportModelOptions(Protocol):
    """What ``export model`` is told."""

    model: Path
    experiment: Path
    out: Path
    metrics: Path | None
    data: list[Path]


def export_model_command(options: ExportModelOptions) -> None:
    """Make a model file of a state_dict that a run left, and the run's experiment.

    Raises:
        UserError: something cannot be read, or the model is another one.
    """
    experiment = read_experiment(options.experiment)
    _check_ending(options.out, ".safetensors")
    # Imported here, as a mistake in the experiment should not wait seconds for torch.
    from lightning_modules.translation.model_file import write_model
    from lightning_modules.translation.older_run import model_of_run

    model = model_of_run(options.model, experiment, options.metrics, options.data)
    print(f"wrote {write_model(options.out, model)}")


def export_onnx_command(options: ExportOptions) -> None:
    """Write a model's network as ONNX."""
    _check_ending(options.out, ".onnx")
    from lightning_modules.translation.model_file import read_model
    from lightning_modules.translation.onnx_file import export_onnx

    apart = export_onnx(read_model(options.model), options.out)
    print(f"wrote {options.out}; it differs from torch by {apart:.1g} at most")


def bundle_command(options: ExportOptions) -> None:
    """Write a model as a MONAI bundle."""
    from lightning_modules.translation.bundle import export_bundle
    from lightning_modules.translation.model_file import read_model

    print(f"wrote {export_bundle(read_model(options.model), options.out)}")


def _check_ending(out: Path, ending: str) -> None:
    if out.suffix != ending:
        raise ConfigError(f"--out {out}: give a name that ends in {ending}")

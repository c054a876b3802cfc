"""``fedi2i train``, ``evaluate``, ``translate`` ...: the package ``lightning_modules``."""

from __future__ import annotations

from fedi2i.cli.entry import Entry
from fedi2i.commands import Commands


def _add_train(commands: Commands) -> None:
    from lightning_modules.commands import add_train

    add_train(commands)


def _add_evaluate(commands: Commands) -> None:
    from lightning_modules.commands import add_evaluate

    add_evaluate(commands)


def _add_channels(commands: Commands) -> None:
    from lightning_modules.commands import add_channels

    add_channels(commands)


def _add_translate(commands: Commands) -> None:
    from lightning_modules.translation.commands import add_translate

    add_translate(commands)


def _add_export(commands: Commands) -> None:
    from lightning_modules.translation.commands import add_export

    add_export(commands)


ENTRIES = (
    Entry("train", "train without a federation: one site's scans, or all pooled", _add_train),
    Entry("evaluate", "measure models on patients that they were not trained on", _add_evaluate),
    Entry("channels", "try an experiment's networks, show what FedMA matches", _add_channels),
)
TRANSLATION = (
    Entry("translate", "translate scans of new patients: NIfTI, MHA, DICOM", _add_translate),
    Entry("export", "pass a model on: for translate, as ONNX, as a MONAI bundle", _add_export),
)

"""Encrypted averaging: the server adds up what it cannot read (homomorphic encryption, CKKS)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from fedi2i.errors import ConfigError
from jobs.privacy.interface import GENERATOR_ONLY, PrivacyMechanism

if TYPE_CHECKING:
    from jobs.writing.federation import FederatedExperiment
    from jobs.writing.topologies.parts import Config, ServerSide, SiteSide

_AT_SERVER = {
    "aggregator": "app_custom.privacy.encryption.aggregator.EncryptedAggregator",
    "persistor": "app_custom.server.model_files.EncryptedModelFiles",
}
"""What takes the place of the plain parts, with the same arguments."""
_ENCRYPT: dict[str, Any] = {"path": "app_custom.privacy.encryption.filters.Encrypt", "args": {}}
_DECRYPT: dict[str, Any] = {"path": "app_custom.privacy.encryption.filters.Decrypt", "args": {}}


@dataclass(frozen=True)
class Encryption:
    """Encrypted averaging has no settings: keys and their strength come with the kits."""


def _refuse(job: FederatedExperiment, where: str) -> None:
    what = "running variances and counts are pooled by more than the sum that 'encryption' allows"
    job.experiment.model.refuse_batch_norm(what, where)
    if job.federation.compression != "none":
        raise ConfigError(
            f"{where}: federation.compression is '{job.federation.compression}', but what is "
            "encrypted cannot be compressed; leave it out"
        )


def _server(side: ServerSide, _: FederatedExperiment) -> ServerSide:
    components = [
        {**part, "path": _AT_SERVER.get(part["id"], part["path"])} for part in side.components
    ]
    return replace(side, components=components)


def _site(side: SiteSide, _: FederatedExperiment) -> SiteSide:
    """The gate sees what the learner made, so encryption comes behind it."""
    chains = [
        {**chain, "filters": [*chain["filters"], _ENCRYPT]} for chain in side.task_result_filters
    ]
    return replace(side, task_result_filters=chains)


def _arriving(_: str, __: FederatedExperiment) -> list[Config]:
    return [_DECRYPT]


MECHANISM = PrivacyMechanism(
    name="encryption",
    label="encrypted averaging",
    ending="he",
    promise="the server reads no model; sites, which share one key, read the sum",
    admitted_by="encryption",
    settings=Encryption,
    refuse=_refuse,
    experiment=GENERATOR_ONLY,
    arriving=_arriving,
    server=_server,
    site=_site,
)

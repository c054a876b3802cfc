"""FedBN: normalisation layers stay at the site."""

from __future__ import annotations

from lightning_modules.strategies.fedavg import WeightedMean
from lightning_modules.strategies.interface import (
    YES,
    LocalInputs,
    Mechanisms,
    Paper,
    SiteRule,
    Strategy,
)


def normalisation_layers(inputs: LocalInputs) -> tuple[str, ...]:
    """Prefixes of all normalisation layers that hold anything at all.

    Layers are found by their type: matching names fails without a word where a network calls its
    layers otherwise (``model.1.2`` in place of ``norm``). Instance normalisation without affine
    parameters holds nothing, so that FedBN is FedAvg there.
    """
    from torch import nn
    from torch.nn.modules.batchnorm import _NormBase

    norms = (_NormBase, nn.GroupNorm, nn.LayerNorm)
    return tuple(
        f"{name}.{path}"
        for name in inputs.shared
        for path, module in inputs.networks[name].named_modules()
        if isinstance(module, norms) and module.state_dict()
    )


STRATEGY = Strategy(
    name="fedbn",
    label="FedBN",
    does="keeps normalisation layers at the site",
    paper=Paper(
        "Li et al., ICLR 2021",
        "arXiv:2102.07623",
        "li2021fedbn",
        "w = (shared, local normalisation)",
    ),
    server=WeightedMean,
    site=SiteRule(local_parts=normalisation_layers, local_text="local normalisation layers"),
    acts=False,
    # Instance normalisation without parameters is the default: nothing is local there.
    fedavg_at={},
    mechanisms=Mechanisms(
        update_level_dp=YES, patient_level_dp=YES, encryption=YES, secure_aggregation=YES
    ),
)

"""Different pairs at different sites: what an experiment must say of them."""

from __future__ import annotations

from typing import Any

import pytest

from fedi2i.errors import ConfigError
from fedi2i.typed_config import merged
from lightning_modules.configuration import (
    ExperimentConfig,
    experiment_from,
    experiment_values,
)
from lightning_modules.contrasts import refuse_conditional

GOOD: dict[str, Any] = {
    "sharing": "generator",
    "data": {
        "preparation": {"source": "t2", "target": "flair"},
        "pairs": [{"site": "north", "source": "t1", "target": "t2"}],
    },
    "model": {"name": "conditional", "contrasts": ["t1", "t2", "flair"]},
}


def test_a_site_has_its_own_pair_and_everybody_else_the_experiment_s() -> None:
    data = experiment_from(GOOD, "x").data
    north, others = data.preparation_at("north"), data.preparation_at("east")
    assert (north.source, north.target) == ("t1", "t2")
    assert (others.source, others.target) == ("t2", "flair")
    assert north.size == others.size


def test_it_is_written_and_read_again_and_says_nothing_where_it_is_not_used() -> None:
    experiment = experiment_from(GOOD, "x")
    assert experiment_from(experiment_values(experiment), "again") == experiment
    plain = experiment_values(ExperimentConfig())
    assert "pairs" not in plain["data"]
    assert not {"contrasts", "pseudo_source", "pseudo_source_from"} & {*plain["model"]}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"model": {"name": "regression"}}, "model.contrasts is for a model that is told which"),
        (
            {"model": {"name": "regression", "contrasts": []}},
            "data.pairs is for a model that is told which",
        ),
        ({"model": {"contrasts": []}}, "name all sequences that the sites"),
        ({"model": {"contrasts": ["t1", "t1", "t2", "flair"]}}, "names 't1' twice"),
        (
            {"data": {"preparation": {"target": "pd"}}},
            "data.preparation names 'pd', which model.contrasts does not",
        ),
        (
            {"data": {"pairs": [{"site": "north", "source": "t1", "target": "flaire"}]}},
            "data.pairs of 'north' names 'flaire', which model.contrasts does not; did you mean",
        ),
        (
            {"data": {"pairs": [{"site": "north", "source": "t1", "target": "t1"}]}},
            "data.pairs of 'north' has source 't1' and target 't1'",
        ),
        (
            {"data": {"pairs": [{"site": "north", "source": "t1", "target": "t2"}] * 2}},
            "data.pairs names site 'north' twice",
        ),
        (
            {"data": {"preparation": {"source_scaling": {"kind": "raw"}}}},
            "source_scaling and .target_scaling differ",
        ),
        ({"model": {"generator": {"norm": "batch"}}}, "set it to 'instance'"),
        ({"model": {"generator": {"kind": "lab.nets.Mine"}}}, "a network of your own has its own"),
        ({"model": {"generator": {"kind": "srresnet"}}}, "no normalisation behind its encoder"),
        ({"model": {"generator": {"channels": [8, 16]}}}, "three levels or more"),
        ({"model": {"neighbours": 1}}, "a translated slice has no translated neighbours"),
        ({"model": {"patch": [8, 16, 16]}}, "is one of slices; leave it out"),
        ({"strategy": {"name": "fedma"}}, "strategy 'fedma' finds no channel"),
        ({"sharing": "generator+discriminator"}, "'conditional' has no 'discriminator'"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_sentence(
    changes: dict[str, Any], sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence) as refusal:
        experiment_from(merged(GOOD, changes), "x")
    assert str(refusal.value).startswith("x: ")


def test_who_knows_of_one_pair_alone_refuses_it() -> None:
    with pytest.raises(ConfigError, match=r"x: model 'conditional' .*, and reasons; take"):
        refuse_conditional(experiment_from(GOOD, "x"), "x", "reasons")
    refuse_conditional(ExperimentConfig(), "x", "reasons")

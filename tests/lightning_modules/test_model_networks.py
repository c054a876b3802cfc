"""What each model is made of, what is shared of it, and what a site can train of it."""

from __future__ import annotations

import pytest

from fedi2i.errors import ConfigError
from lightning_modules.model_networks import (
    MODELS,
    own_model,
    role_of,
    shared_networks,
    trained_networks,
)

BOTH = ("source", "target")
CYCLEGAN = ("generator_ab", "generator_ba", "discriminator_a", "discriminator_b")


@pytest.mark.parametrize("model", MODELS)
def test_a_site_with_both_domains_trains_every_network(model: str) -> None:
    assert trained_networks(model, BOTH) == MODELS[model].names
    assert trained_networks(model, ("target", "source")) == MODELS[model].names


@pytest.mark.parametrize("domain", BOTH)
def test_a_site_with_one_domain_trains_both_generators_and_no_discriminator(domain: str) -> None:
    assert trained_networks("cyclegan", (domain,)) == ("generator_ab", "generator_ba")


@pytest.mark.parametrize("domain", BOTH)
def test_a_model_of_pairs_cannot_train_on_one_domain(domain: str) -> None:
    assert trained_networks("pix2pix", (domain,)) == ()


@pytest.mark.parametrize("model", MODELS)
def test_no_domain_trains_nothing(model: str) -> None:
    assert trained_networks(model, ()) == ()


def test_a_role_and_names_can_be_shared() -> None:
    assert shared_networks("cyclegan", "generator+discriminator") == CYCLEGAN
    assert shared_networks("cyclegan", "generator") == CYCLEGAN[:2]
    assert shared_networks("cyclegan", "discriminator_b+generator_ab") == (
        "generator_ab",
        "discriminator_b",
    )
    assert shared_networks("pix2pix", "generator") == ("generator",)


@pytest.mark.parametrize(
    ("model", "sharing", "sentence"),
    [
        ("pix2pix", "generater", "did you mean 'generator'"),
        ("pix2pix", "generator_ab", "'pix2pix' has no 'generator_ab'"),
        ("cyclegan", "generator_ba", "leaves out 'generator_ab', which translates"),
        ("cyclegan", "discriminator", "leaves out 'generator_ab'"),
    ],
)
def test_a_scope_without_the_translator_or_of_unknown_networks_is_refused(
    model: str, sharing: str, sentence: str
) -> None:
    with pytest.raises(ConfigError, match=sentence):
        shared_networks(model, sharing)


def test_a_network_s_name_has_one_role_in_all_models() -> None:
    roles = {(name, role) for model in MODELS.values() for name, role in model.roles.items()}
    assert len({name for name, _ in roles}) == len(roles)
    assert role_of("discriminator_a") == "discriminator"
    assert role_of("generator") == "generator"


def test_a_model_of_a_lab_s_own_has_the_roles_that_its_networks_names_begin_with() -> None:
    model = own_model(["generator", "generator_coarse", "discriminator_b"])
    assert model.translator == "generator"
    assert shared_networks(model, "generator") == ("generator", "generator_coarse")
    assert shared_networks(model, "generator+discriminator") == model.names
    assert trained_networks(model, BOTH) == model.names
    with pytest.raises(ConfigError, match="model 'own' has no 'critic'"):
        shared_networks(model, "critic")

"""The sharing scope: what leaves a site."""

from __future__ import annotations

import pytest

from fedi2i.errors import ConfigError
from lightning_modules.sharing.scope import SharingScope

PLANTED = (
    "generator2.x",
    "my.generator.x",
    "generator_secret",
    "generator_secret.x",
    "generator",
    "Generator.x",
    " generator.x",
    "module.generator.x",
    "optimizer.generator.x",
)
STATE = {"generator.a": 1, "generator.b.c": 2, "discriminator.a": 3}


def _scope(networks: str) -> SharingScope:
    return SharingScope(tuple(networks.split("+")))


@pytest.mark.parametrize("key", PLANTED)
@pytest.mark.parametrize("scope", ["generator", "generator+discriminator"])
def test_a_key_that_only_looks_shared_never_leaves(scope: str, key: str) -> None:
    chosen = _scope(scope)
    assert not chosen.covers(key)
    assert key not in chosen.select({**STATE, key: 9})
    assert chosen.remainder({**STATE, key: 9})[key] == 9


def test_the_scope_generator_keeps_the_discriminator_at_the_site() -> None:
    scope = _scope("generator")
    assert scope.select(STATE) == {"generator.a": 1, "generator.b.c": 2}
    assert scope.remainder(STATE) == {"discriminator.a": 3}


@pytest.mark.parametrize("name", ["generator", "generator+discriminator"])
def test_shared_part_and_remainder_are_a_partition_of_the_state(name: str) -> None:
    scope = _scope(name)
    state = {**STATE, **dict.fromkeys(PLANTED, 0)}
    shared, kept = scope.select(state), scope.remainder(state)
    assert shared.keys().isdisjoint(kept)
    assert {**shared, **kept} == state


def test_exactly_the_shared_keys_are_accepted() -> None:
    _scope("generator").check({"generator.a": 0, "generator.b.c": 0}, STATE)


def test_a_received_model_that_lacks_a_key_is_refused_by_its_name() -> None:
    with pytest.raises(ConfigError, match=r"lacks 'generator\.b\.c'"):
        _scope("generator").check({"generator.a": 0}, STATE)


@pytest.mark.parametrize("key", ["discriminator.a", "generator.new", "generator2.x"])
def test_a_received_model_with_a_key_too_many_is_refused_by_its_name(key: str) -> None:
    received = {"generator.a": 0, "generator.b.c": 0, key: 0}
    with pytest.raises(ConfigError, match=f"unexpected key '{key}'"):
        _scope("generator").check(received, STATE)


def test_local_parts_are_taken_off_what_is_shared_by_whole_dotted_prefix() -> None:
    scope = SharingScope(("generator",), local=("generator.b", "generator.a.norm"))
    state = {**STATE, "generator.a.normal": 4, "generator.a.norm.w": 5, "generator.bb": 6}
    assert scope.select(state) == {"generator.a": 1, "generator.a.normal": 4, "generator.bb": 6}
    assert scope.remainder(state) == {
        "discriminator.a": 3,
        "generator.b.c": 2,
        "generator.a.norm.w": 5,
    }


def test_a_received_model_that_holds_a_local_part_is_refused() -> None:
    scope = SharingScope(("generator",), local=("generator.b",))
    scope.check({"generator.a": 0}, STATE)
    with pytest.raises(ConfigError, match=r"unexpected key 'generator\.b\.c'"):
        scope.check({"generator.a": 0, "generator.b.c": 0}, STATE)

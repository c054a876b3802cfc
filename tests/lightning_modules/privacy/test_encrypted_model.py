"""Encrypted sums over our networks' shapes, with TenSEAL's real keys."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from encryption_keys import Keys, new_keys

from fedi2i.errors import ConfigError, DataError
from lightning_modules.combining.updates import SiteUpdate, Weights
from lightning_modules.combining.weighted_mean import weighted_mean
from lightning_modules.configuration import experiment_from, experiment_values
from lightning_modules.privacy.encrypted_model import (
    LAYOUT,
    PREFIX,
    EncryptedMean,
    decrypted_model,
    encrypted_model,
    layout_of,
)
from lightning_modules.privacy.encrypted_sums import (
    BLOCK,
    LARGEST_SUM,
    EncryptedSum,
    EncryptionError,
    decrypt,
    encrypt,
    open_keys,
    tenseal,
)
from lightning_modules.sharing.shared_networks import SharedNetworks
from lightning_modules.sharing.tensor_file import (
    read_encrypted_model,
    read_model_state,
    write_encrypted_model,
)

SAMPLES = (565, 291, 190, 79)
"""Training slices of the demo's four sites."""


@pytest.fixture(scope="module")
def keys() -> Keys:
    return new_keys()


def networks(model: str = "pix2pix", sharing: str = "generator+discriminator") -> Weights:
    """A small model's shared networks, seeded."""
    values = {
        "model": {
            "name": model,
            "generator": {"channels": [8, 16]},
            "discriminator": {"channels": 8, "layers": 2},
        }
    }
    settings = experiment_values(experiment_from(values, "test"))["model"]
    made = SharedNetworks(settings, sharing, 1, (), (32, 32))
    return {key: value.numpy() for key, value in made.state_dict().items()}


def moved(weights: Weights, seed: int) -> Weights:
    """The model after a site's training, so to say."""
    rng = np.random.default_rng(seed)
    return {
        key: np.asarray(value + 0.1 * rng.normal(size=value.shape), dtype=np.float32)
        for key, value in weights.items()
    }


def small(value: float = 0.5, length: int = 3) -> Weights:
    return {"generator.w": np.full(length, value, dtype=np.float32)}


def mean_of(keys: Keys, models: list[Weights], samples: tuple[int, ...]) -> Weights:
    """What the sites decrypt after a round."""
    mean = EncryptedMean(layout_of(models[0]), keys.server)
    for model, count in zip(models, samples, strict=True):
        mean.add(encrypted_model(model, count, len(models), keys.site), count)
    return decrypted_model(mean.message(models[0]), keys.site)


@pytest.mark.parametrize(
    ("model", "sharing"),
    [
        ("pix2pix", "generator+discriminator"),
        ("pix2pix", "generator"),
        ("cyclegan", "generator+discriminator"),
    ],
)
def test_the_decrypted_mean_is_the_plain_one_to_the_last_bit_of_float32(
    keys: Keys, model: str, sharing: str
) -> None:
    start = networks(model, sharing)
    models = [moved(start, seed) for seed in range(len(SAMPLES))]
    found = mean_of(keys, models, SAMPLES)
    answers = zip("abcd", models, SAMPLES, strict=True)
    plain = weighted_mean([SiteUpdate(*answer) for answer in answers])
    assert found.keys() == plain.keys()
    for key, value in plain.items():
        assert (found[key].shape, found[key].dtype) == (value.shape, np.float32)
        np.testing.assert_allclose(found[key], value, rtol=1.2e-7, atol=1e-8)


def test_the_order_in_which_sites_answer_changes_nothing(keys: Keys) -> None:
    sealed = [encrypted_model(small(0.1 * n), n, 3, keys.site) for n in (1, 2, 3)]
    ends = []
    for order in (sealed, sealed[::-1]):
        mean = EncryptedMean(layout_of(small()), keys.server)
        for message, n in zip(order, (1, 2, 3) if order is sealed else (3, 2, 1), strict=True):
            mean.add(message, n)
        ends.append(mean.message(small())[f"{PREFIX}generator"])
    np.testing.assert_array_equal(*ends)


def test_nobody_reads_a_message_without_the_sites_key(keys: Keys) -> None:
    sealed = encrypt(np.full(10, 0.5), keys.site)
    with pytest.raises(ValueError, match="secret_key"):
        decrypt(sealed, 10, keys.server)
    with pytest.raises(ValueError, match="doesn't support encryption"):
        encrypt(np.zeros(1), keys.server)
    # Encrypted again it is another text, so that equal updates cannot be told to be equal.
    assert np.mean(sealed == encrypt(np.full(10, 0.5), keys.site)) < 0.02


# What would come out wrong without an error.


def test_a_sum_beyond_the_bound_is_wrong_without_an_error_and_one_within_it_is_right(
    keys: Keys,
) -> None:
    """Equal values are the worst case: one coefficient of the polynomial holds them all."""
    total = EncryptedSum(BLOCK, keys.server)
    found = []
    for _ in range(4):
        total.add(total.opened(encrypt(np.full(BLOCK, LARGEST_SUM), keys.site)))
        found.append(float(decrypt(total.sealed(), BLOCK, keys.site)[0]))
    assert abs(found[0] - LARGEST_SUM) < 1e-3
    assert abs(found[3] - 4 * LARGEST_SUM) > LARGEST_SUM
    with pytest.raises(EncryptionError, match="is beyond"):
        encrypt(np.array([1.01 * LARGEST_SUM]), keys.site)


@pytest.mark.parametrize("value", [5e6, -5e6])
def test_a_value_of_five_millions_is_refused_before_it_is_encrypted(
    keys: Keys, value: float
) -> None:
    model = small()
    model["generator.w"][1] = value
    with pytest.raises(EncryptionError, match=r"'generator\.w' holds 5e\+06: times 565 samples"):
        encrypted_model(model, 565, 4, keys.site)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_no_number_is_refused_where_it_can_still_be_seen(keys: Keys, value: float) -> None:
    with pytest.raises(EncryptionError, match=r"'generator\.w' holds NaN or infinity"):
        encrypted_model(small(value), 1, 1, keys.site)


def test_counters_are_refused_since_a_sum_makes_no_mean_of_them(keys: Keys) -> None:
    model = {**small(), "generator.n": np.array(3, dtype=np.int64)}
    with pytest.raises(EncryptionError, match=r"'generator\.n' is of type int64"):
        encrypted_model(model, 1, 1, keys.site)


def test_what_another_key_encrypted_is_refused_and_not_taken_for_a_model(keys: Keys) -> None:
    mean = EncryptedMean(layout_of(small()), keys.server)
    mean.add(encrypted_model(small(), 4, 3, keys.site), 4)
    with pytest.raises(EncryptionError, match="another federation's key"):
        decrypted_model(mean.message(small()), new_keys().site)


def test_a_server_that_states_other_samples_than_it_added_is_noticed(keys: Keys) -> None:
    mean = EncryptedMean(layout_of(small()), keys.server)
    mean.add(encrypted_model(small(), 4, 3, keys.site), 4)
    mean.add(encrypted_model(small(), 4, 3, keys.site), 4)
    message = mean.message(small())
    message[LAYOUT] = edited(message[LAYOUT], b'"samples": 8', b'"samples": 4')
    with pytest.raises(EncryptionError, match="the sum of other samples than the server says"):
        decrypted_model(message, keys.site)


# What does not fit.


def edited(layout: np.ndarray, old: bytes, new: bytes) -> np.ndarray:
    text = layout.tobytes()
    assert old in text
    return np.frombuffer(text.replace(old, new), dtype=np.uint8)


def test_a_vector_of_another_length_is_refused_at_server_and_site(keys: Keys) -> None:
    longer = encrypted_model(small(length=BLOCK), 4, 3, keys.site)
    mean = EncryptedMean(layout_of(small()), keys.server)
    with pytest.raises(EncryptionError, match="its arrays of 'generator' are not the global"):
        mean.add(longer, 4)
    # The right layout over a longer vector.
    lying = {**longer, LAYOUT: encrypted_model(small(), 4, 3, keys.site)[LAYOUT]}
    with pytest.raises(EncryptionError, match="has 2 ciphertexts; 1 hold its 4 values"):
        mean.add(lying, 4)
    with pytest.raises(EncryptionError, match="has 2 ciphertexts; 1 hold its 4 values"):
        decrypted_model(lying, keys.site)
    # A length that the number of ciphertexts does not give away.
    shifted = {**encrypted_model(small(length=5), 4, 3, keys.site), LAYOUT: lying[LAYOUT]}
    with pytest.raises(EncryptionError, match="does not decrypt to a mean"):
        decrypted_model(shifted, keys.site)


def _plain(_: Keys) -> Weights:
    return small()


def _beside(keys: Keys) -> Weights:
    return {**encrypted_model(small(), 4, 3, keys.site), **small()}


def _other_weight(keys: Keys) -> Weights:
    return encrypted_model(small(), 5, 3, keys.site)


def _damaged(keys: Keys) -> Weights:
    message = encrypted_model(small(), 4, 3, keys.site)
    vector = message[f"{PREFIX}generator"].copy()
    vector[1000] ^= 255
    return {**message, f"{PREFIX}generator": vector}


def _cut_off(keys: Keys) -> Weights:
    message = encrypted_model(small(), 4, 3, keys.site)
    return {**message, f"{PREFIX}generator": message[f"{PREFIX}generator"][:1000]}


def _of_another_scale(keys: Keys) -> Weights:
    """Added to the others, it would be they that do not fit."""
    message = encrypted_model(small(), 4, 3, keys.site)
    block = tenseal().ckks_vector(keys.site, [0.5] * BLOCK, 2**31).serialize()
    vector = np.frombuffer(len(block).to_bytes(4, "little") + block, dtype=np.uint8)
    return {**message, f"{PREFIX}generator": vector}


def _not_json(keys: Keys) -> Weights:
    return {**encrypted_model(small(), 4, 3, keys.site), LAYOUT: np.zeros(9, dtype=np.uint8)}


def _endless_shape(keys: Keys) -> Weights:
    message = encrypted_model(small(), 4, 3, keys.site)
    return {**message, LAYOUT: edited(message[LAYOUT], b"[3]", b"[-3]")}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_plain, "it is not encrypted"),
        (_beside, r"it holds 'generator\.w' beside"),
        (_other_weight, "it weighs 'generator' by other samples than it states"),
        (_damaged, "none of this federation's|cut off or damaged"),
        (_cut_off, "cut off or damaged"),
        (_of_another_scale, "another size, scale or modulus"),
        (_not_json, "cannot be read"),
        (_endless_shape, "cannot be read"),
    ],
)
def test_a_message_that_cannot_be_added_is_refused_and_the_sum_stays(
    keys: Keys, make: Any, words: str
) -> None:
    mean = EncryptedMean(layout_of(small()), keys.server)
    mean.add(encrypted_model(small(0.25), 4, 3, keys.site), 4)
    with pytest.raises(EncryptionError, match=words):
        mean.add(make(keys), 4)
    mean.add(encrypted_model(small(0.75), 4, 3, keys.site), 4)
    found = decrypted_model(mean.message(small()), keys.site)
    np.testing.assert_allclose(found["generator.w"], 0.5, atol=1e-7)


def test_a_site_may_leave_out_a_network_only_where_the_job_says_so(keys: Keys) -> None:
    both = {**small(), "discriminator.w": np.ones(2, dtype=np.float32)}
    strict = EncryptedMean(layout_of(both), keys.server)
    with pytest.raises(EncryptionError, match="it lacks networks"):
        strict.add(encrypted_model(small(), 4, 3, keys.site), 4)
    mean = EncryptedMean(layout_of(both), keys.server, partial=True)
    mean.add(encrypted_model(small(0.25), 4, 3, keys.site), 4)
    first = mean.message(both)
    found = decrypted_model(first, keys.site)
    np.testing.assert_array_equal(found["discriminator.w"], [1, 1])  # nobody trained it
    np.testing.assert_allclose(found["generator.w"], 0.25, atol=1e-7)
    # A network that was encrypted in an earlier round stays so.
    later = EncryptedMean(layout_of(both), keys.server, partial=True)
    later.add(encrypted_model({"discriminator.w": both["discriminator.w"]}, 2, 3, keys.site), 2)
    np.testing.assert_allclose(
        decrypted_model(later.message(first), keys.site)["generator.w"], 0.25, atol=1e-7
    )


# Keys and files.


def test_keys_of_nvflare_s_own_defaults_are_refused_with_the_remedy() -> None:
    with pytest.raises(EncryptionError, match="other parameters; make the kits with 'encryption"):
        open_keys(new_keys((60, 40, 40), 40).site_file)
    with pytest.raises(EncryptionError, match="damaged"):
        open_keys(b"no key")


def test_without_tenseal_the_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tenseal", None)
    with pytest.raises(ConfigError, match=r"pip install 'fedi2i\[he\]'"):
        open_keys(b"")


def test_an_encrypted_model_file_is_read_back_and_taken_for_no_plain_one(
    keys: Keys, tmp_path: Path
) -> None:
    message = encrypted_model(small(), 4, 3, keys.site)
    path = tmp_path / "FL_global_model.encrypted"
    write_encrypted_model(path, message)
    found = decrypted_model(read_encrypted_model(path), keys.site)
    np.testing.assert_allclose(found["generator.w"], 0.5, atol=1e-7)
    with pytest.raises(DataError, match="encrypted; whoever has the kit of a site opens it"):
        read_model_state(path, {"generator.w": (3,)})

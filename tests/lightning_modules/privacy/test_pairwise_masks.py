"""Integers under masks: exact in the sum, noise alone, and nothing that can be taken apart."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedi2i.errors import ConfigError, DataError
from lightning_modules.privacy.integer_code import IntegerCode, check_sum
from lightning_modules.privacy.mask_turns import MaskTurn, answered, check_turn, opened_by
from lightning_modules.privacy.pairwise_masks import (
    MaskError,
    MaskRound,
    SiteSecrets,
    keys_digest,
    masked,
    new_private_key,
    opened,
    own_mask,
    public_key,
    words_digest,
)

SITES = ("east", "north", "south", "west")
WEIGHTS = {"east": 73, "north": 141, "south": 48, "west": 20}
ROUND = MaskRound("job-1", 3, SITES)
SHORT, LONG = IntegerCode(), IntegerCode(64, 32, 16.0, 1)
SHAPES = {"generator.a": (40, 30), "generator.b": (7,)}


def secrets_of(sites: tuple[str, ...] = SITES) -> dict[str, SiteSecrets]:
    private = {site: new_private_key() for site in sites}
    public = {site: public_key(key) for site, key in private.items()}
    return {
        site: SiteSecrets(site, private[site], bytes([number]) * 32, public)
        for number, site in enumerate(sites)
    }


@pytest.fixture(scope="module")
def secrets() -> dict[str, SiteSecrets]:
    return secrets_of()


def update_of(site: str, scale: float = 0.2) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(SITES.index(site))
    return {key: rng.normal(scale=scale, size=shape) for key, shape in SHAPES.items()}


def sent_by(
    site: str,
    secrets: dict[str, SiteSecrets],
    code: IntegerCode = SHORT,
    round_: MaskRound = ROUND,
    model: str = "model",
) -> np.ndarray:
    words = code.encode(update_of(site), WEIGHTS[site]).words
    return masked(words, "generator", round_, secrets[site], model)


def summed(parts: list[np.ndarray]) -> np.ndarray:
    return np.asarray(np.add.reduce(parts, dtype=parts[0].dtype))


def opening_of(secrets: dict[str, SiteSecrets], round_: MaskRound = ROUND) -> dict[str, bytes]:
    return {site: secrets[site].opening(round_) for site in round_.sites}


# The sum.


@pytest.mark.parametrize("code", [SHORT, LONG])
def test_the_opened_words_equal_the_sum_of_the_integers_exactly(
    secrets: dict[str, SiteSecrets], code: IntegerCode
) -> None:
    total = summed([sent_by(site, secrets, code) for site in SITES])
    found = opened(total, "generator", ROUND, opening_of(secrets))
    scale = 2**code.fraction
    for number, key in ((0, "generator.a"), (1200, "generator.b")):
        expected = sum(
            WEIGHTS[site]
            * np.rint(np.clip(update_of(site)[key], -code.bound, code.bound) * scale).astype(int)
            for site in SITES
        ).reshape(-1)
        signed = found.view(np.int32 if code.bits == 32 else np.int64)
        np.testing.assert_array_equal(signed[number : number + expected.size], expected)
    assert [int(word) for word in found[-2:]] == [sum(WEIGHTS.values()), len(SITES)]


@pytest.mark.parametrize("code", [SHORT, LONG])
def test_the_mean_is_the_weighted_mean_to_half_of_the_last_binary_digit(
    secrets: dict[str, SiteSecrets], code: IntegerCode
) -> None:
    total = summed([sent_by(site, secrets, code) for site in SITES])
    found = code.decode(opened(total, "generator", ROUND, opening_of(secrets)), update_of("east"))
    check_sum(found, WEIGHTS.values())
    for key in SHAPES:
        clipped = {site: np.clip(update_of(site)[key], -code.bound, code.bound) for site in SITES}
        plain = sum(WEIGHTS[site] * clipped[site] for site in SITES) / sum(WEIGHTS.values())
        assert np.abs(found.mean[key] - plain).max() <= 2.0 ** -(code.fraction + 1) + 1e-15


def test_one_message_is_uniform_and_tells_nothing_of_its_values(
    secrets: dict[str, SiteSecrets],
) -> None:
    """Also not where all values are the same: 200,000 zeros of one site under its masks."""
    zeros = np.zeros(200_000, np.uint32)
    message = masked(zeros, "generator", ROUND, secrets["east"], "model")
    counts = np.bincount((message >> 24).astype(int), minlength=256)
    expected = zeros.size / 256
    chi_square = float(((counts - expected) ** 2 / expected).sum())
    assert 160 < chi_square < 370  # 255 degrees of freedom: the middle 99.999 %
    rng = np.random.default_rng(0)
    values = np.sort(rng.normal(scale=0.2, size=zeros.size))
    words = SHORT.encode({"generator.a": values}, 141).words
    sent = masked(words, "generator", ROUND, secrets["east"], "model").view(np.int32)[:-2]
    assert abs(np.corrcoef(sent.astype(float), values)[0, 1]) < 5 / np.sqrt(values.size)


def test_no_sum_of_fewer_messages_tells_anything_either(
    secrets: dict[str, SiteSecrets],
) -> None:
    """All but one site, with the openings of all: the pair masks of the missing one are left."""
    parts = [sent_by(site, secrets) for site in SITES[:3]]
    total = summed(parts)
    for site in SITES[:3]:
        total = total - own_mask(
            secrets[site].opening(ROUND), "generator", ROUND, total.size, total.dtype
        )
    found = SHORT.decode(total, update_of("east"))
    with pytest.raises(DataError, match=r"a mask is left over|sites stated"):
        check_sum(found, [WEIGHTS[site] for site in SITES[:3]])


def test_what_came_too_late_stays_closed_when_the_round_is_opened_without_it(
    secrets: dict[str, SiteSecrets],
) -> None:
    """A server with west's late answer to the larger set lacks the openings for that set."""
    smaller = MaskRound("job-1", 3, SITES[:3])
    everything = summed([sent_by(site, secrets) for site in SITES])
    with pytest.raises(MaskError, match="the sum stays closed: no opening from west"):
        opened(everything, "generator", ROUND, opening_of(secrets, smaller))
    foreign = {**opening_of(secrets, smaller), "west": secrets["west"].opening(ROUND)}
    noise = SHORT.decode(opened(everything, "generator", ROUND, foreign), update_of("east"))
    with pytest.raises(DataError):
        check_sum(noise, WEIGHTS.values())


def test_sites_that_received_different_models_share_no_mask(
    secrets: dict[str, SiteSecrets],
) -> None:
    total = summed(
        [sent_by(site, secrets, model="other" if site == "east" else "one") for site in SITES]
    )
    found = SHORT.decode(opened(total, "generator", ROUND, opening_of(secrets)), update_of("east"))
    with pytest.raises(DataError, match="a mask is left over"):
        check_sum(found, WEIGHTS.values())


@pytest.mark.parametrize(
    "other",
    [
        MaskRound("job-2", 3, SITES),
        MaskRound("job-1", 4, SITES),
        MaskRound("job-1", 3, SITES[:3]),
    ],
)
def test_another_job_round_or_set_has_other_masks_and_openings(
    secrets: dict[str, SiteSecrets], other: MaskRound
) -> None:
    first, second = sent_by("east", secrets), sent_by("east", secrets, round_=other)
    assert np.count_nonzero(first == second) < 3
    assert secrets["east"].opening(ROUND) != secrets["east"].opening(other)


def test_networks_have_masks_of_their_own(secrets: dict[str, SiteSecrets]) -> None:
    words = np.zeros(100, np.uint32)
    one = masked(words, "generator", ROUND, secrets["east"], "model")
    other = masked(words, "discriminator", ROUND, secrets["east"], "model")
    assert np.count_nonzero(one == other) < 3


def test_a_key_of_small_order_and_an_unknown_site_are_refused(
    secrets: dict[str, SiteSecrets],
) -> None:
    words = np.zeros(4, np.uint32)
    east = secrets["east"]
    with pytest.raises(MaskError, match="key of site 'north' is none that may be used"):
        bad = replace(east, public={**east.public, "north": bytes(32)})
        masked(words, "generator", ROUND, bad, "model")
    lacking = replace(east, public={k: v for k, v in east.public.items() if k != "west"})
    with pytest.raises(MaskError, match="site 'west' has given no key"):
        masked(words, "generator", ROUND, lacking, "model")
    with pytest.raises(MaskError, match="'east' is not among the sites"):
        masked(words, "generator", MaskRound("job-1", 0, ("north", "south", "west")), east, "m")


def test_the_streams_are_chacha20_under_keys_of_hkdf_as_another_program_computes_them() -> None:
    """Held against the RFCs' definitions, written out here with the standard library's HMAC."""
    import hashlib
    import hmac

    from cryptography.hazmat.primitives.ciphers import Cipher, algorithms

    three = ("a", "b", "c")
    secrets = secrets_of(three)
    round_ = MaskRound("j", 0, three)

    def hkdf(secret: bytes, info: bytes, salt: bytes = bytes(32)) -> bytes:
        extracted = hmac.digest(salt, secret, hashlib.sha256)
        return hmac.digest(extracted, info + b"\x01", hashlib.sha256)

    def stream(key: bytes) -> np.ndarray:
        cipher = Cipher(algorithms.ChaCha20(key, bytes(16)), mode=None).encryptor()
        return np.frombuffer(cipher.update(bytes(40)), "<u4")

    b = secrets["b"]
    private = X25519PrivateKey.from_private_bytes(b.private)
    pair = {
        other: stream(
            hkdf(
                private.exchange(
                    X25519PrivateKey.from_private_bytes(secrets[other].private).public_key()
                ),
                round_.info("pair on m", "g"),
                keys_digest(b.public),
            )
        )
        for other in ("a", "c")
    }
    own = stream(hkdf(hkdf(b.own, round_.info("opening of b")), round_.info("own mask", "g")))
    expected = own - pair["a"] + pair["c"]  # the first of two names adds, the other subtracts
    np.testing.assert_array_equal(masked(np.zeros(10, np.uint32), "g", round_, b, "m"), expected)


@pytest.mark.parametrize("sites", [("east",), ("east", "north"), ()])
def test_a_sum_over_fewer_than_three_sites_is_refused(sites: tuple[str, ...]) -> None:
    with pytest.raises(MaskError, match="hides nobody"):
        MaskRound("job-1", 0, sites)


@pytest.mark.parametrize("sites", [("b", "a", "c"), ("a", "b", "b")])
def test_a_set_that_is_not_sorted_or_names_a_site_twice_is_refused(sites: tuple[str, ...]) -> None:
    with pytest.raises(MaskError, match="not sorted, or named twice"):
        MaskRound("job-1", 0, sites)


def test_names_cannot_be_chosen_so_that_two_uses_have_the_same_text() -> None:
    one = MaskRound("job", 1, ("a", "b", 'c", "d')).info("use")
    other = MaskRound("job", 1, ("a", "b", "c", "d")).info("use")
    assert one != other


# The integers.


def test_overflow_is_refused_by_arithmetic_where_mild_values_would_pass() -> None:
    SHORT.check_no_overflow(8)
    with pytest.raises(ConfigError, match=r"sum over 9 sites.*does not fit into 32 bits"):
        SHORT.check_no_overflow(9)
    with pytest.raises(ConfigError, match="does not fit into 32 bits"):
        replace(SHORT, bound=4.0).check_no_overflow(4)
    LONG.check_no_overflow(127)
    with pytest.raises(ConfigError, match="does not fit into 64 bits"):
        LONG.check_no_overflow(128)


def test_the_worst_case_that_the_bound_admits_does_not_overflow() -> None:
    code, sites = SHORT, 8
    worst = code.encode({"g.a": np.full(3, -1.0)}, 255).words
    total = summed([worst] * sites)
    found = code.decode(total, {"g.a": np.zeros(3)})
    np.testing.assert_array_equal(found.mean["g.a"], -1.0)
    check_sum(found, [255] * sites)


def test_values_beyond_the_bound_are_clipped_and_counted() -> None:
    encoded = SHORT.encode({"g.a": np.asarray([0.5, -3.0, 1.0, 1.5])}, 1)
    assert encoded.clipped == 2
    signed = encoded.words.view(np.int32)[:-2] / 2**20
    np.testing.assert_array_equal(signed, [0.5, -1.0, 1.0, 1.0])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(DataError, match="NaN or infinity"):
        SHORT.encode({"g.a": np.asarray([0.0, value])}, 1)


def test_whole_numbers_are_refused() -> None:
    with pytest.raises(DataError, match=r"'g\.n' holds whole numbers"):
        SHORT.encode({"g.n": np.asarray([3])}, 1)


def test_a_weight_comes_from_the_slices_and_must_fit() -> None:
    assert [SHORT.weight_of(n) for n in (1, 79, 190, 565, 1020)] == [1, 20, 48, 141, 255]
    with pytest.raises(DataError, match="write slices_per_weight: 13 or more"):
        SHORT.weight_of(3200)
    assert replace(SHORT, slices_per_weight=13).weight_of(3200) == 246
    for weight in (0, 256):
        with pytest.raises(DataError, match="does not fit"):
            SHORT.encode({"g.a": np.zeros(1)}, weight)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"bits": 48}, "bits is 48"),
        ({"fraction": 0}, "fraction_bits is 0"),
        ({"fraction": 32}, "fraction_bits is 32"),
        ({"bound": 0.0}, "bound is 0.0"),
        ({"bound": float("nan")}, "bound is nan"),
        ({"slices_per_weight": 0}, "slices_per_weight is 0"),
    ],
)
def test_a_code_that_cannot_be_is_refused(values: dict[str, float], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        replace(SHORT, **values)  # type: ignore[arg-type]


def test_a_missing_site_is_noticed_though_the_rest_looks_harmless() -> None:
    """Noise in the place of the weights divides the values to nothing: the count tells."""
    found = SHORT.decode(np.asarray([5, 1 << 31, 3], np.uint32), {"g.a": np.zeros(1)})
    assert abs(found.mean["g.a"][0]) < 1e-14
    with pytest.raises(DataError, match="counts 3 sites where 4 answered"):
        check_sum(found, WEIGHTS.values())
    with pytest.raises(DataError, match=r"the weights in the sum are 2147483648"):
        check_sum(found, [1, 2, 3])


# Turns.


def after(number: int, sites: tuple[str, ...] = SITES, is_open: bool = True) -> MaskTurn:
    return MaskTurn(number, sites, "words", is_open)


def test_a_site_goes_forward_round_by_round_and_opens_each_answer() -> None:
    turn = MaskTurn(sites=SITES)
    for number in range(3):
        asked = MaskRound("job-1", number, SITES)
        turn = answered(turn, asked, "east", f"words-{number}")
        turn = opened_by(turn, asked)
    assert turn == MaskTurn(2, SITES, "words-2", True)


def test_the_same_words_may_be_sent_again_and_no_others() -> None:
    turn = answered(after(2), ROUND, "east", "words")
    assert answered(turn, ROUND, "east", "words") == turn
    with pytest.raises(MaskError, match="other values under the same masks"):
        answered(turn, ROUND, "east", "different")


def test_a_round_that_was_opened_is_not_answered_for_another_set() -> None:
    smaller = MaskRound("job-1", 3, SITES[:3])
    unopened = answered(after(2), ROUND, "east", "words")
    assert answered(unopened, smaller, "east", "other").sites == SITES[:3]
    with pytest.raises(MaskError, match="is not opened again over others"):
        check_turn(opened_by(unopened, ROUND), smaller, "east")


def test_an_answer_to_a_set_that_was_given_up_is_not_opened() -> None:
    smaller = MaskRound("job-1", 3, SITES[:3])
    repeated = answered(answered(after(2), ROUND, "east", "words"), smaller, "east", "words")
    with pytest.raises(MaskError, match="is not what this site answered last"):
        opened_by(repeated, ROUND)
    assert opened_by(repeated, smaller).opened


def test_nothing_is_opened_that_was_not_answered() -> None:
    with pytest.raises(MaskError, match="not what this site answered last"):
        opened_by(MaskTurn(sites=SITES), MaskRound("job-1", 0, SITES))


@pytest.mark.parametrize(
    ("before", "asked", "least", "words"),
    [
        (after(4), ROUND, 3, "is asked for after round 4"),
        (after(2, SITES[:3]), ROUND, 3, "'west' has no part in this job's sums"),
        (after(2), MaskRound("job-1", 3, SITES[:3]), 4, "this site agrees to 4 or more"),
        (after(2), MaskRound("job-1", 3, SITES[1:]), 3, "a sum without this site"),
        (after(2), MaskRound("job-1", 3, (*SITES[:3], "zoo")), 3, "'zoo' has no part"),
    ],
)
def test_sums_that_could_tell_an_update_are_refused(
    before: MaskTurn, asked: MaskRound, least: int, words: str
) -> None:
    with pytest.raises(MaskError, match=words):
        check_turn(before, asked, "east", least)


def test_digests_tell_answers_and_sets_of_keys_apart() -> None:
    words = np.arange(4, dtype=np.uint32)
    assert words_digest({"g": words}) != words_digest({"d": words})
    assert words_digest({"g": words}) != words_digest({"g": words[::-1]})
    assert keys_digest({"a": b"1", "b": b"2"}) != keys_digest({"a": b"2", "b": b"1"})

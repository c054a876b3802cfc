"""Aligning several sites, and what their average then is."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from matching_networks import (
    NETWORKS,
    REGISTERED,
    Case,
    State,
    equal,
    invert,
    load,
    mlp,
    noisy,
    random_state,
    shuffles,
    weighted_mean,
)

from fedi2i.errors import ConfigError
from lightning_modules.matching.alignment import align, worker_threads
from lightning_modules.matching.channel_groups import ChannelGroups
from lightning_modules.matching.matching import MatchSettings, match
from lightning_modules.matching.permutations import (
    Permutations,
    identity,
    moved_fraction,
    permute,
)

SAMPLES = {"east": 10.0, "north": 30.0, "south": 20.0, "west": 5.0}
CASE = REGISTERED["U-Net, batch norm"]
KINDS = pytest.mark.parametrize("anchored", [True, False], ids=["anchored", "independent"])


def _states(case: Case, seeds: tuple[int, ...] = (1, 2, 3, 4)) -> dict[str, State]:
    network = case.example()
    return {s: random_state(network, seed) for s, seed in zip(SAMPLES, seeds, strict=True)}


def _average(
    states: dict[str, State], groups: ChannelGroups, found: dict[str, Permutations]
) -> State:
    aligned = {site: permute(state, groups, found[site]) for site, state in states.items()}
    return weighted_mean(aligned, SAMPLES)


def _reference(case: Case, anchored: bool) -> State | None:
    return random_state(case.example(), 99) if anchored else None


@KINDS
@pytest.mark.parametrize("name", ["residual U-Net, batch norm", "ResNet-9", "PatchGAN"])
def test_i1_a_sites_channel_order_does_not_change_the_average_by_a_single_bit(
    name: str, anchored: bool
) -> None:
    case = REGISTERED[name]
    groups, states = case.groups_found(), _states(case)
    reference = _reference(case, anchored)
    expected = _average(states, groups, align(states, SAMPLES, groups, reference))
    # Not the one whose order all take.
    mixed = {**states, "east": permute(states["east"], groups, shuffles(groups, 7))}
    found = align(mixed, SAMPLES, groups, reference)
    assert equal(_average(mixed, groups, found), expected)
    assert not equal(weighted_mean(mixed, SAMPLES), weighted_mean(states, SAMPLES))


@pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS.keys())
def test_i4_identical_sites_give_that_model_exactly(case: Case) -> None:
    groups, state = case.groups_found(), random_state(case.example(), 1)
    states = {site: {k: v.copy() for k, v in state.items()} for site in ("east", "north")}
    for reference in (None, state):
        found = align(states, {"east": 1, "north": 1}, groups, reference)
        average = weighted_mean(
            {site: permute(states[site], groups, found[site]) for site in states},
            {"east": 1, "north": 1},
        )
        assert equal(average, state)


@pytest.mark.parametrize("name", ["U-Net", "residual U-Net, batch norm", "ResNet-9"])
def test_i5_after_a_few_steps_from_one_start_nothing_moves_and_the_average_is_fedavg(
    name: str,
) -> None:
    case = REGISTERED[name]
    groups = case.groups_found()
    start = random_state(case.example(), 1)
    states = {site: _trained(case, start, number) for number, site in enumerate(SAMPLES)}
    assert not equal(states["east"], states["west"])
    found = align(states, SAMPLES, groups, start)
    assert all(not any(moved_fraction(p).values()) for p in found.values())
    assert equal(_average(states, groups, found), weighted_mean(states, SAMPLES))


def _trained(case: Case, start: State, seed: int) -> State:
    """Ten steps of Adam towards an image of the site's own kind."""
    network = load(case.build(), start)
    generator = torch.Generator().manual_seed(seed)
    shapes = [torch.randn(shape, generator=generator) for shape in case.shapes]
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3, betas=(0.5, 0.999))
    for _ in range(10):
        optimizer.zero_grad()
        loss = (network(*shapes) - torch.tanh(shapes[0] * (seed - 1))).abs().mean()
        loss.backward()
        optimizer.step()
    return {key: value.detach().numpy().copy() for key, value in network.state_dict().items()}


def test_i6_a_single_site_without_a_reference_is_returned_as_it_is() -> None:
    groups, state = CASE.groups_found(), random_state(CASE.example(), 1)
    found = align({"north": state}, SAMPLES, groups)
    assert list(found) == ["north"]
    assert not any(moved_fraction(found["north"]).values())


def test_i6_a_single_site_that_started_from_the_reference_is_returned_as_it_is() -> None:
    groups, start = CASE.groups_found(), random_state(CASE.example(), 1)
    found = align({"north": noisy(start, 0.3, 2)}, SAMPLES, groups, start)
    assert not any(moved_fraction(found["north"]).values())


@KINDS
def test_i7_the_order_in_which_sites_arrive_does_not_matter(anchored: bool) -> None:
    groups, states = CASE.groups_found(), _states(CASE)
    reference = _reference(CASE, anchored)
    expected = align(states, SAMPLES, groups, reference)
    arrived = {site: states[site] for site in ("west", "north", "east", "south")}
    found = align(arrived, dict(reversed(SAMPLES.items())), groups, reference)
    assert list(found) == sorted(states)
    _assert_same(found, expected)


@KINDS
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_the_number_of_workers_does_not_matter(workers: int, anchored: bool) -> None:
    groups, states = CASE.groups_found(), _states(CASE)
    reference = _reference(CASE, anchored)
    expected = align(states, SAMPLES, groups, reference)
    _assert_same(align(states, SAMPLES, groups, reference, workers=workers), expected)


def test_i12_three_samples_count_three_times_as_much_as_one() -> None:
    """(a + 3 permuted(b)) / 4, written out for every entry."""
    case = Case(lambda: mlp((2, 3, 1)), ((1, 2),), 1)
    groups = case.groups_found()
    a = random_state(case.example(), 1)
    b = permute(noisy(a, 0.1, 2), groups, {"0": np.array([1, 2, 0])})
    found = align({"a": a, "b": b}, {"a": 1, "b": 3}, groups, a)
    assert found["b"]["0"].tolist() == [2, 0, 1]
    aligned = {"a": a, "b": permute(b, groups, found["b"])}
    average = weighted_mean(aligned, {"a": 1, "b": 3})
    back = [2, 0, 1]
    expected = {
        "0.weight": (a["0.weight"] + 3 * b["0.weight"][back]) / 4,
        "0.bias": (a["0.bias"] + 3 * b["0.bias"][back]) / 4,
        "2.weight": (a["2.weight"] + 3 * b["2.weight"][:, back]) / 4,
        "2.bias": (a["2.bias"] + 3 * b["2.bias"]) / 4,
    }
    for key, value in expected.items():
        np.testing.assert_allclose(average[key], value, rtol=1e-6)


@KINDS
def test_i15_sites_that_do_not_take_part_have_no_influence(anchored: bool) -> None:
    groups, states = CASE.groups_found(), _states(CASE)
    reference = _reference(CASE, anchored)
    there = {site: states[site] for site in ("east", "south", "west")}
    some = {site: SAMPLES[site] for site in there}
    _assert_same(align(there, SAMPLES, groups, reference), align(there, some, groups, reference))


def test_i15_with_a_reference_a_site_is_aligned_whoever_else_takes_part() -> None:
    groups, states = CASE.groups_found(), _states(CASE)
    reference = random_state(CASE.example(), 99)
    everyone = align(states, SAMPLES, groups, reference)
    alone = align({"west": states["west"]}, SAMPLES, groups, reference)
    _assert_same({"west": everyone["west"]}, alone)
    _assert_same(alone, {"west": match(reference, states["west"], groups).permutations})


@pytest.mark.parametrize(
    ("sites", "samples", "complaint"),
    [
        ([], SAMPLES, "no site to align"),
        (["east"], {}, "site 'east' has no number of samples"),
        (["east"], {"east": 0}, "site 'east' has no number of samples"),
        (["east"], {"east": float("nan")}, "site 'east' has no number of samples"),
    ],
)
def test_i15_at_least_one_site_with_samples_is_required(
    sites: list[str], samples: dict[str, float], complaint: str
) -> None:
    states = {site: random_state(CASE.example(), 1) for site in sites}
    with pytest.raises(ConfigError, match=complaint):
        align(states, samples, CASE.groups_found())


def test_without_a_reference_the_site_with_most_samples_keeps_its_order() -> None:
    groups, states = CASE.groups_found(), _states(CASE)
    found = align(states, SAMPLES, groups)
    assert [s for s, p in found.items() if not any(moved_fraction(p).values())] == ["north"]
    equal_counts = dict.fromkeys(SAMPLES, 7)
    found = align(states, equal_counts, groups)
    assert [s for s, p in found.items() if not any(moved_fraction(p).values())] == ["east"]


def test_without_a_reference_planted_permutations_are_recovered_at_every_site() -> None:
    groups, network = CASE.groups_found(), CASE.example()
    common = random_state(network, 1)
    planted = {s: shuffles(groups, number) for number, s in enumerate(SAMPLES)}
    planted["north"] = identity(groups)
    states = {
        site: permute(noisy(common, 0.3, number), groups, planted[site])
        for number, site in enumerate(SAMPLES)
    }
    _assert_same(align(states, SAMPLES, groups), {site: invert(p) for site, p in planted.items()})


@pytest.mark.parametrize("settings", [MatchSettings(), MatchSettings(sweeps=0)])
def test_leave_one_out_sweeps_agree_better_than_matching_to_one_noisy_site_does(
    settings: MatchSettings,
) -> None:
    """Sites are noisy copies of one network; the one with most samples is the noisiest."""
    case = Case(lambda: mlp((16, 24, 24, 8)), ((1, 16),), 2)
    groups, network = case.groups_found(), case.example()
    noise = {"east": 0.8, "north": 1.6, "south": 0.8, "west": 0.8}
    to_one, swept = [], []
    for seed in range(5):
        common = random_state(network, seed)
        states = {s: noisy(common, noise[s], 10 * seed + n) for n, s in enumerate(SAMPLES)}
        reference = states["north"]
        alone = {s: match(reference, states[s], groups, settings).permutations for s in SAMPLES}
        to_one.append(_agreement(alone, groups))
        swept.append(_agreement(align(states, SAMPLES, groups, None, settings), groups))
    assert np.mean(swept) > np.mean(to_one) + 0.2, (swept, to_one)


def test_leave_one_out_means_are_weighted_by_samples() -> None:
    """Next to a site that has nearly all samples, the others have no say in the mean."""
    case = Case(lambda: mlp((16, 24, 24, 8)), ((1, 16),), 2)
    groups, network = case.groups_found(), case.example()
    settings = MatchSettings(sweeps=20)
    common = random_state(network, 1)
    states = {s: noisy(common, 1.2, 10 + n) for n, s in enumerate(SAMPLES)}
    alone = {s: match(states["north"], states[s], groups, settings).permutations for s in SAMPLES}
    heavy = {**SAMPLES, "north": 1e9}
    _assert_same(align(states, heavy, groups, None, settings), alone)
    shared = align(states, dict.fromkeys(SAMPLES, 1) | {"north": 2}, groups, None, settings)
    assert any(not np.array_equal(shared[s][g], alone[s][g]) for s in SAMPLES for g in groups.order)


def _agreement(found: dict[str, Permutations], groups: ChannelGroups) -> float:
    """Fraction of channels that pairs of the three good sites align rightly to each other.

    All sites have the same order in truth, so that is wherever their permutations are equal.
    """
    pairs = [("east", "south"), ("east", "west"), ("south", "west")]
    return float(
        np.mean([np.mean(found[a][g] == found[b][g]) for a, b in pairs for g in groups.order])
    )


def test_settings_reach_the_matching() -> None:
    groups, states = CASE.groups_found(), _states(CASE)
    reference = random_state(CASE.example(), 99)
    for settings in (MatchSettings(sweeps=0), MatchSettings(stay_margin=0.5)):
        found = align(states, SAMPLES, groups, reference, settings)
        for site, state in states.items():
            direct = match(reference, state, groups, settings).permutations
            _assert_same({site: found[site]}, {site: direct})


def test_workers_compute_with_one_thread_and_leave_the_callers_number_alone() -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with worker_threads(2) as pool:
            inside = [pool.submit(torch.get_num_threads).result() for _ in range(3)]
        assert inside == [1, 1, 1]
        assert torch.get_num_threads() == 2
        seen: list[int] = []
        other = threading.Thread(target=lambda: seen.append(torch.get_num_threads()))
        other.start()
        other.join()
        assert seen == [2]
    finally:
        torch.set_num_threads(before)


def test_an_error_at_one_site_is_the_callers_error() -> None:
    groups, states = CASE.groups_found(), _states(CASE)
    del states["south"]["unet.model.0.conv.weight"]
    states["west"]["unet.model.0.conv.weight"] = np.zeros((2, 2), np.float32)
    with pytest.raises(ConfigError, match=r"'unet.model.0.conv.weight' has shape \[2, 2\]"):
        align(states, SAMPLES, groups, random_state(CASE.example(), 99))


def _assert_same(one: dict[str, Permutations], other: dict[str, Permutations]) -> None:
    assert list(one) == list(other)
    for site, permutations in one.items():
        assert permutations.keys() == other[site].keys()
        for group, p in permutations.items():
            assert np.array_equal(p, other[site][group]), (site, group)

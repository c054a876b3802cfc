"""Matching one site to a reference: planted permutations, equivariance, the objective."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
from matching_networks import (
    NETWORKS,
    REGISTERED,
    Case,
    Recurrent,
    State,
    compose,
    equal,
    invert,
    mlp,
    noisy,
    random_state,
    shuffles,
)

from fedi2i.errors import ConfigError, DataError
from lightning_modules.matching.channel_groups import ChannelGroups
from lightning_modules.matching.matching import MatchSettings, match, refine
from lightning_modules.matching.network_groups import channel_groups
from lightning_modules.matching.permutations import Permutations, identity, permute

CASES = pytest.mark.parametrize("case", NETWORKS.values(), ids=NETWORKS.keys())
WIDE = Case(lambda: mlp((6, 16, 12, 3)), ((4, 6),), 2)


def _similarity(reference: State, site: State, groups: ChannelGroups) -> float:
    """The objective from its definition: sqrt(entries)-weighted mean cosine of compared tensors."""
    left_out = {*groups.dead_biases, *groups.buffers}
    total = weights = 0.0
    for key in groups.axes:
        if key in left_out or not groups.groups_of(key):
            continue
        one, other = (state[key].astype(np.float64) for state in (reference, site))
        weight = np.sqrt(one.size)
        total += weight * (one * other).sum() / (np.linalg.norm(one) * np.linalg.norm(other))
        weights += weight
    return float(total / weights)


def _same(one: Permutations, other: Permutations) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[g], other[g]) for g in one)


@CASES
def test_i8_planted_permutations_under_noise_are_recovered_completely(case: Case) -> None:
    network, groups = case.example(), case.groups_found()
    for seed in range(3):
        reference = random_state(network, seed)
        planted = shuffles(groups, seed)
        site = permute(noisy(reference, 0.3, seed + 100), groups, planted)
        found = match(reference, site, groups)
        assert _same(found.permutations, invert(planted))


def test_i8_the_forward_rule_alone_recovers_them_too() -> None:
    case = REGISTERED["U-Net, affine, dropout"]
    groups, reference = case.groups_found(), random_state(case.example(), 1)
    planted = shuffles(groups, 1)
    site = permute(noisy(reference, 0.3, 2), groups, planted)
    found = match(reference, site, groups, MatchSettings(sweeps=0))
    assert _same(found.permutations, invert(planted))


@CASES
def test_i1_a_sites_channel_order_does_not_change_the_aligned_weights(case: Case) -> None:
    network, groups = case.example(), case.groups_found()
    reference, site = random_state(network, 1), random_state(network, 2)
    aligned = permute(site, groups, match(reference, site, groups).permutations)
    assert not equal(aligned, site)
    for seed in range(3):
        shuffled = permute(site, groups, shuffles(groups, seed))
        again = match(reference, shuffled, groups).permutations
        assert equal(permute(shuffled, groups, again), aligned)


def test_i1_needs_the_forward_pass_because_descent_depends_on_where_it_starts() -> None:
    """Negative control: coordinate descent from the site's own order is not equivariant."""
    case = REGISTERED["residual U-Net, affine"]
    groups, network = case.groups_found(), case.example()
    reference, site = random_state(network, 1), random_state(network, 2)
    shuffled = permute(site, groups, shuffles(groups, 3))
    states = [
        permute(state, groups, refine(reference, state, groups, {}).permutations)
        for state in (site, shuffled)
    ]
    assert not equal(*states)


@CASES
def test_i4_a_site_that_equals_the_reference_stays_as_it_is(case: Case) -> None:
    groups, state = case.groups_found(), random_state(case.example(), 1)
    found = match(state, {key: value.copy() for key, value in state.items()}, groups)
    assert _same(found.permutations, identity(groups))
    assert found.objective[-1] == pytest.approx(1.0, abs=1e-12)


@CASES
def test_i14_the_objective_never_decreases_and_is_what_it_says(case: Case) -> None:
    network, groups = case.example(), case.groups_found()
    reference, site = random_state(network, 1), random_state(network, 2)
    found = match(reference, site, groups, MatchSettings(sweeps=20))
    assert len(found.objective) < 20  # it ended by itself
    assert list(found.objective) == sorted(found.objective)
    aligned = permute(site, groups, found.permutations)
    expected = _similarity(reference, aligned, groups)
    assert found.objective[-1] == pytest.approx(expected, abs=1e-9)
    start = match(reference, site, groups, MatchSettings(sweeps=0))
    assert found.objective[0] == start.objective[0]


@CASES
def test_i14_descent_ends_after_one_sweep_in_which_nothing_changed(case: Case) -> None:
    groups, reference = case.groups_found(), random_state(case.example(), 1)
    found = match(reference, noisy(reference, 0.1, 2), groups, MatchSettings(sweeps=20))
    assert _same(found.permutations, identity(groups))
    assert len(found.objective) == 2
    assert found.objective[0] == found.objective[1]


@CASES
def test_i14_after_descent_no_swap_of_two_channels_is_better(case: Case) -> None:
    network, groups = case.example(), case.groups_found()
    reference, site = random_state(network, 3), random_state(network, 4)
    found = match(reference, site, groups, MatchSettings(sweeps=20))
    aligned = permute(site, groups, found.permutations)
    best = _similarity(reference, aligned, groups)
    for group in groups.order[:3]:
        swap = np.arange(groups.sizes[group])
        swap[:2] = swap[1::-1]
        swapped = permute(aligned, groups, {group: swap})
        assert _similarity(reference, swapped, groups) <= best + 1e-12


def test_i14_descent_finds_the_best_of_all_permutations_of_a_single_group() -> None:
    network = mlp((3, 5, 2))
    groups = channel_groups(network, (torch.zeros(1, 3),))
    reference, site = random_state(network, 1), random_state(network, 2)
    found = match(reference, site, groups)
    values = [
        _similarity(reference, permute(site, groups, {"0": np.array(p)}), groups)
        for p in permutations(range(5))
    ]
    assert found.objective[-1] == pytest.approx(max(values), abs=1e-12)


def test_i14_a_group_on_both_axes_of_a_weight_never_makes_it_worse() -> None:
    """The assignment sees only the slope there; a step that would lose must not be taken."""
    network = Recurrent(5)
    groups = channel_groups(network, (torch.zeros(1, 2, 4, 4),))
    assert groups.groups_of("inner.weight") == {"first"}
    for seed in range(20):
        reference, site = random_state(network, seed), random_state(network, seed + 100)
        for weak in ("first.weight", "last.weight", "first.bias", "inner.bias"):
            reference[weak] *= np.float32(0.0)
        start = {"first": np.random.default_rng(seed).permutation(5)}
        found = refine(reference, site, groups, start, MatchSettings(sweeps=10))
        before = _similarity_of_inner(reference, permute(site, groups, start))
        after = _similarity_of_inner(reference, permute(site, groups, found.permutations))
        assert found.objective[0] == pytest.approx(before, abs=1e-12)
        assert found.objective[-1] == pytest.approx(after, abs=1e-12)
        assert after >= before - 1e-12


def _similarity_of_inner(reference: State, site: State) -> float:
    one, other = (s["inner.weight"].astype(np.float64).ravel() for s in (reference, site))
    return float(one @ other / np.linalg.norm(one) / np.linalg.norm(other))


def test_outgoing_weights_decide_where_incoming_ones_say_nothing() -> None:
    """Two channels with equal incoming weights and different outgoing ones, in the wrong order."""
    network = mlp((3, 4, 3, 2))
    groups = channel_groups(network, (torch.zeros(1, 3),))
    reference = random_state(network, 1)
    reference["0.weight"][1] = reference["0.weight"][0]
    reference["0.bias"][1] = reference["0.bias"][0]
    site = permute(reference, groups, {"0": np.array([1, 0, 2, 3])})
    assert match(reference, site, groups).permutations["0"].tolist() == [1, 0, 2, 3]
    forward = match(reference, site, groups, MatchSettings(sweeps=0))
    assert forward.permutations["0"].tolist() == [0, 1, 2, 3]  # equal channels stay


def test_one_tensor_of_large_values_does_not_decide() -> None:
    groups, network = WIDE.groups_found(), WIDE.example()
    reference = random_state(network, 1)
    site = noisy(reference, 0.1, 2)
    for state, seed in ((reference, 3), (site, 4)):
        state["0.bias"] = np.random.default_rng(seed).standard_normal(16).astype(np.float32) * 1e3
    assert _same(match(reference, site, groups).permutations, identity(groups))


@pytest.mark.parametrize("kind", ["dead bias", "running statistics", "zeros"])
def test_tensors_that_tell_nothing_about_a_channel_are_left_out(kind: str) -> None:
    case = REGISTERED["U-Net, batch norm"]
    groups, network = case.groups_found(), case.example()
    reference = random_state(network, 1)
    planted = shuffles(groups, 1)
    site = permute(noisy(reference, 0.3, 2), groups, planted)
    expected = match(reference, site, groups)
    keys = {"dead bias": groups.dead_biases, "running statistics": groups.buffers, "zeros": ()}
    rng = np.random.default_rng(5)
    for key in keys[kind]:
        site[key] = rng.standard_normal(site[key].shape).astype(np.float32)
    if kind == "zeros":
        # Such as biases before the first step.
        keys["zeros"] = tuple(k for k in groups.axes if k.endswith("adn.N.bias"))
        for key in keys["zeros"]:
            reference[key] = np.zeros_like(reference[key])
    assert keys[kind]
    found = match(reference, site, groups)
    assert _same(found.permutations, expected.permutations)
    if kind != "zeros":
        assert found.objective == expected.objective


def test_fixed_groups_keep_their_permutation_and_the_others_follow_it() -> None:
    groups, network = WIDE.groups_found(), WIDE.example()
    reference, planted = random_state(network, 1), shuffles(WIDE.groups_found(), 2)
    site = permute(reference, groups, planted)
    wrong = {"0": np.roll(invert(planted)["0"], 1)}
    found = match(reference, site, groups, fixed=wrong)
    assert np.array_equal(found.permutations["0"], wrong["0"])
    right = match(reference, site, groups, fixed={"0": invert(planted)["0"]})
    assert _same(right.permutations, invert(planted))


@pytest.mark.parametrize("name", ["U-Net", "ResNet-2, batch norm", "PatchGAN"])
def test_going_through_the_groups_one_by_one_is_the_forward_pass(name: str) -> None:
    """The layer-wise protocol: each group by the forward rule, with those before it fixed."""
    case = REGISTERED[name]
    groups, network = case.groups_found(), case.example()
    reference, site = random_state(network, 1), random_state(network, 2)
    fixed: Permutations = {}
    for group in groups.order:
        found = match(reference, site, groups, fixed=fixed, only=[group])
        assert list(found.permutations) == [*fixed, group]
        fixed = found.permutations
    assert _same(fixed, match(reference, site, groups, MatchSettings(sweeps=0)).permutations)


def test_a_group_that_nothing_settled_touches_waits_for_one_that_is() -> None:
    """The first group's own weights are zero; the output side settles the last group first."""
    network = mlp((3, 6, 5, 4))
    groups = channel_groups(network, (torch.zeros(1, 3),))
    reference = random_state(network, 1)
    for key in ("0.weight", "0.bias"):
        reference[key] = np.zeros_like(reference[key])
    planted = shuffles(groups, 3)
    site = permute(noisy(reference, 0.1, 4), groups, planted)
    found = match(reference, site, groups, MatchSettings(sweeps=0))
    assert _same(found.permutations, invert(planted))


def test_a_margin_keeps_small_gains_out() -> None:
    groups, network = WIDE.groups_found(), WIDE.example()
    reference, site = random_state(network, 1), random_state(network, 2)
    assert not _same(match(reference, site, groups).permutations, identity(groups))
    settings = MatchSettings(stay_margin=0.999)
    near = permute(reference, groups, {"0": np.array([1, 0, *range(2, 16)])})
    assert _same(match(reference, near, groups, settings).permutations, identity(groups))


@CASES
def test_the_result_depends_on_the_numbers_alone(case: Case) -> None:
    network, groups = case.example(), case.groups_found()
    reference, site = random_state(network, 1), random_state(network, 2)
    one = match(reference, site, groups)
    mixed = {key: np.asfortranarray(site[key]) for key in reversed(list(site))}
    other = match(reference, mixed, groups)
    assert _same(one.permutations, other.permutations)
    assert one.objective == pytest.approx(other.objective, abs=1e-12)


def test_match_leaves_its_inputs_alone() -> None:
    groups, network = WIDE.groups_found(), WIDE.example()
    reference, site = random_state(network, 1), random_state(network, 2)
    before = ({k: v.copy() for k, v in s.items()} for s in (reference, site))
    fixed = {"0": np.arange(16)}
    match(reference, site, groups, fixed=fixed)
    assert all(equal(*pair) for pair in zip(before, (reference, site), strict=True))
    assert list(fixed) == ["0"]


def test_shuffled_permutations_compose_with_the_alignment() -> None:
    groups, network = WIDE.groups_found(), WIDE.example()
    reference, site = random_state(network, 1), random_state(network, 2)
    shuffle = shuffles(groups, 5)
    direct = match(reference, site, groups).permutations
    through = match(reference, permute(site, groups, shuffle), groups).permutations
    assert _same(compose(shuffle, through), direct)


@pytest.mark.parametrize(("sweeps", "margin"), [(-1, 0.0), (1, -0.1), (1, 1.0)])
def test_settings_out_of_range_are_refused(sweeps: int, margin: float) -> None:
    with pytest.raises(ConfigError, match="matching"):
        MatchSettings(sweeps=sweeps, stay_margin=margin)


def test_states_that_do_not_fit_are_refused() -> None:
    groups, network = WIDE.groups_found(), WIDE.example()
    state = random_state(network, 1)
    with pytest.raises(ConfigError, match=r"'0.weight' has shape \[3, 6\] at a site"):
        match(state, {**state, "0.weight": state["0.weight"][:3]}, groups)
    short = {**state, "0.weight": state["0.weight"][:3]}
    with pytest.raises(ConfigError, match=r"'0.weight' of shape \[3, 6\] does not fit"):
        match(short, short, groups)
    for value, side in product((np.nan, np.inf), (0, 1)):
        broken = {**state, "2.bias": np.full(12, value, np.float32)}
        with pytest.raises(DataError, match=r"'2.bias' has entries that are not finite"):
            match(*((broken, state) if side else (state, broken)), groups)
    with pytest.raises(ConfigError, match="'nonsense' is no channel group"):
        match(state, state, groups, only=["nonsense"])
    with pytest.raises(ConfigError, match="'nonsense', which is no group"):
        match(state, state, groups, fixed={"nonsense": np.arange(2)})
    with pytest.raises(ConfigError, match="'0' has 16 channels"):
        refine(state, state, groups, {"0": np.arange(2)})

"""The levels of the weak form: what is learned, and with which test functions."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.estimation.flow import Unknowns
from popdyn.estimation.groups import BETA, CONSTANT, Group
from popdyn.estimation.options import WeakFormOptions
from popdyn.estimation.training_set import TrainingSet
from popdyn.families.features import (
    Block,
    FeatureMap,
    PolynomialBlock,
    gaussian_block,
    polynomials,
    turned_blocks,
)
from popdyn.families.linear import OF_DISTANCE, RadialFeatures
from popdyn.families.mean_fields import fields_for
from popdyn.families.models import Scaling
from popdyn.families.rates import Rates, Streams

__all__ = [
    "EARNED_NARROW",
    "FULL",
    "MOST_TURNED",
    "PRODUCTS",
    "carried",
    "levels",
    "weighted",
    "without",
]

EARNED, EARNED_NARROW = 8.0, 15.0  # nats
EARNED_POLYNOMIALS = 3.0  # nats: what pure noise gives a few functions in one of twenty data sets
# Dimensions up to which the dictionary has functions of all components, and products of two. Above
# these narrow functions are too many as well, as they are for each degree in time: no skill was
# gained by them there, and a fit took minutes.
FULL, PRODUCTS = 3, 12
MOST_TURNED = 12  # dimensions up to which a circulation is learned: a rate for each two components
OF_PAIR = 64  # bumps in a pair of components: a grid over what the data fills
PLACING = 20_000  # particles that functions are placed by
DENSITY = 4000  # particles of each snapshot that its density is taken from
COARSE = (
    "polynomials of one component",
    "mixed polynomials",
    "bumps of width 0.6 in one component",
    "wide bumps",
)


class Dictionary(NamedTuple):
    """The functions that V and the tests are made of.

    Attributes:
        smooth: Polynomials.
        coarse: Bumps as wide as the data, along some directions, in pairs, and of a network.
        fine: Bumps two fifths and a sixth as wide in one component, and half as wide in all.
    """

    smooth: list[Block]
    coarse: list[Block]
    fine: list[Block]


def levels(
    data: TrainingSet,
    snapshots: Sequence[Tensor],
    options: WeakFormOptions,
    at_rest: bool = True,
) -> list[tuple[Unknowns, FeatureMap]]:
    """Return the unknowns and the tests of three levels: polynomials, coarse and fine.

    Args:
        data: The training set.
        snapshots: The particles of each snapshot.
        options: What is learned.
        at_rest: Whether, where V and β are learned, no motion is thought likelier than no V.
    """
    scaling = data.scaling().cpu()
    everything = torch.cat(list(snapshots))
    words = dictionary(data, snapshots, scaling, options.time_varying)
    both = at_rest and "potential" in options.learn and _learns_diffusivity(options)
    smooth = FeatureMap(scaling, words.smooth)
    log_density = _log_density(smooth, snapshots) if both else np.zeros(0)
    learned = "interaction" in options.learn
    radial, distances = _radial(snapshots, data.seed) if learned else ([], np.zeros(0))
    out: list[tuple[Unknowns, FeatureMap]] = []
    blocks: list[Block] = []
    for n, more in enumerate((words.smooth, words.coarse, words.fine)):
        blocks = blocks + more
        tests = FeatureMap(scaling, blocks)
        own = radial[n // 2] if radial else None
        fields = fields_for(own, everything.amin(0), everything.amax(0)) if own else None
        # g and ψ are no rougher than the coarse dictionary: narrow functions of V stand for both.
        beside = tests if n < 2 else out[1][1]
        unknowns = _unknowns(tests, beside, own, distances, fields, log_density, data, options)
        out.append((unknowns, tests))
    polynomials = EARNED_POLYNOMIALS if at_rest else EARNED
    least = _least(words, out[1][0].groups, out[2][0].groups, polynomials)
    return [
        (
            dataclasses.replace(
                unknowns, least={g: v for g, v in least.items() if g in unknowns.groups}
            ),
            tests,
        )
        for unknowns, tests in out
    ]


def dictionary(
    data: TrainingSet, snapshots: Sequence[Tensor], scaling: Scaling, time_varying: bool
) -> Dictionary:
    """Return functions that are placed where the particles are."""
    everything = torch.cat(list(snapshots))
    z = scaling.standardise(everything[:: max(1, len(everything) // PLACING)]).double().numpy()
    dim = z.shape[1]

    def of_one(length: float) -> list[Block]:
        limit = 40 if dim <= FULL else min(12, max(4, 200 // dim))
        name = f"bumps of width {length:g} in one component"
        return [gaussian_block(z, [c], length, limit, name) for c in range(dim)]

    mixed_degree = 4 if dim <= FULL else 2 if dim <= PRODUCTS else 0
    smooth: list[Block] = [*polynomials(dim, scaling.half_width, 4, mixed_degree)]
    coarse = of_one(0.6)
    if data.structure is not None:
        for pair in data.structure.pairs:
            coarse.append(gaussian_block(z, pair, 0.6, OF_PAIR, "bumps of width 0.6 in pairs"))
        if data.structure.network is not None:
            network = data.structure.network.of_inputs(torch.diag(scaling.scale), scaling.mean)
            coarse.append(network.measured(torch.from_numpy(z)))
    if dim > FULL:
        own = data.intervals.experiments
        ends = [[snapshots[range(len(snapshots))[o][k]] for o in own] for k in (0, -1)]
        first, last = (scaling.standardise(torch.cat(x)).double().numpy() for x in ends)
        coarse += turned_blocks(first, last, z, (0.6, 0.2))
    if dim > 1:
        coarse.append(gaussian_block(z, range(dim), 0.6, 100, "wide bumps"))
    if dim > PRODUCTS or time_varying:
        return Dictionary(smooth, coarse, [])
    fine = of_one(0.25) + of_one(0.1)
    if dim > 1:
        fine.append(gaussian_block(z, range(dim), 0.3, 250, "narrow bumps"))
    return Dictionary(smooth, coarse, fine)


def _least(
    words: Dictionary,
    coarse: Sequence[Group],
    fine: Sequence[Group],
    polynomials: float,
) -> dict[Group, float]:
    """Return what each group has to earn, in log evidence, to take part.

    A narrow group has many members, and the more tests, the less well is the noise's covariance
    known: it has to earn more than its place. Polynomials of the distance are what V and W can
    exchange where the mean hardly moves: W has them if the data says so.
    """
    smooth = {b.group for b in words.smooth}
    least = {
        g: polynomials if g.functions in smooth else EARNED
        for g in dict.fromkeys(coarse)
        if g not in (BETA, CONSTANT) and (g.part != "W" or g.functions == OF_DISTANCE)
    }
    return least | dict.fromkeys((g for g in fine if g not in set(coarse)), EARNED_NARROW)


def _unknowns(
    features: FeatureMap,
    smooth: FeatureMap,
    radial: RadialFeatures | None,
    distances: np.ndarray,
    fields: Any,
    log_density: np.ndarray,
    data: TrainingSet,
    options: WeakFormOptions,
) -> Unknowns:
    learned = options.learn
    times = 1
    if options.time_varying:
        times = 1 + min(options.degree, data.intervals.distinct - 2)
    mixing, names = features.prior() if "potential" in learned else (np.zeros((0, 0)), [])
    groups = [Group("V", name, degree) for degree in range(times) for name in names]
    rates = _rates(smooth, data.masses is not None) if "growth" in learned else None
    if rates is not None:
        groups += [CONSTANT] * (data.masses is not None)
        groups += [Group("growth", name) for name in smooth.mixing()[1]]
    streams = None
    if "circulation" in learned:
        streams, named = _streams(smooth, data.dim)
        groups += [Group("circulation", name) for name in named]
    radial_mixing, gauge = np.zeros((0, 0)), np.zeros(0)
    if radial is not None:
        r = torch.from_numpy(distances)
        gauge = (2.0 * r.square() @ radial.slopes(r) / r.square().sum()).numpy()
        radial_mixing, own = radial.mixing()
        groups += [Group("W", name) for name in own]
    beta = options.diffusivity
    if _learns_diffusivity(options):
        groups.append(BETA)
    else:
        beta = beta or 0.0
    return Unknowns(
        features if "potential" in learned else None,
        mixing,
        times,
        data.intervals.span,
        radial,
        radial_mixing,
        gauge,
        fields,
        beta,
        log_density,
        tuple(groups),
        rates=rates,
        streams=streams,
    )


def _rates(features: FeatureMap, constant: bool) -> Rates:
    """Return the functions of g; 1 is one of them where masses tell of it."""
    own = features.mixing()[0]
    mixing = np.zeros((1 + len(own), constant + own.shape[1]))
    mixing[1:, int(constant) :] = own
    if constant:
        mixing[0, 0] = 1.0
    return Rates(features, mixing)


def _streams(features: FeatureMap, dim: int) -> tuple[Streams, list[str]]:
    """Return the stream functions and their groups.

    In the plane ψ is a function of both components. In more dimensions every two components turn
    about the mean at a rate of their own, ψ = ½|x − mean|²: one antisymmetric matrix for all.

    Raises:
        PopdynError: In one dimension, where nothing turns, or in too many.
    """
    if not 2 <= dim <= MOST_TURNED:
        raise PopdynError(
            f"a circulation in {dim} dimension(s): expected 2 to {MOST_TURNED}, "
            "learn without circulation"
        )
    if dim == 2:
        mixing, names = features.mixing()
        return Streams(features, ((0, 1),), mixing[None]), names
    scaling = features.scaling
    # P_2(z/half) = (3 z²/half² − 1)/2, of which so much is ½(x − mean)².
    squares = PolynomialBlock(
        [[c] for c in range(dim)], [[2]] * dim, scaling.half_width, "rotation"
    )
    half = (scaling.half_width * scaling.scale).double().numpy() ** 2 / 3.0
    planes = tuple(itertools.combinations(range(dim), 2))
    mixing = np.zeros((len(planes), dim, len(planes)))
    for k in range(len(planes)):
        mixing[k, :, k] = half
    names = ["rotation"] * len(planes)
    return Streams(FeatureMap(scaling, [squares]), planes, mixing), names


def _learns_diffusivity(options: WeakFormOptions) -> bool:
    return "diffusion" in options.learn and options.diffusivity is None


def _log_density(features: FeatureMap, snapshots: Sequence[Tensor]) -> np.ndarray:
    """Return the coefficients of log ρ̄, ``(m,)``: of all snapshots, each as heavy as another.

    They minimise E[½|∇ψ|² + Δψ].

    References:
        Hyvärinen, J. Mach. Learn. Res. 6 (2005) 695: score matching.
    """
    gram, right = np.zeros((features.size, features.size)), np.zeros(features.size)
    for snapshot in snapshots:
        x = snapshot[:DENSITY].double()
        slopes = features.gradients(x)[1].numpy()
        gram += np.einsum("dnp,dnq->pq", slopes, slopes) / len(x)
        flat = torch.eye(x.shape[1], dtype=x.dtype).expand(len(x), -1, -1)
        right -= features.contracted(x, flat).mean(0).numpy()
    gram[np.diag_indices_from(gram)] *= 1.0 + 1e-6
    return np.linalg.solve(gram, right)


def _radial(snapshots: Sequence[Tensor], seed: int) -> tuple[list[RadialFeatures], np.ndarray]:
    """Return the radial functions of the coarse and of the fine level, and distances of pairs."""
    rng = np.random.default_rng([seed, 4])
    found = []
    for x in snapshots:
        pairs = rng.integers(len(x), size=(2, 1 + 20_000 // len(snapshots)))
        found.append((x[pairs[0]] - x[pairs[1]]).double().norm(dim=1).numpy())
    distance = np.concatenate(found)
    reach = float(np.quantile(distance, 0.999))
    wide, narrow = reach / 8.0, reach / 20.0
    centers = [np.arange(9) * wide, np.arange(11) * narrow]
    widths = [np.full(9, wide), np.full(11, narrow)]
    own = [
        RadialFeatures(
            reach,
            torch.from_numpy(np.concatenate(centers[:n])),
            torch.from_numpy(np.concatenate(widths[:n])),
        )
        for n in (1, 2)
    ]
    return own, distance


def carried(before: Unknowns, theta: np.ndarray | None, after: Unknowns) -> np.ndarray:
    """Return the coarse solution in the unknowns of the fine level, which begin with its own."""
    assert theta is not None
    out = np.zeros(after.size)
    old = theta[before.potential].reshape(before.times, -1)
    out[after.potential].reshape(after.times, -1)[:, : old.shape[1]] = old
    for part in ("growth", "circulation", "interaction"):
        own = theta[getattr(before, part)]
        out[getattr(after, part)][: len(own)] = own
    if after.diffusivity is None:
        out[-1] = theta[-1]
    return out


def without(
    unknowns: Unknowns, theta: np.ndarray, gone: Sequence[Group]
) -> tuple[Unknowns, np.ndarray]:
    """Return the unknowns less some groups, and θ in them."""
    features = unknowns.features
    mixing = unknowns.mixing
    if features is not None:
        # A block stays with all its degrees in time as long as one of them is asked for.
        needed = {g.functions for g in unknowns.groups if g.part == "V" and g not in gone}
        gone = [g for g in gone if g.part != "V" or g.functions not in needed]
        blocks = [b for b in features.blocks if b.group in needed]
        features = FeatureMap(features.scaling, blocks)
        mixing, _ = features.prior()
    stays = [j for j, g in enumerate(unknowns.groups) if g not in gone]

    def kept(part: slice) -> np.ndarray:
        return np.array([g not in gone for g in unknowns.groups[part]], dtype=bool)

    rates, streams = unknowns.rates, unknowns.streams
    if rates is not None:
        rates = dataclasses.replace(rates, mixing=rates.mixing[:, kept(unknowns.growth)])
    if streams is not None:
        own = streams.mixing[..., kept(unknowns.circulation)]
        streams = dataclasses.replace(streams, mixing=own) if own.size else None
    return (
        dataclasses.replace(
            unknowns,
            features=features,
            mixing=mixing,
            rates=rates,
            streams=streams,
            radial_mixing=unknowns.radial_mixing[:, kept(unknowns.interaction)],
            groups=tuple(unknowns.groups[j] for j in stays),
        ),
        theta[stays],
    )


def weighted(
    tests: FeatureMap, strengths: dict[Group, float] | None
) -> tuple[FeatureMap, np.ndarray]:
    """Return combinations of the dictionary, each as large as the prior thinks V's share in it.

    The coarse groups are always among them, the fine ones where the prior has them.
    """
    forces = {g: s for g, s in (strengths or {}).items() if g.part in ("V", "W")}
    if not any(forces.values()):
        return tests, tests.mixing()[0]
    least = 0.1 * max(forces.values())
    size = {g.functions: s for g, s in forces.items() if g.part == "V" and g.degree == 0}
    for name in COARSE:
        size[name] = max(size.get(name, 0.0), least)
    tests = FeatureMap(tests.scaling, [b for b in tests.blocks if size.get(b.group, 0.0) > 0.0])
    mixing, groups = tests.mixing()
    return tests, mixing * np.array([size[g] for g in groups])

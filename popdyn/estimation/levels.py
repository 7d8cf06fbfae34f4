"""The levels of the weak form: what is learned, and with which test functions."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from popdyn.base.errors import PopdynError
from popdyn.estimation.flow import Unknowns
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
from popdyn.families.linear import RadialFeatures
from popdyn.families.mean_fields import fields_for
from popdyn.families.rates import Rates, Streams

__all__ = ["CONSTANT", "EARNED_NARROW", "MOST_TURNED", "carried", "levels", "weighted", "without"]

EARNED, EARNED_NARROW = 8.0, 15.0  # nats
EARNED_POLYNOMIALS = 3.0  # nats: what pure noise gives a few functions in one of twenty data sets
POLYNOMIALS = tuple(
    f"{part}: {name}"
    for part in ("V", "growth", "circulation")
    for name in ("polynomials", "mixed polynomials")
)
CONSTANT = "growth: constant"
MOST_TURNED = 12  # dimensions up to which a circulation is learned: a rate for each two components
OF_PAIR = 64  # bumps in a pair of components: a grid over what the data fills
DENSITY = 4000  # particles of each snapshot that its density is taken from
MANY = 10_000  # particles of each snapshot, below which the narrowest groups have to earn more
COARSE = (
    "polynomials of one component",
    "mixed polynomials",
    "bumps of width 0.6 in one component",
    "wide bumps",
)


def levels(
    data: TrainingSet, snapshots: Sequence[Tensor], options: WeakFormOptions
) -> list[tuple[Unknowns, FeatureMap]]:
    """Return the unknowns and the tests of three levels: polynomials, coarse and fine."""
    scaling = data.scaling().cpu()
    everything = torch.cat(list(snapshots))
    stride = max(1, len(everything) // 20_000)
    z = scaling.standardise(everything[::stride]).double().numpy()
    dim = z.shape[1]
    half = scaling.half_width
    start: list[Block] = [*polynomials(dim, half, 4, 4 if dim <= 3 else 2 if dim <= 12 else 0)]
    coarse: list[Block] = []
    fine: list[Block] = []
    # Narrow functions are too many in high dimension, and for each degree in time as well: no
    # skill was gained by them there, and a fit took minutes.
    narrow = dim <= 12 and not options.time_varying
    for length, level in ((0.6, coarse), (0.25, fine), (0.1, fine)):
        if level is fine and not narrow:
            continue
        limit = 40 if dim <= 3 else min(12, max(4, 200 // dim))
        for c in range(dim):
            name = f"bumps of width {length:g} in one component"
            level.append(gaussian_block(z, [c], length, limit, name))
    if data.structure is not None:
        for pair in data.structure.pairs:
            coarse.append(gaussian_block(z, pair, 0.6, OF_PAIR, "bumps of width 0.6 in pairs"))
        if data.structure.network is not None:
            network = data.structure.network.of_inputs(torch.diag(scaling.scale), scaling.mean)
            coarse.append(network.measured(torch.from_numpy(z)))
    if dim > 3:
        ends = [
            [snapshots[range(len(snapshots))[own][k]] for own in data.intervals.experiments]
            for k in (0, -1)
        ]
        first, last = (scaling.standardise(torch.cat(x)).double().numpy() for x in ends)
        coarse += turned_blocks(first, last, z, (0.6, 0.2))
    if dim > 1:
        coarse.append(gaussian_block(z, range(dim), 0.6, 100, "wide bumps"))
        if narrow:
            fine.append(gaussian_block(z, range(dim), 0.3, 250, "narrow bumps"))
    both = "potential" in options.learn and _learns_diffusivity(options)
    log_density = _log_density(FeatureMap(scaling, start), snapshots) if both else np.zeros(0)
    learned = "interaction" in options.learn
    radial, distances = _radial(snapshots, data.seed) if learned else ([], np.zeros(0))
    out: list[tuple[Unknowns, FeatureMap]] = []
    for n, blocks in enumerate((start, start + coarse, start + coarse + fine)):
        tests = FeatureMap(scaling, blocks)
        own = radial[n // 2] if radial else None
        fields = fields_for(own, everything.amin(0), everything.amax(0)) if own else None
        # g and ψ are no rougher than the coarse dictionary: narrow functions of V stand for both.
        smooth = tests if n < 2 else out[1][1]
        unknowns = _unknowns(tests, smooth, own, distances, fields, log_density, data, options)
        out.append((unknowns, tests))
    # A narrow group has many members, and the more tests, the less well is the noise's covariance
    # known: it has to earn more than its place.
    # Polynomials of the distance are what V and W can exchange where the mean hardly moves: W has
    # them if the data says so.
    optional = ("V: ", "growth: ", "circulation: ", "W: polynomials")
    wide = [g for g in dict.fromkeys(out[1][0].groups) if g.startswith(optional) and g != CONSTANT]
    least = {g: EARNED_POLYNOMIALS if g.startswith(POLYNOMIALS) else EARNED for g in wide}
    fewest = min(len(x) for x in snapshots)
    for g in dict.fromkeys(out[2][0].groups):
        if g not in out[1][0].groups:
            least[g] = EARNED_NARROW
            if "0.1" in g or "narrow" in g:
                least[g] *= max(1.0, (MANY / fewest) ** 0.6)
    return [
        (
            dataclasses.replace(
                unknowns, least={g: v for g, v in least.items() if g in unknowns.groups}
            ),
            tests,
        )
        for unknowns, tests in out
    ]


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
    groups = [
        f"V: {name}" if m == 0 else f"V: {name}, degree {m} in time"
        for m in range(times)
        for name in names
    ]
    rates = _rates(smooth, data.masses is not None) if "growth" in learned else None
    if rates is not None:
        named = [CONSTANT] * (data.masses is not None) + smooth.mixing()[1]
        groups += [name if name == CONSTANT else f"growth: {name}" for name in named]
    streams = None
    if "circulation" in learned:
        streams, named = _streams(smooth, data.dim)
        groups += [f"circulation: {name}" for name in named]
    radial_mixing, gauge = np.zeros((0, 0)), np.zeros(0)
    if radial is not None:
        r = torch.from_numpy(distances)
        gauge = (2.0 * r.square() @ radial.slopes(r) / r.square().sum()).numpy()
        radial_mixing, own = radial.mixing()
        groups += [f"W: {name}" for name in own]
    beta = options.diffusivity
    if _learns_diffusivity(options):
        groups.append("β")
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
    unknowns: Unknowns, theta: np.ndarray, gone: Sequence[str]
) -> tuple[Unknowns, np.ndarray]:
    """Return the unknowns less some groups, and θ in them."""
    features = unknowns.features
    mixing = unknowns.mixing
    if features is not None:
        # A block stays with all its degrees in time as long as one of them is asked for.
        needed = {
            g.removeprefix("V: ").split(", degree ")[0] for g in unknowns.groups if g not in gone
        }
        gone = [g for g in gone if g.removeprefix("V: ").split(", degree ")[0] not in needed]
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
    tests: FeatureMap, strengths: dict[str, float] | None
) -> tuple[FeatureMap, np.ndarray]:
    """Return combinations of the dictionary, each as large as the prior thinks V's share in it.

    The coarse groups are always among them, the fine ones where the prior has them.
    """
    size = {
        name.removeprefix("V: "): s
        for name, s in (strengths or {}).items()
        if not name.startswith(("growth: ", "circulation: "))
    }
    if not any(size.values()):
        return tests, tests.mixing()[0]
    least = 0.1 * max(size.values())
    for name in COARSE:
        size[name] = max(size.get(name, 0.0), least)
    tests = FeatureMap(tests.scaling, [b for b in tests.blocks if size.get(b.group, 0.0) > 0.0])
    mixing, groups = tests.mixing()
    return tests, mixing * np.array([size[g] for g in groups])

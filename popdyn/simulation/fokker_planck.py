"""The Fokker–Planck and McKean–Vlasov equations by finite volumes, in one and two dimensions."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import xarray as xr

from popdyn.base.errors import PopdynError
from popdyn.base.host import usual_torch
from popdyn.dynamics import Dynamics
from popdyn.dynamics.interactions import check_even
from popdyn.simulation.finite_volumes import BoxError, Grid, Solver, box_label

__all__ = ["fokker_planck", "reference_density"]

Density = Callable[[np.ndarray], np.ndarray]
Bounds = Sequence[tuple[float, float]]

SUBCELLS = 8  # along each axis, in the cell averages of an initial density
MASS_TOLERANCE = 0.02  # a density that jumps within subcells integrates to 1 only so well
TIME_TOLERANCE = 1e-4  # L¹ distance between the runs with the last two steps
FIRST_SUBSTEPS, MAX_HALVINGS = 8, 9
WIDENINGS, WIDENING = 6, 1.5
DEFAULT_CELLS = {1: 400, 2: 100}


@usual_torch()
def fokker_planck(
    dynamics: Dynamics,
    initial: Density | np.ndarray,
    times: Sequence[float] | np.ndarray,
    *,
    bounds: Bounds,
    cells: int | Sequence[int],
    step: float | None = None,
    boundary_mass: float = 1e-4,
) -> xr.Dataset:
    """Solve ∂ₜρ = −∇·(bρ) + Δ(βρ) + gρ in a box with reflecting walls, in float64.

    The drift is b = −∇V − ∇W∗ρ, and a circulation where there is one.

    **Space.** Scharfetter–Gummel fluxes between cells, of second order. The density stays
    positive, mass is conserved to rounding, and ρ ∝ exp(−(V + W∗ρ)/β) at the cell centres is an
    exact steady state. Where V + W∗ρ changes by much more than β from cell to cell the fluxes
    turn into upwind fluxes of first order; with β = 0 they are upwind fluxes everywhere, and
    a solution is smeared as if by a diffusivity of half the speed times the spacing. How much
    diffusivity the grid adds, as the mean over the mass, stands in ``attrs``: compare it with β.

    **Time.** In each step the drift is frozen at its midpoint value (W∗ρ from a backward Euler
    predictor) and the frozen linear equation takes one step of a two-stage, L-stable, diagonally
    implicit Runge–Kutta scheme: order 2. Where that would leave a cell negative, its fluxes are
    limited towards those of backward Euler, cell by cell, which keeps mass and steady states.
    Growth multiplies by exp(½h g) before and after each step (Strang), which keeps signs, too.

    The particles' law differs from ρ by O(1/n) in an interacting population of n, and by the
    walls: the box must hold the mass for all ``times``.

    Args:
        dynamics: What acts; V may depend on time.
        initial: The density at ``times[0]``: a function of points ``(n, d) → (n)`` (NumPy,
            float64), or its cell averages, shape ``cells``. It integrates to 1.
        times: Where the density is wanted, strictly increasing, dimensionless.
        bounds: ``(low, high)`` for each axis; their number is the dimension d, 1 or 2.
        cells: Cells along each axis, or one number for all axes.
        step: Integration step, shortened to divide each interval. By default every interval
            begins with 8 steps, and the number is doubled until the density at all times moves
            by less than 1e-4 in L¹.
        boundary_mass: Largest fraction of the mass allowed in the outermost cells at any of the
            times; 1 where the walls are meant to reflect.

    Returns:
        ``density`` on cell centres, dims ``(time, x0)`` or ``(time, x0, x1)``, mass 1 at first and
        always where nothing grows; else ``mass`` (time), too. Attributes:
        ``scheme``, ``step`` (the longest taken), ``time_error`` (the last change in L¹, an upper
        estimate; left out with a ``step`` of yours), ``numerical_diffusivity`` and
        ``boundary_mass`` (the largest over the times).

    Raises:
        PopdynError: If the dimension is not 1 or 2, a density is negative, not finite, of
            another shape or without mass 1 in the box, the times do not increase, W is not
            even, V or W is not finite on the grid, mass reaches the walls, or halving the step
            does not converge.

    References:
        Scharfetter and Gummel, IEEE Trans. Electron Devices 16 (1969); Chang and Cooper,
        J. Comput. Phys. 6 (1970); Alexander, SIAM J. Numer. Anal. 14 (1977); Zalesak,
        J. Comput. Phys. 31 (1979).

    Example:
        >>> from popdyn.dynamics import FreeEnergy
        >>> energy = FreeEnergy(lambda x: x[..., 0] ** 2 / 2, diffusivity=0.5)
        >>> start = lambda x: np.exp(-((x[:, 0] - 1) ** 2) / 0.5) / np.sqrt(0.5 * np.pi)
        >>> solution = fokker_planck(energy, start, [0, 1], bounds=[(-4, 4)], cells=200)
        >>> rho = solution.density.isel(time=-1)
        >>> round(float((rho * solution.x0).sum() * 0.04), 3)  # the mean, exp(−1)
        0.368
    """
    grid = _grid(bounds, cells)
    moments = _times(times)
    if step is not None and not (math.isfinite(step) and step > 0):
        raise PopdynError(f"step is {step}: expected a finite number > 0")
    if dynamics.energy.W is not None:
        check_even(dynamics.energy.W, grid.dimension)
    start = _initial(initial, grid)
    solver = Solver(dynamics, grid)
    solver.check_walls(start, moments[0], boundary_mass)
    intervals = np.diff(moments)
    stated: dict[str, float] = {}
    if step is not None:
        substeps = np.maximum(1, np.ceil(intervals / step - 1e-9)).astype(int)
        density = solver.run(start, moments, substeps)
    else:
        substeps = np.full(len(intervals), FIRST_SUBSTEPS)
        density = solver.run(start, moments, substeps)
        for _ in range(MAX_HALVINGS):
            coarse, substeps = density, 2 * substeps
            density = solver.run(start, moments, substeps)
            mass = density.sum(1) * grid.volume if solver.grows else 1.0
            moved = np.abs(density - coarse).sum(1) / np.maximum(1.0, mass)
            error = float(moved.max()) * grid.volume
            if error < TIME_TOLERANCE:
                stated["time_error"] = error
                break
        else:
            raise PopdynError(
                f"the density still moves by {error:.1e} in L¹ at {substeps[0]} steps an interval: "
                f"expected less than {TIME_TOLERANCE:g}; give a step, or closer times"
            )
    at_walls = [
        solver.check_walls(rho, t, boundary_mass) for rho, t in zip(density, moments, strict=True)
    ]
    added = [solver.numerical_diffusivity(rho, t) for rho, t in zip(density, moments, strict=True)]
    names = [f"x{axis}" for axis in range(grid.dimension)]
    coordinates = {"time": moments, **dict(zip(names, grid.centres, strict=True))}
    variables: dict[str, Any] = {
        "density": (("time", *names), density.reshape(-1, *grid.cells), {"units": "1"})
    }
    if solver.grows:
        variables["mass"] = (("time",), density.sum(1) * grid.volume, {"units": "1"})
    return xr.Dataset(
        variables,
        {name: (name, values, {"units": "1"}) for name, values in coordinates.items()},
        {
            "scheme": "scharfetter_gummel, sdirk2",
            "step": float((intervals / substeps).max(initial=0.0)),
            **stated,
            "numerical_diffusivity": max(added),
            "boundary_mass": max(at_walls),
        },
    )


def reference_density(
    dynamics: Dynamics,
    initial: Density,
    times: Sequence[float] | np.ndarray,
    *,
    bounds: Bounds,
    cells: int | Sequence[int] | None = None,
    step: float | None = None,
) -> xr.Dataset:
    """Solve as :func:`fokker_planck` does, in a box that is widened until it holds the mass.

    Args:
        dynamics: What acts.
        initial: The density at ``times[0]``, ``(n, d) → (n)``.
        times: Strictly increasing, dimensionless.
        bounds: A first guess of the box, such as the range of some particles.
        cells: Cells along each axis; 400 in one dimension, 100 in two.
        step: Integration step; found by halving if None.

    Returns:
        What :func:`fokker_planck` returns.

    Raises:
        PopdynError: As :func:`fokker_planck` does; and where no box of at most 11 times the
            width of the first holds the mass.
    """
    number = DEFAULT_CELLS.get(len(bounds), 0) if cells is None else cells
    box = [(float(low), float(high)) for low, high in bounds]
    for attempt in range(WIDENINGS + 1):
        try:
            return fokker_planck(dynamics, initial, times, bounds=box, cells=number, step=step)
        except BoxError:
            if attempt == WIDENINGS:
                raise
        box = [(m - r, m + r) for m, r in (((a + b) / 2, WIDENING * (b - a) / 2) for a, b in box)]
    raise AssertionError("unreachable")


def _grid(bounds: Bounds, cells: int | Sequence[int]) -> Grid:
    try:
        box = np.array(bounds, np.float64)
    except (TypeError, ValueError):
        box = np.empty(0)
    if box.ndim != 2 or box.shape[1] != 2:
        raise PopdynError(f"bounds is {bounds}: expected a (low, high) pair for each axis")
    dimension = len(box)
    if dimension > 2:
        raise PopdynError(f"bounds has {dimension} axes: expected 1 or 2, the solver's dimensions")
    if not (np.isfinite(box).all() and (box[:, 0] < box[:, 1]).all()):
        raise PopdynError(f"bounds is {bounds}: expected finite numbers with low < high")
    counts = [cells] * dimension if isinstance(cells, int | np.integer) else list(cells)
    if len(counts) != dimension or any(n != int(n) or n < 4 for n in counts):
        raise PopdynError(
            f"cells is {cells}: expected a whole number ≥ 4, or one for each of {dimension} axes"
        )
    return Grid(tuple((float(a), float(b)) for a, b in box), tuple(int(n) for n in counts))


def _times(times: Sequence[float] | np.ndarray) -> np.ndarray:
    moments = np.asarray(times, np.float64)
    if moments.ndim != 1 or len(moments) == 0:
        raise PopdynError(f"times has shape {moments.shape}: expected a list of one number or more")
    if not np.isfinite(moments).all():
        raise PopdynError("times holds a number that is not finite: expected finite numbers")
    falls = np.flatnonzero(np.diff(moments) <= 0)
    if len(falls):
        k = int(falls[0])
        raise PopdynError(
            f"times has {moments[k + 1]:g} after {moments[k]:g}: expected strictly increasing times"
        )
    return moments


def _initial(initial: Density | np.ndarray, grid: Grid) -> np.ndarray:
    """Return the cell averages of the initial density, flat, of mass 1."""
    if callable(initial):
        fine = Grid(grid.bounds, tuple(n * SUBCELLS for n in grid.cells))
        points = fine.points
        values = np.asarray(initial(points), np.float64)
        if values.shape != points.shape[:1]:
            raise PopdynError(
                f"the initial density returned shape {values.shape} for points of shape "
                f"{points.shape}: expected {points.shape[:1]}"
            )
        _check_density(values)
        shape = [m for n in grid.cells for m in (n, SUBCELLS)]
        averages = values.reshape(shape).mean(tuple(range(1, 2 * grid.dimension, 2)))
    else:
        averages = np.asarray(initial, np.float64)
        if averages.shape != grid.cells:
            raise PopdynError(
                f"the initial density has shape {averages.shape}: expected one for each cell, "
                f"{grid.cells}"
            )
        _check_density(averages)
    mass = float(averages.sum()) * grid.volume
    if abs(mass - 1) > MASS_TOLERANCE:
        kind = BoxError if mass < 1 else PopdynError
        raise kind(
            f"the initial density has mass {mass:.4g} in {box_label(grid.bounds)}: expected 1; "
            "widen bounds, use more cells or normalise it"
        )
    return averages.ravel() / mass


def _check_density(values: np.ndarray) -> None:
    if not np.isfinite(values).all():
        raise PopdynError("the initial density is not finite everywhere: expected numbers ≥ 0")
    if values.min() < 0:
        raise PopdynError(
            f"the initial density is {values.min():g} somewhere: expected numbers ≥ 0"
        )

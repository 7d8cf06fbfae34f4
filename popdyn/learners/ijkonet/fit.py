"""iJKOnet: learn the energy whose JKO steps the snapshots are, by inverse optimization."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch

from popdyn.dynamics import FreeEnergy
from popdyn.estimation import REFUTED, told_apart
from popdyn.estimation.ladder import refuted_by_some
from popdyn.estimation.levels import FULL
from popdyn.estimation.solution import FITS
from popdyn.estimation.structure import Structure, structure_of
from popdyn.estimation.training_set import TrainingSet
from popdyn.estimation.weak_form import solve_weak_form
from popdyn.families.models import LearnedTerm, MLPPotential, SecondOrder, set_mean_zero
from popdyn.families.network_block import NetworkBlock
from popdyn.learners.ijkonet.options import IJKOnetOptions
from popdyn.learners.ijkonet.problem import IJKOnetProblem
from popdyn.learners.jko.certificate import debiased_gap
from popdyn.learners.jko.held_out import HeldOut
from popdyn.learners.jko.inner import Simulate
from popdyn.learners.registry import learner
from popdyn.learners.run import Run
from popdyn.learners.training import Workplace, interrupts_held, train
from popdyn.learners.weak_form import run_of

__all__ = ["find_structure", "fit_ijkonet"]

# Of the network that tells structure: half as wide it saw pairs everywhere, with half the particles
# in a step it was off by a tenth of a right angle.
HIDDEN, BATCH = (128, 128), 1000
# At three times the rate half the steps leave no larger error, in five and in ten dimensions.
STEPS, RATE = 500, 1e-2
# Substeps of an interval up to which it is run: a network that asks for more has learned noise, and
# Heun's method is stable for relaxation times down to an eighth of the interval.
LARGEST = 4
SOLVED = 0.1  # an inner residual above this is not called solved
# Of a network's held-out distance, which that of features has to be below: they have seen what is
# held out, for they learn from all particles.
CLEARLY = 0.9
SCORED = 3000  # particles of each snapshot that the score of a density is estimated from
CERTIFIED = 1000  # particles of each snapshot in the certificate


@learner(
    "ijkonet",
    "Inverse optimization of the JKO scheme (Persiianov et al. 2026), three inner solvers.",
    IJKOnetOptions,
)
def fit_ijkonet(data: TrainingSet, options: IJKOnetOptions, place: Workplace) -> Run:
    """Fit a free energy to the training set; see :func:`popdyn.fit`.

    Without a choice of model features are tried first. Where their χ² says that they do not
    explain the snapshots, a network is trained as well, and the held-out energy distance chooses.
    """
    if not options.linear:
        return _fit_network(data, options, place)
    if options.model == "features":
        return _fit_linear(data, options)
    run = None if _refuted_by_few(data, options) else _fit_linear(data, options)
    refuted = run is None or (_may_have_structure(data, options) and _refuted(run, data))
    for last in (False, True):
        if refuted and find_structure(data, options, place, last):
            run = _fit_linear(data, options)
            refuted = not last and _refuted(run, data)
    run = run or _fit_linear(data, options)
    if options.learn != ("potential",) or run.certificate["misfit"] <= FITS:
        return run
    network = trained(data, options, place)
    held, inner = HeldOut(data), Simulate(torch.Generator(data.device).manual_seed(data.seed))
    distances = [held.energy_distance(r.energy, inner) for r in (run, network)]
    chosen = run if distances[0] <= CLEARLY * distances[1] else network
    chosen.certificate["held_out_linear"], chosen.certificate["held_out_network"] = distances
    chosen.notes.append(
        f"features alone do not explain the snapshots (χ² {run.certificate['misfit']:.3g} for "
        "each degree of freedom): a network was trained too, and the held-out energy distance "
        f"chose the {'features' if chosen is run else 'network'}; β was not learned, "
        "and can be with --learn potential,diffusion"
    )
    return chosen


def trained(
    data: TrainingSet, options: IJKOnetOptions, place: Workplace, largest: int = Simulate.LARGEST
) -> Run:
    """Return a network for V that stands in where features do not explain, trained once."""
    if data.network is None:
        data.network = _fit_network(data, options, place, largest)
    return data.network  # type: ignore[no-any-return]


def find_structure(
    data: TrainingSet, options: IJKOnetOptions, place: Workplace, network: bool = False
) -> bool:
    """Look for the structure of V that the dictionary of features lacks, with a network.

    In few dimensions there is nothing to look for: the dictionary has functions of all components
    together.

    Args:
        data: The training set, which is given what is found.
        options: Of the network.
        place: Where its checkpoints go.
        network: Whether its own functions are asked for, instead of directions and pairs.

    Returns:
        Whether there is more than the training set had.
    """
    had = data.structure
    if not _may_have_structure(data, options) or (had is not None and not network):
        return False
    asked = dataclasses.replace(
        options,
        learn=("potential",),
        hidden=HIDDEN,
        batch=options.batch or BATCH,
        steps=options.steps or STEPS,
        learning_rate=options.learning_rate or RATE,
    )
    V = trained(data, asked, place, LARGEST).energy.V
    if not network:
        data.structured(structure_of(V, torch.cat(data.fit)))  # type: ignore[arg-type]
        return bool(data.structure)
    if not isinstance(V, MLPPotential):
        return False
    data.structured(dataclasses.replace(had or Structure(), network=NetworkBlock.of(V)))
    return True


def _may_have_structure(data: TrainingSet, options: IJKOnetOptions) -> bool:
    asked = data.structure is not None and data.structure.network is not None
    # The sibling of a fit, by which unseen particles judge it, has the structure that it has.
    sibling = bool(data.near)
    return data.dim > FULL and not (options.time_varying or asked or sibling)


def _refuted_by_few(data: TrainingSet, options: IJKOnetOptions) -> bool:
    """Whether some of the particles reject what all of them would cost much to be rejected by."""
    if not _may_have_structure(data, options) or data.structure:
        return False
    return refuted_by_some(data, options.weak_form)


def _refuted(run: Run, data: TrainingSet) -> bool:
    """Whether moments or the two-sample test, which sees what no function of V can say, reject."""
    if run.certificate["misfit_p_value"] < REFUTED:
        return True
    return told_apart(run.dynamics, data.sample(), data.seed)


def _fit_linear(data: TrainingSet, options: IJKOnetOptions) -> Run:
    """Solve the inverse problem for energies linear in features.

    The gradient of iJKOnet's loss in the coefficient of a feature f is Σ_k E_{k+1} f − E_ρ̂k f. With
    ``simulate`` its zeros are the moment equations of the flow, and Newton's method with their
    exact covariance finds them: no learning rate, no adversary, and a strength of regularisation
    that the evidence chooses.
    """
    solution = solve_weak_form(data, options.weak_form)
    energy = solution.energy
    if not isinstance(solution.dynamics, FreeEnergy):
        # The gap and the inner residual certify the minimisation of an energy.
        return dataclasses.replace(run_of(solution), learner="ijkonet")
    start, tau = _intervals(data)
    inner = Simulate(torch.Generator(data.device).manual_seed(data.seed))
    size = min(CERTIFIED, *(len(x) for x in data.fit))
    sample = torch.stack([data.fit[k][:size] for k in data.intervals.before])
    inner.solve(energy, sample, start, tau)  # fits the number of substeps to the energy
    certificate: dict[str, Any] = {
        "inner_residual": inner.residual(energy, sample, start, tau),
        "outer_step": solution.outer_step,
        "misfit": solution.misfit,
        "misfit_p_value": solution.p_value,
    }
    if options.weak_form not in data.near:  # nobody reads the gap of a sibling
        certificate |= debiased_gap(data, energy, inner, start, tau)
    if solution.undetermined:
        certificate["undetermined"] = solution.undetermined
    converged = certificate["inner_residual"] < SOLVED and solution.settled
    trace, notes = solution.trace, solution.notes
    return Run(energy, "ijkonet", {}, trace, certificate, converged, len(trace), notes=notes)


def _fit_network(
    data: TrainingSet, options: IJKOnetOptions, place: Workplace, largest: int = Simulate.LARGEST
) -> Run:
    with interrupts_held():
        problem = IJKOnetProblem(data, options)
    if isinstance(problem.inner, Simulate):
        problem.inner.largest = largest
    history = train(problem, problem.steps, options.every, place)
    certificate = _certificate(problem)
    problem.load_solution(history.best)
    certificate["best_step"] = history.best_step
    problem.terms.requires_grad_(False)
    energy = problem.energy
    energy.diffusivity_standard_error = None if problem.drifting else problem.seed_error
    notes = _recovered(energy, problem)
    if isinstance(energy.V, LearnedTerm):
        set_mean_zero(energy.V, data.fit, [float(t) for t in data.times])
    gap, error = certificate.get("gap", 0.0), certificate.get("gap_standard_error", 0.0)
    if problem.inner.second_order and gap < -3 * error:
        notes.append(
            f"the gap is {gap:.3g} ± {error:.2g}, below 0 by more than 3 standard errors: the "
            "inner minimum was not found, or the data is not of JKO steps"
        )
    solved = certificate["inner_residual"] < SOLVED
    if not solved:
        notes.append("inner problem not solved: more inner steps, or --inner simulate")
    return Run(
        energy,
        "ijkonet",
        {},
        history.metrics,
        certificate,
        solved,
        history.steps,
        notes=notes,
        validated=True,
    )


def _recovered(energy: FreeEnergy, problem: IJKOnetProblem) -> list[str]:
    """Correct V for the implicit Euler steps that it was fitted with, or return why not."""
    options, tau = problem.options, problem.data.intervals.tau
    if not problem.inner.second_order or options.first_order or options.time_varying:
        return []
    if energy.W is not None or energy.diffusivity > 0:
        return [
            "with interaction or diffusion there is no second-order recovery: the energy is that "
            "of JKO steps, off by O(τ) (--inner simulate is not)"
        ]
    if np.ptp(tau) >= 1e-6 * tau.mean():
        return ["intervals differ: no second-order recovery (see --inner simulate)"]
    if isinstance(energy.V, LearnedTerm):
        energy.V = SecondOrder(energy.V, float(tau.mean()))
    return []


def _certificate(problem: IJKOnetProblem) -> dict[str, Any]:
    size = problem.size
    if problem.energy.diffusivity > 0:  # the score of ρ̂ needs a larger sample than a batch
        size = problem.data.batch_size(max(size, SCORED))
    before, _ = problem.data.pairs(problem.steps, size)
    residual = problem.inner.residual(problem.energy, before, problem.start, problem.tau)
    gap = debiased_gap(problem.data, problem.energy, problem.inner, problem.start, problem.tau)
    return {"inner_residual": residual} | gap


def _intervals(data: TrainingSet) -> tuple[torch.Tensor, torch.Tensor]:
    start, tau = (
        torch.tensor(t[:, None], dtype=torch.float32, device=data.device)
        for t in (data.intervals.start, data.intervals.tau)
    )
    return start, tau

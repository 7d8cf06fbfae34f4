"""What the weak form learns: a potential linear in features, and a radial interaction."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from scipy.special import chdtrc
from torch import Tensor, nn

from popdyn.dynamics.fields import RadialKernel, Time, squared_norm
from popdyn.families.features import FeatureMap
from popdyn.families.models import LearnedTerm

__all__ = [
    "LinearPotential",
    "LinearRate",
    "LinearStream",
    "RadialFeatures",
    "RadialInteraction",
    "time_basis",
]


def time_basis(t: Tensor, span: tuple[float, float], count: int) -> Tensor:
    """Return Legendre polynomials of degree 0 to count − 1 in time, ``(...) → (..., count)``."""
    s = 2.0 * (t - span[0]) / (span[1] - span[0]) - 1.0
    columns = [torch.ones_like(s), s]
    for k in range(1, count - 1):
        columns.append(((2 * k + 1) * s * columns[k] - k * columns[k - 1]) / (k + 1))
    return torch.stack(columns[:count], -1)


class KnowsErrors:
    """A term that knows its standard errors, if it was found with them: else 0 would be a claim.

    ``hasattr`` says which.
    """

    errors: Tensor

    @property
    def value_std(self) -> Callable[..., Tensor]:
        """``(x, reference, t)`` ↦ the standard error of the value less its mean."""
        return self._known(self._value_std)

    @property
    def gradient_std(self) -> Callable[..., Tensor]:
        """``(x, t)`` ↦ the standard error of each component of the gradient."""
        return self._known(self._gradient_std)

    def _known(self, std: Callable[..., Tensor]) -> Callable[..., Tensor]:
        if not self.errors.shape[-1]:
            raise AttributeError("no standard error is known")
        return std

    def _value_std(self, x: Tensor, reference: Tensor, t: Time = None) -> Tensor:
        raise NotImplementedError

    def _gradient_std(self, x: Tensor, t: Time = None) -> Tensor:
        raise NotImplementedError


class LinearPotential(KnowsErrors, LearnedTerm):
    """V(x, t) = Σ_jm a_jm φ_j(x) P_m(t) plus the confining tail outside the box of the data.

    Where nothing was learned, all weights 0, there is no tail either: nothing moves.

    Args:
        features: The functions φ_j.
        weights: a, ``(m, T)``; T = 1 for a potential that does not depend on time.
        span: First and last time of the data, where the polynomials P_m live.
        errors: F, ``(m, T, r)``; the covariance of a is F Fᵀ. None: not known.
    """

    weights: Tensor
    offset: Tensor
    errors: Tensor

    def __init__(
        self,
        features: FeatureMap,
        weights: Tensor,
        span: tuple[float, float],
        errors: Tensor | None = None,
    ) -> None:
        super().__init__()
        self.features, self.span = features, span
        self.register_buffer("weights", weights.double())
        self.register_buffer("offset", torch.zeros(()))
        none = weights.new_zeros(*weights.shape, 0)
        self.register_buffer("errors", (none if errors is None else errors).float())
        self.time_dependent = weights.shape[1] > 1

    def _weights(self, t: Time, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return weights ``(m, c)``, and what to combine c columns with, if one time is not all."""
        weights = self.weights.to(x)
        count = weights.shape[1]
        if count == 1:
            return weights, None
        now = torch.as_tensor(self.time(t), dtype=x.dtype, device=x.device)
        basis = time_basis(now, self.span, count)
        if now.numel() == 1:
            return weights @ basis.reshape(count, 1), None
        return weights, basis.expand(*x.shape[:-1], count).reshape(-1, count)

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        weights, basis = self._weights(t, x)
        out = self.features.sum(flat, weights)
        out = out[:, 0] if basis is None else (out * basis).sum(1)
        if self.weights.any():
            out = out + self.features.scaling.tail(self.features.scaling.standardise(flat))
        return (out - self.offset.to(x)).reshape(x.shape[:-1]).to(x.dtype)

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        with torch.no_grad():
            flat = x.reshape(-1, x.shape[-1])
            weights, basis = self._weights(t, x)
            out = self.features.gradient_of(flat, weights)
            out = out[..., 0] if basis is None else (out * basis).sum(2)
            out = out.T
            if self.weights.any():
                scaling = self.features.scaling
                out = out + scaling.tail_gradient(scaling.standardise(flat)) / scaling.scale
            return out.reshape(x.shape).to(x.dtype)

    def _value_std(self, x: Tensor, reference: Tensor, t: Time = None) -> Tensor:
        """Return the standard error of V(x) less its mean over a reference, ``(n, d) → (n)``."""
        count = self.errors.shape[1]
        when = self.time(t) if self.time_dependent else self.span[0]
        basis = time_basis(torch.as_tensor(when).double(), self.span, count).reshape(count)
        errors = torch.einsum("mtr,t->mr", self.errors.double(), basis)
        here, there = (self.features.values(y.float()).double() for y in (x, reference))
        return ((here - there.mean(0)) @ errors).norm(dim=1)

    def _gradient_std(self, x: Tensor, t: Time = None, frame: Tensor | None = None) -> Tensor:
        """Return the standard error of each component of the gradient, ``(..., d) → (..., d)``.

        Args:
            x: Positions.
            t: Time.
            frame: The rows are the components here of directions out of which others are made:
                theirs are returned.
        """
        with torch.no_grad():
            flat, (m, count, rank) = x.reshape(-1, x.shape[-1]), self.errors.shape
            when = self.time(t) if self.time_dependent else self.span[0]
            now = torch.as_tensor(when).to(x)
            basis = time_basis(now, self.span, count).expand(*x.shape[:-1], count)
            columns = self.features.gradient_of(flat, self.errors.to(x).reshape(m, -1))
            if frame is not None:
                columns = torch.tensordot(frame.to(columns).T, columns, 1)
            parts = columns.view(*columns.shape[:2], count, rank)
            out = torch.einsum("dntr,nt->dnr", parts, basis.reshape(-1, count))
            return out.norm(dim=2).T.reshape(x.shape)

    def stilled(self) -> LinearPotential:
        """Return V = 0; what was found is one more direction of its errors."""
        errors = torch.cat([self.errors, self.weights.float()[..., None]], 2)
        return LinearPotential(self.features, torch.zeros_like(self.weights), self.span, errors)

    def config(self) -> dict[str, Any]:
        return {
            "features": self.features.config(),
            "times": self.weights.shape[1],
            "span": list(self.span),
            "errors": self.errors.shape[2],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LinearPotential:
        features = FeatureMap.from_config(config["features"])
        first, last = config["span"]
        weights = torch.zeros(features.size, config["times"])
        errors = torch.zeros(*weights.shape, config["errors"])
        return cls(features, weights, (first, last), errors)

    def label(self) -> str:
        return f"linear in {self.features.size} features"


class LinearRate(LearnedTerm):
    """g(x) = a_0 + Σ_j a_j φ_j(x), constant beyond the box of the data.

    Args:
        features: The functions φ_j.
        weights: a, ``(1 + m)``.
        errors: F, ``(1 + m, r)``; the covariance of a is F Fᵀ.
    """

    weights: Tensor
    errors: Tensor

    def __init__(self, features: FeatureMap, weights: Tensor, errors: Tensor) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("weights", weights.double())
        self.register_buffer("errors", errors.float())

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        return self._sums(x, self.weights[:, None])[..., 0].to(x.dtype)

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        with torch.no_grad():
            flat = x.reshape(-1, x.shape[-1])
            slopes = self.features.gradient_of(flat, self.weights[1:, None].to(x))
            return slopes[..., 0].T.reshape(x.shape).to(x.dtype)

    def value_std(self, x: Tensor, t: Time = None) -> Tensor:
        """Return the standard error of g, ``(..., d) → (...)``."""
        with torch.no_grad():
            return self._sums(x, self.errors).norm(dim=-1).to(x.dtype)

    def _sums(self, x: Tensor, weights: Tensor) -> Tensor:
        flat, weights = x.reshape(-1, x.shape[-1]), weights.to(x)
        out = self.features.sum(flat, weights[1:]) + weights[0]
        return out.reshape(*x.shape[:-1], -1)

    def config(self) -> dict[str, Any]:
        return {"features": self.features.config(), "errors": self.errors.shape[1]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LinearRate:
        features = FeatureMap.from_config(config["features"])
        size = 1 + features.size
        return cls(features, torch.zeros(size), torch.zeros(size, config["errors"]))

    def label(self) -> str:
        return f"linear in {self.features.size} features"


class LinearStream(LearnedTerm):
    """A stream function ψ(x) = Σ_j a_j φ_j(x) and the antisymmetric A of its drift A∇ψ.

    Args:
        features: The functions φ_j.
        weights: a, ``(m)``.
        matrix: A, ``(d, d)``.
        errors: F, ``(d d, m, r)``; the covariance of all A_ij a_m is F Fᵀ.
    """

    weights: Tensor
    matrix: Tensor
    errors: Tensor

    def __init__(
        self, features: FeatureMap, weights: Tensor, matrix: Tensor, errors: Tensor
    ) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("weights", weights.double())
        self.register_buffer("matrix", matrix.double())
        self.register_buffer("errors", errors.float())

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        flat = x.reshape(-1, x.shape[-1])
        out = self.features.sum(flat, self.weights[:, None].to(x))
        return out[:, 0].reshape(x.shape[:-1]).to(x.dtype)

    def gradient(self, x: Tensor, t: Time = None) -> Tensor:
        with torch.no_grad():
            flat = x.reshape(-1, x.shape[-1])
            slopes = self.features.gradient_of(flat, self.weights[:, None].to(x))
            return slopes[..., 0].T.reshape(x.shape).to(x.dtype)

    def drift_std(self, x: Tensor, t: Time = None) -> Tensor:
        """Return the standard error of each component of A∇ψ, ``(..., d) → (..., d)``."""
        with torch.no_grad():
            flat, d = x.reshape(-1, x.shape[-1]), x.shape[-1]
            square, m, rank = self.errors.shape
            errors = self.errors.to(x).transpose(0, 1).reshape(m, square * rank)
            slopes = self.features.gradient_of(flat, errors).view(d, len(flat), d, d, rank)
            return torch.einsum("jnijr->nir", slopes).norm(dim=2).reshape(x.shape)

    def config(self) -> dict[str, Any]:
        return {
            "features": self.features.config(),
            "dim": len(self.matrix),
            "errors": self.errors.shape[2],
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> LinearStream:
        features, d = FeatureMap.from_config(config["features"]), config["dim"]
        errors = torch.zeros(d * d, features.size, config["errors"])
        return cls(features, torch.zeros(features.size), torch.zeros(d, d), errors)

    def label(self) -> str:
        if len(self.matrix) == 2:
            return f"stream function linear in {self.features.size} features"
        return "a turn of all, linear in the position"


OF_DISTANCE = "polynomials of distance"
KNOWN = 1e-8  # of the largest variance, below which float32 leaves none


class RadialFeatures(nn.Module):
    """Smooth even functions of r = |z|: r², r⁴, and bumps at several radii.

    A bump is exp(−(r−c)²/(2w²)) + exp(−(r+c)²/(2w²)), a smooth function of z also at 0.

    Args:
        reach: The largest distance that the data covers; r is clamped to it.
        centers: Centres c of the bumps.
        widths: Their widths w.
    """

    reach: Tensor
    centers: Tensor
    widths: Tensor

    def __init__(self, reach: float, centers: Tensor, widths: Tensor) -> None:
        super().__init__()
        self.register_buffer("reach", torch.tensor(float(reach), dtype=torch.float64))
        self.register_buffer("centers", centers.double())
        self.register_buffer("widths", widths.double())
        self.size = 2 + len(centers)

    def values(self, r: Tensor) -> Tensor:
        """Return the functions' values, ``(...) → (..., m)``."""
        powers = torch.stack([(r / self.reach) ** 2, (r / self.reach) ** 4], -1)
        near = (r[..., None] - self.centers) / self.widths
        far = (r[..., None] + self.centers) / self.widths
        bumps = (-0.5 * near.square()).exp() + (-0.5 * far.square()).exp()
        return torch.cat([powers, bumps], -1)

    def slopes(self, r: Tensor) -> Tensor:
        """Return dφ/d(r²), ``(...) → (..., m)``; finite at 0."""
        reach, c, w = self.reach, self.centers, self.widths
        powers = torch.stack([torch.ones_like(r) / reach**2, 2.0 * r.square() / reach**4], -1)
        safe = r.clamp_min(1e-6 * float(reach))[..., None]
        near = (-0.5 * ((safe - c) / w).square()).exp()
        far = near * (-2.0 * safe * c / w.square()).exp()
        # near − far over r without cancellation, c·(near − far)/r → 2c²/w² · near at 0
        odd = -near * torch.expm1(-2.0 * safe * c / w.square()) / safe
        return torch.cat([powers, (c * odd - near - far) / (2.0 * w.square())], -1)

    def mixing(self) -> tuple[np.ndarray, list[str]]:
        """Return the combinations of unit prior variance, ``(m, p)``, and their groups."""
        c, w = self.centers.numpy(), self.widths.numpy()
        parts, groups = [np.eye(2)], [OF_DISTANCE] * 2
        for width in dict.fromkeys(w):
            own = c[w == width]
            gram = np.exp(-0.5 * ((own[:, None] - own) / width) ** 2)
            gram += np.exp(-0.5 * ((own[:, None] + own) / width) ** 2)
            strengths, vectors = np.linalg.eigh(gram)
            kept = strengths > 1e-6 * strengths[-1]
            parts.append(vectors[:, kept] / np.sqrt(strengths[kept]))
            groups += [f"bumps of width {width:.3g} in distance"] * int(kept.sum())
        out = np.zeros((self.size, len(groups)))
        row = column = 0
        for part in parts:
            out[row : row + part.shape[0], column : column + part.shape[1]] = part
            row, column = row + part.shape[0], column + part.shape[1]
        return out, groups


class RadialInteraction(KnowsErrors, LearnedTerm, RadialKernel):
    """W(z) = Σ_m b_m w_m(|z|); beyond the reach of the data its force falls off as 1/r.

    The slope comes from a fine table in r, so that a pair costs the same whatever the number of
    functions.

    Args:
        features: The functions w_m.
        weights: b, ``(m)``.
        errors: F, ``(m, r)``; the covariance of b is F Fᵀ. None: not known.
    """

    weights: Tensor
    errors: Tensor
    NODES = 4096

    def __init__(
        self, features: RadialFeatures, weights: Tensor, errors: Tensor | None = None
    ) -> None:
        super().__init__()
        self.features = features
        self.register_buffer("weights", weights.double())
        none = weights.new_zeros(len(weights), 0)
        self.register_buffer("errors", (none if errors is None else errors).float())
        self._tables: tuple[Tensor, Tensor] | None = None

    @property
    def length(self) -> float:  # type: ignore[override]
        """The smallest width of the bumps."""
        return float(self.features.widths.min())

    def tables(self) -> tuple[Tensor, Tensor]:
        """Return W and its slope at equal steps of r from 0 to the reach, ``(NODES + 1)`` each."""
        if self._tables is None:
            r = torch.linspace(0.0, float(self.features.reach), self.NODES + 1).to(self.weights)
            self._tables = (
                self.features.values(r) @ self.weights,
                self.features.slopes(r) @ self.weights,
            )
        return self._tables

    def load_state_dict(self, *args: Any, **kwargs: Any) -> Any:
        self._tables = None
        return super().load_state_dict(*args, **kwargs)

    def _apply(self, *args: Any, **kwargs: Any) -> Any:  # as of a move to another device
        self._tables = None
        return super()._apply(*args, **kwargs)

    def value(self, x: Tensor, t: Time = None) -> Tensor:
        r = squared_norm(x).clamp_min(1e-30).sqrt().double()
        reach = float(self.features.reach)
        out = self._inside(r.clamp_max(reach))
        edge = 2.0 * reach**2 * float(self.tables()[1][-1])
        out += edge * (r / reach).clamp_min(1.0).log()
        return out.to(x.dtype)

    def _inside(self, r: Tensor) -> Tensor:
        """Return W up to the reach: cubic Hermite between the nodes, whose slopes are known."""
        value, slope = self.tables()
        step = float(self.features.reach) / self.NODES
        left = (r.detach() / step).long().clamp_(max=self.NODES - 1)
        u = r / step - left
        rise = value.diff()
        # dW/dr = 2r · dW/d(r²), in units of a step
        steep = 2.0 * step**2 * torch.arange(self.NODES + 1).to(slope) * slope
        low, rise, at_low, at_high = (
            part.take(left) for part in (value[:-1], rise, steep[:-1] - rise, rise - steep[1:])
        )
        return low + u * rise + u * (1.0 - u) * (at_low * (1.0 - u) + at_high * u)

    def slope(self, s: Tensor) -> Tensor:
        table = self.tables()[1].to(s)
        rise = table.diff(append=table[-1:])
        reach = float(self.features.reach)
        place = s.clamp(0.0, reach**2).sqrt_().mul_(self.NODES / reach).flatten()
        left = place.int()  # of many pairs half the bytes of a long
        out = table.index_select(0, left)
        out.addcmul_(rise.index_select(0, left), place.frac_())
        out = out.view(s.shape)
        # Most tiles have no pair beyond the reach.
        beyond = s.numel() > 0 and float(s.amax()) > reach**2
        return out.mul_(reach**2 / s.clamp_min(reach**2)) if beyond else out

    def p_value(self) -> float:
        """Return how often W would be as far from 0 by its errors alone (Wald's test).

        A direction of the weights that is not known, as along the gauge, says nothing.
        """
        errors = self.errors.double()
        variance, directions = torch.linalg.eigh(errors @ errors.T)
        known = variance > KNOWN * variance[-1]
        if not known.any():
            return 1.0
        z = (directions.T @ self.weights)[known].square() / variance[known]
        return float(chdtrc(int(known.sum()), float(z.sum())))

    def _value_std(self, x: Tensor, reference: Tensor, t: Time = None) -> Tensor:
        """Return the standard error of W(z) less its mean over a reference, ``(n, d) → (n)``."""
        reach, errors = float(self.features.reach), self.errors.double()

        def moved(z: Tensor) -> Tensor:
            r = squared_norm(z).double().sqrt()
            edge = 2.0 * reach**2 * self.features.slopes(r.new_tensor(reach)) @ errors
            beyond = (r / reach).clamp_min(1.0).log()[..., None] * edge
            return self.features.values(r.clamp_max(reach)) @ errors + beyond

        return (moved(x) - moved(reference).mean(0)).norm(dim=-1).to(x.dtype)

    def _gradient_std(self, x: Tensor, t: Time = None) -> Tensor:
        """Return the standard error of each component of the gradient, ``(..., d) → (..., d)``."""
        s, reach = squared_norm(x).double(), float(self.features.reach)
        slopes = self.features.slopes(s.sqrt().clamp_max(reach)) @ self.errors.double()
        size = slopes.norm(dim=-1) * (reach**2 / s.clamp_min(reach**2))
        return (2.0 * size[..., None] * x.abs()).to(x.dtype)

    def config(self) -> dict[str, Any]:
        return {"size": len(self.weights), "errors": self.errors.shape[1]}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> RadialInteraction:
        bumps = config["size"] - 2
        features = RadialFeatures(1.0, torch.zeros(bumps), torch.ones(bumps))
        errors = torch.zeros(config["size"], config["errors"])
        return cls(features, torch.zeros(config["size"]), errors)

    def label(self) -> str:
        return f"radial, {len(self.weights)} functions of distance"

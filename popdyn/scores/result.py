"""The result of ``score``: the dictionary of its JSON, which prints as the table."""

from __future__ import annotations

import copy
import html
import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from popdyn.base.screen import Screen
from popdyn.scores.tables import TextTable, flatten, tables_of

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Scores"]

WIDTH = 160
"""Characters of a printed line."""


class Scores(dict[str, Any]):
    """Scores by the keys of ``popdyn score --json``; printed, they are its tables.

    Args:
        document: The scores.
        label: What the row of the energy is called.

    Example:
        >>> from popdyn.scores import score
        >>> from popdyn import FreeEnergy
        >>> from popdyn.snapshots import make_tree
        >>> x = np.random.default_rng(0).normal(size=(3, 50, 2))
        >>> scores = score(FreeEnergy("quadratic"), make_tree(x, x, [0.0, 0.1, 0.2]))
        >>> scores["distribution"]["times"], scores.to_pandas().index.tolist()
        ([0.1, 0.2], ['estimate', 'zero', 'floor', 'copy_previous', 'mccann'])
    """

    def __init__(self, document: Mapping[str, Any], label: str = "estimate") -> None:
        super().__init__(document)
        self.label = label

    def to_dict(self) -> dict[str, Any]:
        """Return a copy as plain dictionaries and lists: what the JSON holds."""
        return copy.deepcopy(dict(self))

    def to_pandas(self) -> pd.DataFrame:
        """Return a table of numbers.

        Returns:
            A row for the energy and one for each reference; a column for each score by its dotted
            name, such as ``gradient.potential.skill``. Distances are means over the times that all
            rows have, NaN where something is not defined.
        """
        import pandas as pd

        references = self["references"]
        flat = {name: flatten(row, references) for name, row in self._rows().items()}
        return pd.DataFrame.from_dict(flat, orient="index", dtype=np.float64)

    def to_xarray(self) -> xr.Dataset:
        """Return the scores with their times.

        Returns:
            Along ``row`` the energy and the references, along ``time`` the predicted snapshots,
            along ``snapshot`` those on which gradients are scored: ``w2`` (row, time) and the other
            distances, ``potential_skill`` (row), ``potential_skill_by_time`` (row, snapshot) and
            the others like it, ``diffusivity`` and ``diffusivity_standard_error`` (row). NaN where
            something is not defined.
        """
        rows = list(self._rows().values())
        out = xr.Dataset(coords={"row": list(self._rows()), "time": self["distribution"]["times"]})
        lists = [k for k, v in self["distribution"].items() if isinstance(v, list) and k != "times"]
        for name in lists:
            missing = [None] * out.sizes["time"]
            out[name] = (
                ("row", "time"),
                _floats([r["distribution"].get(name, missing) for r in rows]),
            )
        for part, scores in self.get("gradient", {}).items():
            found = [row.get("gradient", {}).get(part, {}) for row in rows]
            for name, value in scores.items():
                if not isinstance(value, (dict, list)):
                    out[f"{part}_{name}"] = "row", _floats([f.get(name) for f in found])
            by_time = scores.get("by_time", [])
            out = out.assign_coords(snapshot=[c["time"] for c in by_time]) if by_time else out
            for name in [n for n in (by_time[0] if by_time else {}) if n != "time"]:
                nowhere: list[dict[str, Any]] = [{}] * len(by_time)
                values = [[c.get(name) for c in f.get("by_time", nowhere)] for f in found]
                out[f"{part}_{name}_by_time"] = ("row", "snapshot"), _floats(values)
        beta = [row.get("diffusivity", {}) for row in rows]
        out["diffusivity"] = "row", _floats([b.get("estimate") for b in beta])
        out["diffusivity_standard_error"] = "row", _floats([b.get("standard_error") for b in beta])
        return out

    def _rows(self) -> dict[str, Mapping[str, Any]]:
        return {self.label: self, **self["references"]}

    def _tables(self) -> list[TextTable]:
        return tables_of(list(self._rows().items()))

    def __repr__(self) -> str:
        text = io.StringIO()
        # A notebook would show what is printed, besides what is returned.
        screen = Screen(file=text, width=WIDTH, force_jupyter=False)
        if self.get("verdict"):
            screen.print(f"verdict: {self['verdict']}\n")
        for table in self._tables():
            screen.print(table.rich())
            screen.print()
        for note in self.get("notes", ()):
            screen.print(f"note: {note}", soft_wrap=True)
        return "\n".join(line.rstrip() for line in text.getvalue().rstrip().splitlines())

    def _repr_html_(self) -> str:
        verdict = self.get("verdict")
        parts = [f"<p>verdict: {html.escape(verdict)}</p>"] if verdict else []
        parts += [table.html() for table in self._tables()]
        parts += [f"<p>note: {html.escape(note)}</p>" for note in self.get("notes", ())]
        return "".join(parts)


def _floats(values: Any) -> np.ndarray:
    """Return an array of numbers, NaN for None."""
    return np.array(values, dtype=np.float64)

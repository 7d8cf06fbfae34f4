"""``popdyn validate``: hold a store against the format."""

from __future__ import annotations

from dataclasses import asdict

import click

from popdyn.cli.common import emit, json_option, standard_output
from popdyn.snapshots import validate

__all__ = ["command"]


@click.command(name="validate")
@click.argument("store", type=click.Path())
@json_option
def command(store: str, as_json: bool) -> int:
    """Check STORE against datasets/FORMAT.md; list every breach. Exit status 1 if there is one.

    \b
    Example:
      popdyn validate st.zarr
    """
    breaches = validate(store)
    if as_json:
        emit({"store": store, "valid": not breaches, "breaches": [asdict(b) for b in breaches]})
    else:
        for breach in breaches:
            standard_output.print(
                f"{store}: {breach.node}: {breach.found}\n    the page says: {breach.expected}",
                soft_wrap=True,
            )
        places = "one place" if len(breaches) == 1 else f"{len(breaches)} places"
        what = f"breaks the format in {places}" if breaches else "is sound"
        standard_output.print(f"{store} {what}", soft_wrap=True)
    return 1 if breaches else 0

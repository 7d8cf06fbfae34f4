"""The metadata of a store: consolidated once, last, and the digests of all files."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from popdyn.base.errors import PopdynError
from popdyn.base.files import write_manifest, write_text
from popdyn.snapshots.tree import FORMAT

__all__ = ["KIND", "ROOT", "DamageError", "consolidate", "metadata_files", "read_document"]

KIND = "store"
ROOT = "zarr.json"


class DamageError(PopdynError):
    """A piece of a store that is not what was written.

    Attributes:
        node: The file or the array and chunk, relative to the store.
        found: What is there.
        expected: What should be.
    """

    def __init__(self, store: Path, node: str, found: str, expected: str) -> None:
        super().__init__(f"{store}: {node} {found}: expected {expected}")
        self.store, self.node, self.found, self.expected = store, node, found, expected

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.store, self.node, self.found, self.expected)


def read_document(store: Path, name: str) -> dict[str, Any]:
    """Return a metadata file as JSON.

    Raises:
        DamageError: If it is missing, truncated, or no JSON object.
    """
    try:
        document = json.loads((store / name).read_bytes())
    except FileNotFoundError:
        raise DamageError(store, name, "is missing", "a metadata file") from None
    except (ValueError, RecursionError) as error:
        what = str(error).splitlines()[0]
        raise DamageError(store, name, f"is no JSON ({what})", "a metadata document") from None
    if not isinstance(document, dict):
        raise DamageError(store, name, f"holds {type(document).__name__}", "a JSON object")
    return document


def consolidate(store: Path, attributes: Mapping[str, Any]) -> None:
    """Write the root document, attributes and consolidated metadata, and the digests of all files.

    Args:
        store: Root folder, with everything else final.
        attributes: Root attributes.
    """
    empty = {"kind": "inline", "must_understand": False, "metadata": {}}
    members = {}
    for name in metadata_files(store):
        document = read_document(store, name)
        if document["node_type"] == "group":
            document["consolidated_metadata"] = empty
        members[name.removesuffix(f"/{ROOT}")] = document
    document = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": dict(attributes),
        "consolidated_metadata": {**empty, "metadata": members},
    }
    write_text(store / ROOT, json.dumps(document, indent=2, allow_nan=False))
    write_manifest(store, KIND, format=FORMAT)


def metadata_files(store: Path) -> list[str]:
    """Return the documents of all nodes but the root, relative to the store."""
    # Nodes lie at depth 1 and 2; the chunks below an array are many and are not searched.
    found = [*store.glob(f"*/{ROOT}"), *store.glob(f"*/*/{ROOT}")]
    return sorted(path.relative_to(store).as_posix() for path in found)

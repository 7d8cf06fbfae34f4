"""The metadata of a store: read as bytes, consolidated once, last, with a digest of itself."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from popdyn.errors import PopdynError

__all__ = [
    "DIGEST",
    "ROOT",
    "DamageError",
    "check_digests",
    "consolidate",
    "read_document",
    "records_digest",
    "write_file",
]

DIGEST = "metadata_digest"
ROOT = "zarr.json"
_ZEROS = "0" * 64
# A quote inside a JSON string is escaped, so only the real entry has this form.
_OWN = re.compile(rb'"zarr\.json":\s*"([0-9a-f]{64})"')


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
    """Write the root document: attributes, consolidated metadata, digests.

    Args:
        store: Root folder, with everything but the root document final.
        attributes: Root attributes, without the digest.
    """
    files = _member_files(store)
    empty = {"kind": "inline", "must_understand": False, "metadata": {}}
    members = {}
    for name in files:
        document = read_document(store, name)
        if document["node_type"] == "group":
            document["consolidated_metadata"] = empty
        members[name.removesuffix(f"/{ROOT}")] = document
    digests = {name: hashlib.sha256((store / name).read_bytes()).hexdigest() for name in files}
    document = {
        "zarr_format": 3,
        "node_type": "group",
        "attributes": {**attributes, DIGEST: {**digests, ROOT: _ZEROS}},
        "consolidated_metadata": {**empty, "metadata": members},
    }
    text = json.dumps(document, indent=2, allow_nan=False)
    digest = hashlib.sha256(text.encode()).hexdigest()
    write_file(store / ROOT, text.replace(f'"{ROOT}": "{_ZEROS}"', f'"{ROOT}": "{digest}"'))


def records_digest(store: Path) -> bool:
    """Return whether the root document has anything of a digest in it: a store once finished."""
    raw = (store / ROOT).read_bytes()
    return DIGEST.encode() in raw or bool(_OWN.search(raw))


def check_digests(store: Path) -> list[DamageError]:
    """Return what is wrong with the bytes of the metadata files; empty if nothing is."""
    raw = (store / ROOT).read_bytes()
    own = _OWN.findall(raw)
    if len(own) != 1:
        found = f"holds {len(own)} digests of itself"
        return [DamageError(store, ROOT, found, f"one, in the attribute {DIGEST}")]
    damages = []
    digest = hashlib.sha256(raw.replace(own[0], _ZEROS.encode())).hexdigest()
    if digest.encode() != own[0]:
        found, expected = f"has the digest {digest[:12]}…", f"{own[0].decode()[:12]}… as recorded"
        damages.append(DamageError(store, ROOT, found, expected))
    try:
        recorded = json.loads(raw)["attributes"][DIGEST]
        recorded = {name: value for name, value in recorded.items() if name != ROOT}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return damages or [
            DamageError(store, ROOT, "is not readable", "digests of every metadata file")
        ]
    present = _member_files(store)
    for name in sorted(recorded.keys() | present):
        if name not in recorded:
            damages.append(
                DamageError(store, name, "has no recorded digest", "no further metadata")
            )
        elif name not in present:
            damages.append(DamageError(store, name, "is missing", "a metadata file"))
        else:
            digest = hashlib.sha256((store / name).read_bytes()).hexdigest()
            if digest != recorded[name]:
                expected = f"{str(recorded[name])[:12]}… as recorded"
                damages.append(DamageError(store, name, f"has the digest {digest[:12]}…", expected))
    return damages


def write_file(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    temporary = path.with_name(path.name + ".new")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def _member_files(store: Path) -> list[str]:
    # Nodes lie at depth 1 and 2; the chunks below an array are many and are not searched.
    found = [*store.glob(f"*/{ROOT}"), *store.glob(f"*/*/{ROOT}")]
    return sorted(path.relative_to(store).as_posix() for path in found)

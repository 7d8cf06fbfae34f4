"""Stores of format 1, which are read: digests of the metadata inside the root document."""

import hashlib
import json
import re
from pathlib import Path

from popdyn.snapshots.metadata import ROOT, DamageError, metadata_files

__all__ = ["DIGEST", "check_digests", "records_digest"]

DIGEST = "metadata_digest"
_ZEROS = "0" * 64
# A quote inside a JSON string is escaped, so only the real entry has this form.
_OWN = re.compile(rb'"zarr\.json":\s*"([0-9a-f]{64})"')


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
    present = metadata_files(store)
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

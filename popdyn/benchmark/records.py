"""JSON files that carry a digest of what they say: as popdyn wrote them, or named."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from popdyn.base.errors import PopdynError
from popdyn.base.files import write_json
from popdyn.base.plain import json_of

__all__ = ["digest", "is_record", "put_aside", "read_record", "write_record"]

_DIGEST = "record_digest"


def write_record(file: Path, payload: Mapping[str, Any]) -> None:
    """Write a payload and its digest, whole or not at all."""
    file.parent.mkdir(parents=True, exist_ok=True)
    payload = json_of(payload)
    write_json(file, {**payload, _DIGEST: digest(payload)})


def read_record(file: Path) -> dict[str, Any] | None:
    """Return what :func:`write_record` wrote, or None if there is nothing.

    Raises:
        PopdynError: If it is cut, was changed, or is something else.
    """
    try:
        found = json.loads(file.read_bytes(), parse_constant=_refuse)
        recorded = found.pop(_DIGEST)
        sound = digest(found) == recorded
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        raise PopdynError(f"'{file}' is cut or damaged: expected the JSON written") from None
    except (KeyError, AttributeError, TypeError, IsADirectoryError):
        raise PopdynError(f"'{file}' is none that popdyn wrote: expected a record") from None
    if not sound:
        raise PopdynError(f"'{file}' was changed: its digest is not that of what it says")
    return dict(found)


def is_record(file: Path) -> bool:
    """Return whether popdyn wrote a file, though somebody may have changed what it says."""
    try:
        return _DIGEST in json.loads(file.read_bytes())
    except (ValueError, RecursionError, TypeError, OSError):
        return False


def put_aside(path: Path) -> Path:
    """Rename what is in the way to a free name beside it: it may be somebody's work."""
    number = 1
    while os.path.lexists(aside := path.with_name(f"{path.name}.aside-{number}")):
        number += 1
    return path.rename(aside)


def _refuse(constant: str) -> None:
    raise ValueError(constant)  # popdyn writes null where a number is not finite


def digest(parts: Any) -> str:
    """Return a digest of what would stand in a JSON file."""
    text = json.dumps(json_of(parts), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]

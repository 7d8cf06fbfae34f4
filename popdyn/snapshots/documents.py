"""What the page says of a single metadata document, as plain checks on JSON."""

from collections.abc import Iterator, Mapping
from typing import Any

from popdyn.snapshots.layout import DIMENSIONS, DTYPES
from popdyn.snapshots.tree import FORMAT

__all__ = ["Finding", "array_findings", "attribute_findings", "sized_findings"]

Finding = tuple[str, str]
"""What was found, and the name of the rule that it breaks."""

_BYTES = {"name": "bytes", "configuration": {"endian": "little"}}
_FILL = {"x": "NaN", "count": -1, "time": "NaN"}


def attribute_findings(attributes: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield what is wrong with the root attributes."""

    def wrong(name: str, rule: str) -> Finding:
        found = f"{name} = {attributes[name]!r}" if name in attributes else f"no attribute {name}"
        return found if len(found) < 120 else found[:117] + "…", rule

    get = attributes.get
    if get("popdyn_format") not in (1, FORMAT) or isinstance(get("popdyn_format"), bool):
        yield wrong("popdyn_format", "format")
    if get("complete") is not True:
        yield wrong("complete", "complete")
    for name in ("title", "history"):
        if not isinstance(get(name), str):
            yield wrong(name, "text")
    source = get("source")
    if not (isinstance(source, dict) and "popdyn" in source and _texts(source.values())):
        yield wrong("source", "source")
    if get("observation") not in ("unpaired", "paired"):
        yield wrong("observation", "observation")
    truth = "energy" if get("popdyn_format") == 1 else "dynamics"
    if truth not in attributes or not _rebuilds(get(truth)):
        yield wrong(truth, "dynamics")
    checks = {
        "initial": lambda v: isinstance(v, dict),
        "scheme": lambda v: isinstance(v, str),
        "seed": lambda v: isinstance(v, int) and not isinstance(v, bool) and v >= 0,
    }
    for name, sound in checks.items():
        if name not in attributes or not (get(name) is None or sound(get(name))):
            yield wrong(name, name)


def sized_findings(
    attributes: Mapping[str, Any], dimension: int | None, intervals: int | None
) -> Iterator[Finding]:
    """Yield what is wrong with ``step`` and ``standardize``, whose lengths the arrays decide.

    Args:
        attributes: Root attributes.
        dimension: d, or None where no array tells: then any length will do.
        intervals: K, likewise.
    """
    step = attributes.get("step")
    if isinstance(step, list):
        sound = _numbers(step, intervals) and all(h > 0 for h in step)
    else:
        sound = step is None or (_number(step) and step > 0)
    if "step" not in attributes or not sound:
        yield f"step = {str(step)[:90]}" if "step" in attributes else "no attribute step", "step"
    if "standardize" not in attributes:
        return
    value = attributes["standardize"]
    sound = isinstance(value, dict) and value.get("method") in ("none", "global", "component")
    sound = sound and all(_numbers(value.get(key), dimension) for key in ("mean", "scale"))
    if not sound or any(scale <= 0 for scale in value["scale"]):
        yield f"standardize = {str(value)[:90]}", "standardize"


def array_findings(name: str, document: Mapping[str, Any], *, ours: bool) -> Iterator[Finding]:
    """Yield what is wrong with the document of an array.

    Args:
        name: Name of the array in its group.
        document: Its metadata document.
        ours: Whether it is one of the three arrays of ``train`` or ``test``; of others only the
            checksums are the format's business.
    """
    inner, index, shard = _codecs(document)
    if _names(inner)[-1:] != ["crc32c"] or (shard is not None and _names(index)[-1:] != ["crc32c"]):
        yield f"codecs {_names(document.get('codecs'))}", "checksum"
    if not ours:
        return
    dims = list(DIMENSIONS[name])
    expected = {"dimension_names": dims, "data_type": DTYPES[name], "fill_value": _FILL[name]}
    for key, value in expected.items():
        if document.get(key) != value:
            yield f"{key} {document.get(key)!r}", name
    if name == "time" and _at(document, "attributes", "units") != "1":
        yield f"units {_at(document, 'attributes', 'units')!r}", "time"
    plain = _names(inner) == ["bytes", "zstd", "crc32c"] and inner[0] == _BYTES
    if not plain or document.get("storage_transformers"):
        yield f"codecs {_names(inner)}", "codecs"
    elif shard is not None and index != [_BYTES, {"name": "crc32c"}]:
        yield f"index codecs {_names(index)}", "codecs"
    encoding = document.get("chunk_key_encoding")
    if encoding != {"name": "default", "configuration": {"separator": "/"}}:
        yield f"chunk_key_encoding {encoding!r}", "codecs"
    yield from _grid_findings(name, document, shard)


def _grid_findings(name: str, document: Mapping[str, Any], inner: Any) -> Iterator[Finding]:
    shape: Any = document.get("shape")
    grid = document.get("chunk_grid")
    pieces: Any = _at(document, "chunk_grid", "configuration", "chunk_shape")
    shapes = [shape, pieces] if inner is None else [shape, pieces, inner]
    ndim = len(DIMENSIONS[name])
    if not all(_sizes(s, ndim) for s in shapes) or _at(document, "chunk_grid", "name") != "regular":
        yield f"shape {shape!r} with chunk_grid {grid!r}", "grid"
    elif name == "x":
        # Rows of no particle are one chunk of one row that is never written.
        for piece in shapes[1:]:
            if piece[0] != 1 or piece[2] != shape[2] or piece[1] < 1:
                yield f"chunks {piece} of shape {shape}", "grid"
    elif inner is not None or pieces != shape:
        yield f"chunks {pieces} of shape {shape}", "grid"


def _codecs(document: Mapping[str, Any]) -> tuple[list[Any], list[Any], Any]:
    """Return the codecs of a chunk, those of a shard's index, and the shard's chunk shape."""
    codecs = document.get("codecs")
    codecs = codecs if isinstance(codecs, list) else []
    if _names(codecs) != ["sharding_indexed"]:
        return codecs, [], None
    configuration = codecs[0].get("configuration")
    configuration = configuration if isinstance(configuration, dict) else {}
    inner, index = configuration.get("codecs"), configuration.get("index_codecs")
    return (
        inner if isinstance(inner, list) else [],
        index if isinstance(index, list) else [],
        configuration.get("chunk_shape", ()),
    )


def _names(codecs: Any) -> list[Any]:
    if not isinstance(codecs, list):
        return []
    return [codec.get("name") if isinstance(codec, dict) else codec for codec in codecs]


def _at(document: Any, *keys: str) -> Any:
    for key in keys:
        document = document.get(key) if isinstance(document, dict) else None
    return document


def _sizes(shape: Any, ndim: int) -> bool:
    return (
        isinstance(shape, list)
        and len(shape) == ndim
        and all(isinstance(n, int) and not isinstance(n, bool) and n >= 0 for n in shape)
    )


def _number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _numbers(values: Any, length: int | None) -> bool:
    known = isinstance(values, list) and (length is None or len(values) == length)
    return known and all(_number(value) for value in values)


def _texts(values: Any) -> bool:
    return all(isinstance(value, str) for value in values)


def _rebuilds(spec: Any) -> bool:
    if spec is None:
        return True
    # Only here, so that whoever opens a store does not wait for torch.
    from popdyn.dynamics import Dynamics

    try:
        Dynamics.from_spec(spec)
    except Exception:  # whatever a spec of the wrong shape runs into
        return False
    return True

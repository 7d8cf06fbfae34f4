"""Labels of snapshots and the times they stand for: numbers, dates, or texts with a number."""

import datetime
import itertools
import math
import re
import shlex
from collections.abc import Mapping
from typing import Any

import numpy as np

from popdyn.base.errors import PopdynError
from popdyn.snapshots.cells import Cells, listed

__all__ = ["snapshots_of"]

_WORDS = """
d day days h hr hrs hour hours min mins minute minutes s sec secs second seconds
w wk wks week weeks mo month months y yr yrs year years
e t time timepoint tp hpf dpf hpi dpi dpc
"""
TIME_WORDS = frozenset(_WORDS.split())
"""Words that say of the number beside them that it is a time; ``E`` is an embryonic day."""

_WITH_WORD = re.compile(r"([A-Za-z]*)[ _.:=]*(\d+(?:\.\d+)?)[ _]*([A-Za-z]*)")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d([T ][\d:.]+(Z|[+-]\d\d:?\d\d)?)?")
SHOWN = 40
FEW = 5  # cells of a snapshot: one goes to the test group, and no learner takes fewer than four


def snapshots_of(
    cells: Cells, time_map: Mapping[Any, float] | None
) -> tuple[list[Any], np.ndarray, list[np.ndarray], list[str]]:
    """Return the snapshots of cells, by their true times.

    Without a map the times are those that the source gives, the labels where they are numbers,
    days since the first where they are dates, and the numbers in them where all are one time
    word and a number, such as ``day 0``, ``E7.5`` or ``24h``.

    Returns:
        The labels in the order of their times; the times; the rows of each; and notes, which say
        how the times were read.

    Raises:
        PopdynError: On a label without a time, times that are not finite or not distinct, or a
            single snapshot.
    """
    name = cells.label_name
    values, notes = _plain(cells.labels, name)
    distinct = list(dict.fromkeys(values))
    if time_map is not None:
        found = _mapped(distinct, {str(k): v for k, v in time_map.items()}, name)
    elif cells.times is not None and (paired := _paired(distinct, cells.times)):
        found = paired
    else:
        found, more = _read(distinct, name)
        notes += more
    for label, time in found.items():
        if not math.isfinite(time):
            raise PopdynError(f"label '{label}' has the time {time}: expected a finite number")
    labels = sorted(distinct, key=lambda label: found[label])
    for a, b in itertools.pairwise(labels):
        if found[a] == found[b]:
            raise PopdynError(
                f"labels '{a}' and '{b}' both have the time {found[a]:g}: expected different times"
            )
    if len(labels) < 2:
        raise PopdynError(
            f"{name} has the one label {listed(labels)}: expected two snapshots or more"
        )
    index = {label: k for k, label in enumerate(labels)}
    order = np.array([index[v] for v in values])
    rows = [np.flatnonzero(order == k) for k in range(len(labels))]
    few = [k for k, own in enumerate(rows) if len(own) < FEW]
    if few:
        least = f"'{labels[few[0]]}' {len(rows[few[0]])}"
        notes = [
            *notes,
            f"{len(few)} of {len(labels)} snapshots have fewer than {FEW} cells ({least}): no "
            f"learner can use them; is {name} the time?",
        ]
    return labels, np.array([found[label] for label in labels], dtype=np.float64), rows, notes


def _plain(labels: np.ndarray, name: str) -> tuple[list[Any], list[str]]:
    """Return labels as numbers and texts, and a note: time spans are numbers of days."""
    kind = labels.dtype.kind
    if kind == "m":
        days = labels / np.timedelta64(1, "D")
        return days.tolist(), [f"the labels of {name} are time spans: times are days"]
    if kind == "M":
        return [str(np.datetime_as_string(v, unit="auto")) for v in labels], []
    out = labels.tolist()
    try:
        out = [v.decode() if isinstance(v, bytes) else v for v in out]
    except UnicodeDecodeError as error:
        raise PopdynError(f"{name} holds {error.object!r}: expected texts in UTF-8") from None
    out = [v.isoformat() if isinstance(v, datetime.date) else v for v in out]
    return [v if isinstance(v, (str, int, float)) else str(v) for v in out], []


def _paired(distinct: list[Any], times: np.ndarray) -> dict[Any, float] | None:
    """Return the times that a source of popdyn's own gives for its sorted labels."""
    times = np.asarray(times)
    if times.shape != (len(distinct),) or times.dtype.kind not in "fiu":
        return None
    return {k: float(t) for k, t in zip(np.unique(distinct).tolist(), times, strict=True)}


def _mapped(distinct: list[Any], known: Mapping[str, float], name: str) -> dict[Any, float]:
    keys = {label: _key(label, known) for label in distinct}
    for label, key in keys.items():
        if key not in known:
            raise PopdynError(
                f"label '{label}' of {name} has no time: expected it in time_map, which has "
                f"{listed(list(known))}"
            )
    strange = set(known) - set(keys.values())
    if strange:
        raise PopdynError(
            f"time_map names {', '.join(sorted(strange))}: expected labels of {name}, which are "
            f"{listed(distinct)}"
        )
    found = {label: _number(known[key]) for label, key in keys.items()}
    for label, time in found.items():
        if time is None:
            raise PopdynError(
                f"time_map gives label '{label}' the time {known[keys[label]]!r}: expected a number"
            )
    return {label: time for label, time in found.items() if time is not None}


def _key(label: Any, known: Mapping[str, float]) -> str:
    text = str(label)
    if text not in known and isinstance(label, float) and label.is_integer():
        return str(int(label))
    return text


def _read(distinct: list[Any], name: str) -> tuple[dict[Any, float], list[str]]:
    """Return the times that labels say themselves, and a note where they are not numbers."""
    numbers = {label: _number(label) for label in distinct}
    if all(t is not None for t in numbers.values()):
        return {k: t for k, t in numbers.items() if t is not None}, []
    dates = _days(distinct)
    if dates is not None:
        first = min(distinct, key=lambda label: dates[label])
        return dates, [f"the labels of {name} are dates: times are days since {first}"]
    words = _with_words(distinct)
    if words is not None:
        a, b = sorted(distinct, key=lambda label: words[label])[:: max(1, len(distinct) - 1)][:2]
        said = f"'{a}' is {words[a]:g}, '{b}' is {words[b]:g}"
        return words, [f"times are the numbers in the labels of {name} ({said})"]
    strange = next(label for label, t in numbers.items() if t is None)
    raise PopdynError(
        f"label '{strange}' of {name} is no number: expected numbers, or a time_map with the true "
        f"time of each, such as --time-map {_ready(distinct)}"
    )


def _number(label: Any) -> float | None:
    try:
        return float(label)
    except (TypeError, ValueError):
        return None


def _days(distinct: list[Any]) -> dict[Any, float] | None:
    """Return days since the first date, or None where a label is no date."""
    import pandas as pd

    if not all(isinstance(v, str) and _DATE.fullmatch(v) for v in distinct):
        return None
    try:
        found = pd.to_datetime(pd.Series(distinct), format="ISO8601", utc=True)
    except (ValueError, TypeError):
        return None
    days = (found - found.min()).dt.total_seconds() / 86_400
    return dict(zip(distinct, days.tolist(), strict=True))


def _with_words(distinct: list[Any]) -> dict[Any, float] | None:
    """Return the numbers in labels that are all the same time words and a number."""
    parts = [_WITH_WORD.fullmatch(str(label).strip()) for label in distinct]
    words = {(m[1].lower(), m[3].lower()) for m in parts if m}
    if not all(parts) or len(words) != 1 or not set(words.pop()) - {""} <= TIME_WORDS:
        return None
    return {label: float(m[2]) for label, m in zip(distinct, parts, strict=True) if m}


def _ready(distinct: list[Any]) -> str:
    """Return an argument of --time-map to fill in: with the numbers in the labels, if they say."""
    found = [_NUMBER.findall(str(label)) for label in distinct]
    if all(len(f) == 1 for f in found) and len({f[0] for f in found}) == len(found):
        numbers = sorted((float(f[0]), str(v)) for f, v in zip(found, distinct, strict=True))
        filled = [f"{label}={time:g}" for time, label in numbers]
    else:  # an order that nobody knows is not made up
        filled = [f"{label}=TIME" for label in sorted(map(str, distinct))]
    text = ",".join(filled[:SHOWN])
    more = f" … ({len(filled)} labels in all)" if len(filled) > SHOWN else ""
    return shlex.quote(text) + more

"""Damages, kills and hostile inputs of every kind, counted; each again by its number."""

from __future__ import annotations

import argparse
import contextlib
import importlib
import json
import os
import random
import select
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from fuzzing.children import adopt_orphans, warm_up
from fuzzing.goods import make_goods
from fuzzing.tries import Kind, Place, Verdict

from popdyn.base.files import utf8

KINDS = ("removal", "damage", "kill", "input")
RECORD = 4
"""Bytes of a number of a try in the pipe to the workers."""
SHOWN = 40
"""Failures of each kind that are printed in full."""


def main() -> int:
    arguments = _arguments()
    if arguments.folder:
        arguments.folder.mkdir(parents=True, exist_ok=True)
    root = Path(tempfile.mkdtemp(prefix="fuzz_", dir=arguments.folder))
    chosen = _chosen(arguments.only)
    kinds = [_kind(name) for name in dict.fromkeys(name for name, _ in chosen)]
    warm_up()
    # A child that dies leaves its helpers to this process, which counts them.
    adopt_orphans()
    try:
        (root / "goods").mkdir()
        begin = time.monotonic()
        needs = tuple(dict.fromkeys(n for kind in kinds for n in kind.needs))
        goods = make_goods(needs, root / "goods")
        _say(f"{len(goods)} sound things made in {time.monotonic() - begin:.0f} s")
        pages = []
        for kind in kinds:
            numbers = [n for name, n in chosen if name == kind.name and n is not None]
            if not numbers:
                tries = arguments.tries or max(1, round(arguments.scale * kind.tries))
                wanted = arguments.row or kind.rows
                rows = [i for i, row in enumerate(kind.rows) if row in wanted]
                numbers = [i * len(kind.rows) + row for i in range(tries) for row in rows]
            began = time.monotonic()
            found = dict(_run(kind, numbers, arguments.seed, goods, root, arguments.workers))
            if arguments.all:
                for n, v in sorted(found.items()):
                    _say(f"{kind.name}:{n} {v.outcome}: {v.command}: {v.detail}")
            pages.append(_page(kind, found, time.monotonic() - began))
    finally:
        if arguments.keep:
            _say(f"kept: {root}")
        else:
            _remove(root)
    if arguments.json:
        print(utf8(json.dumps({"seed": arguments.seed, "kinds": pages}, ensure_ascii=False)))
    elif arguments.markdown:
        print(_markdown(pages, arguments.seed, arguments.scale))
    else:
        _print(pages)
    return int(any(page["failed"] for page in pages))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument(
        "--seed", type=int, default=0, help="draws every try together with its number"
    )
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        metavar="KIND[:NUMBER]",
        help=f"one of {', '.join(KINDS)}, or one try of it; may be given again",
    )
    parser.add_argument(
        "--row", action="append", default=[], help="this row of a table alone; may be given again"
    )
    parser.add_argument("--tries", type=int, help="of each row of each table")
    parser.add_argument(
        "--scale",
        type=float,
        default=1.0,
        help="share of the full size, without --tries",
    )
    parser.add_argument("--workers", type=int, default=1, help="processes that try at a time")
    parser.add_argument("--json", action="store_true", help="one JSON object on standard output")
    parser.add_argument("--all", action="store_true", help="also say what came of every try")
    parser.add_argument("--markdown", action="store_true", help="the page docs/robustness.md")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder without it")
    parser.add_argument("--keep", action="store_true", help="keep the folders of failed tries")
    return parser.parse_args()


def _chosen(only: Sequence[str]) -> list[tuple[str, int | None]]:
    out: list[tuple[str, int | None]] = []
    for text in only or KINDS:
        name, sign, number = text.partition(":")
        if name not in KINDS or (sign and not number.isdecimal()):
            sys.exit(f"fuzz: --only '{text}': expected one of {', '.join(KINDS)}, or KIND:NUMBER")
        out.append((name, int(number) if sign else None))
    return out


def _kind(name: str) -> Kind:
    found: Kind = getattr(importlib.import_module(f"fuzzing.{name}"), name.upper())
    return found


def _run(
    kind: Kind, numbers: Sequence[int], seed: int, goods: dict[str, Path], root: Path, workers: int
) -> Iterator[tuple[int, Verdict]]:
    """Yield the verdict on each try, from ``workers`` forked processes that share the numbers."""
    asked, ask = os.pipe()
    answers = []
    for _ in range(workers):
        read, write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        if os.fork() == 0:
            os.close(ask)
            os.close(read)
            _work(kind, asked, write, seed, goods, root)
        os.close(write)
        answers.append(read)
    os.close(asked)
    waiting = list(reversed(numbers))
    done = failed = 0
    open_, kept = set(answers), dict.fromkeys(answers, b"")
    bar = sys.stderr.isatty()
    # Of the numbers only some lie in the pipe: it must not fill up before anybody reads.
    for _ in range(min(2 * workers, len(waiting))):
        os.write(ask, waiting.pop().to_bytes(RECORD, "big"))
    if not waiting:
        os.close(ask)
    while open_:
        for read in select.select(list(open_), [], [])[0]:
            data = os.read(read, 1 << 16)
            if not data:
                open_.discard(read)
                continue
            *lines, kept[read] = (kept[read] + data).split(b"\n")
            for line in lines:
                number, fields = json.loads(line)
                done += 1
                failed += fields["failed"]
                if bar:
                    print(
                        f"\r{kind.name} {done}/{len(numbers)}, {failed} failed",
                        end="",
                        file=sys.stderr,
                    )
                if waiting:
                    os.write(ask, waiting.pop().to_bytes(RECORD, "big"))
                    if not waiting:
                        os.close(ask)
                yield number, Verdict(**fields)
    if bar:
        print(file=sys.stderr)
    for _ in answers:
        with contextlib.suppress(ChildProcessError):
            os.wait()
    if done < len(numbers):
        _say(f"{len(numbers) - done} tries of {kind.name} gave no answer")


def _work(
    kind: Kind, asked: int, answer: int, seed: int, goods: dict[str, Path], root: Path
) -> None:
    """Try what stands in the pipe until it is closed; never returns."""
    try:
        adopt_orphans()
        while record := os.read(asked, RECORD):
            number = int.from_bytes(record, "big")
            folder = root / f"{kind.name}_{number}"
            folder.mkdir()
            index, row = divmod(number, len(kind.rows))
            place = Place(folder, goods, random.Random(f"{seed}:{kind.name}:{number}"))
            try:
                verdict = kind.attempt(kind.rows[row], index, place)
            except Exception as error:
                where = traceback.extract_tb(error.__traceback__)[-1]
                at = f"{Path(where.filename).name}:{where.lineno}"
                verdict = Verdict("fuzz failed", True, f"{type(error).__name__}: {error} ({at})")
            if not verdict.failed:
                _remove(folder)
            line = json.dumps([number, asdict(verdict)]).encode() + b"\n"
            while line:
                line = line[os.write(answer, line) :]
    finally:
        os._exit(0)


def _remove(folder: Path) -> None:
    # A try may have taken the rights away from a folder of its own.
    for here, _, _ in os.walk(folder):
        with contextlib.suppress(OSError):
            os.chmod(here, 0o700)
    shutil.rmtree(folder, ignore_errors=True)


def _page(kind: Kind, found: dict[int, Verdict], seconds: float) -> dict[str, Any]:
    rows: dict[str, dict[str, int]] = {}
    for number, verdict in sorted(found.items()):
        row = rows.setdefault(kind.rows[number % len(kind.rows)], {})
        row[verdict.outcome] = row.get(verdict.outcome, 0) + 1
    failures = [
        {"number": f"{kind.name}:{n}", "row": kind.rows[n % len(kind.rows)]} | asdict(v)
        for n, v in sorted(found.items())
        if v.failed
    ]
    bad = sorted({f["outcome"] for f in failures})
    return {
        "kind": kind.name,
        "title": kind.title,
        "failure": kind.failure,
        "tries": len(found),
        "failed": len(failures),
        "seconds": round(seconds),
        "rows": {name: rows[name] for name in kind.rows if name in rows},
        "bad": bad,
        "failures": failures,
    }


def _columns(page: dict[str, Any]) -> list[str]:
    names = sorted({name for row in page["rows"].values() for name in row})
    return [n for n in names if n not in page["bad"]] + page["bad"]


def _print(pages: Iterable[dict[str, Any]]) -> None:
    for page in pages:
        columns = _columns(page)
        wide = max(map(len, page["rows"]), default=0)
        print(f"\n{page['kind']}: {page['title']}")
        print(f"{page['tries']} tries, {page['failed']} failed, {page['seconds']} s\n")
        print(" " * wide + "  tries" + "".join(f"  {c}" for c in columns))
        for name, row in page["rows"].items():
            cells = "".join(f"  {row.get(c, 0) or '':>{len(c)}}" for c in columns)
            print(f"{name:<{wide}}  {sum(row.values()):>5}{cells}")
        for failure in page["failures"][:SHOWN]:
            print(f"\n{failure['number']} ({failure['row']}): {failure['outcome']}")
            print(f"  {failure['command']}\n  {failure['detail']}")
        if page["failed"] > SHOWN:
            print(f"\n… and {page['failed'] - SHOWN} more: --json has them all")


def _markdown(pages: Sequence[dict[str, Any]], seed: int, scale: float) -> str:
    minutes = sum(page["seconds"] for page in pages) / 60
    tries = sum(page["tries"] for page in pages)
    size = "" if scale == 1 else f" --scale {scale:g}"
    lines = [
        "# Faults on purpose",
        "",
        f"Written by `scripts/fuzz --workers 2 --seed {seed}{size} --markdown`: "
        f"{tries} tries in {minutes:.0f} minutes. "
        "Each try follows from the seed, its kind and its number: `scripts/fuzz --only input:137` "
        "runs one again. `scripts/test` runs a few of each kind.",
        "",
        "| kind | what counts as a failure | tries | failed |",
        "|---|---|---|---|",
        *(f"| {p['kind']} | {p['failure']} | {p['tries']} | **{p['failed']}** |" for p in pages),
    ]
    for page in pages:
        columns = _columns(page)
        lines += ["", f"## {page['kind']}", "", f"{page['title']}.", ""]
        lines += ["| | tries | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
        for name, row in page["rows"].items():
            cells = " | ".join(str(row.get(c, 0)) for c in columns)
            lines.append(f"| {name} | {sum(row.values())} | {cells} |")
        if page["failures"]:
            lines += ["", "Failed:", ""]
            lines += [
                f"- `{f['number']}` ({f['row']}): {f['outcome']}; {f['detail']}"
                for f in page["failures"]
            ]
    return "\n".join(lines)


def _say(text: str) -> None:
    print(f"fuzz: {text}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())

"""What popdyn writes: marked as its own, whole or not there, and nothing else touched."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import filelock

from popdyn.base.errors import PopdynError

__all__ = [
    "MANIFEST",
    "Breach",
    "Target",
    "check_manifest",
    "checked_bytes",
    "digest_of",
    "extra_files",
    "files_below",
    "is_litter",
    "manifest_kind",
    "read_manifest",
    "tidy",
    "unfinished",
    "utf8",
    "write_bytes",
    "write_json",
    "write_manifest",
    "write_text",
    "written",
]

MANIFEST = "popdyn.json"
"""The mark of a folder: ``{"popdyn": kind, "format": n, "files": {relative path: SHA-256},
"digest": SHA-256}``, the last one of ``files`` as compact JSON with sorted keys."""

# What file systems and file managers leave in any folder, and what a killed `written` leaves.
_HALF = ".popdyn-"
_LITTER = (".DS_Store", "._*", ".nfs*", "Thumbs.db", f"{_HALF}*")
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/")
_LOCK = "lock"
_LOOKS = 4  # at a target that is refused, 10 ms apart
_ATTEMPTS = 50  # at a workshop that another process takes down at the same moment, 10 ms apart


def is_litter(name: str) -> bool:
    """Return whether a file of this name is nobody's.

    Example:
        >>> is_litter(".DS_Store"), is_litter("notes.txt")
        (True, False)
    """
    return any(fnmatchcase(name, pattern) for pattern in _LITTER)


def files_below(folder: Path) -> set[str]:
    """Return the paths of all files below a folder, relative to it; litter is left out.

    A link counts as a file and is not followed.
    """
    found, stack = set(), [folder]
    while stack:
        with os.scandir(stack.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    stack.append(Path(entry.path))
                elif not is_litter(entry.name):
                    found.add(Path(entry.path).relative_to(folder).as_posix())
    return found


# ---------------------------------------------------------------------------------------------
# Single files


@contextlib.contextmanager
def written(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a name to write to, of the same ending; the file takes its own name when it is whole.

    After an error, a full disk among them, the old file is as it was.
    """
    path = Path(path)
    beside = path.with_name(f"{_HALF}{uuid.uuid4().hex[:12]}{path.suffix}")
    try:
        yield beside
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)


def write_bytes(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file whole or not at all."""
    with written(path) as beside:
        beside.write_bytes(content)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text in UTF-8, whole or not at all."""
    write_bytes(path, utf8(text).encode())


def utf8(text: str) -> str:
    """Return a text with what is no UTF-8 escaped, as bytes in the names of files may be.

    In JSON these are escapes, too: who reads it gets the name that was meant.

    Example:
        >>> import json
        >>> name = chr(0xDCFF)
        >>> json.loads(utf8(json.dumps(name, ensure_ascii=False))) == name
        True
    """
    return text.encode("utf-8", "backslashreplace").decode()


def write_json(path: str | os.PathLike[str], payload: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(path, json.dumps(payload, indent=1, ensure_ascii=False) + "\n")


# ---------------------------------------------------------------------------------------------
# Manifests


class Breach(NamedTuple):
    """A file that is not as it was written.

    Example:
        >>> Breach("weights.safetensors", "is missing").found
        'is missing'
    """

    file: str
    found: str

    def __str__(self) -> str:
        return f"{self.file} {self.found}"


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def write_manifest(
    folder: Path, kind: str, *, format: int = 1, files: Iterable[str] | None = None
) -> None:
    """Mark a folder as popdyn's: to be called last, when all its files are there.

    Args:
        folder: The folder.
        kind: What it is, such as ``"run"``.
        format: Version of what a folder of this kind holds.
        files: Relative paths of popdyn's own files; all files there if None.
    """
    names = files_below(folder) if files is None else set(files)
    digests = {name: digest_of(folder / name) for name in sorted(names - {MANIFEST})}
    write_json(folder / MANIFEST, _mark(kind, format, digests))


def manifest_kind(folder: str | os.PathLike[str]) -> str | None:
    """Return what a folder says that it is, or None if it has no mark that can be read."""
    try:
        return str(_manifest(Path(folder))["popdyn"])
    except (PopdynError, OSError):
        return None


def read_manifest(folder: str | os.PathLike[str], kind: str, *, format: int = 1) -> dict[str, str]:
    """Return the digests of a folder's files, by relative path.

    Raises:
        PopdynError: If the folder is none of popdyn's, of another kind or another format.
    """
    folder = Path(folder)
    try:
        found = _manifest(folder)
    except FileNotFoundError:
        what = f"has no {MANIFEST}" if folder.is_dir() else "is no folder"
        raise PopdynError(f"'{folder}' is no {kind} of popdyn's: it {what}") from None
    if found["popdyn"] != kind:
        raise PopdynError(f"'{folder}' is a {found['popdyn']} of popdyn's: expected a {kind}")
    if found["format"] != format:
        raise PopdynError(f"'{folder}' is a {kind} of format {found['format']}: expected {format}")
    files: dict[str, str] = found["files"]
    return files


def _manifest(folder: Path) -> dict[str, Any]:
    file = folder / MANIFEST
    try:
        content = file.read_bytes()
    except NotADirectoryError:
        raise FileNotFoundError(file) from None
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        raise PopdynError(f"'{file}' is damaged: expected the JSON that popdyn wrote") from None
    sound = (
        isinstance(found, dict)
        and found.keys() == {"popdyn", "format", "files", "digest"}
        and isinstance(found["files"], dict)
        and found == _mark(found["popdyn"], found["format"], found["files"])
    )
    if not sound:
        raise PopdynError(f"'{file}' is damaged: expected the mark that popdyn wrote")
    return dict(found)


def _mark(kind: str, format: int, files: dict[str, str]) -> dict[str, Any]:
    compact = json.dumps(files, sort_keys=True, separators=(",", ":"))
    digest = hashlib.sha256(compact.encode()).hexdigest()
    return {"popdyn": kind, "format": format, "files": files, "digest": digest}


def check_manifest(folder: str | os.PathLike[str], kind: str, *, format: int = 1) -> list[Breach]:
    """Return the files that are missing or changed; empty if the folder is as it was written.

    Raises:
        PopdynError: As :func:`read_manifest`.
    """
    folder = Path(folder)
    breaches = []
    for name, recorded in read_manifest(folder, kind, format=format).items():
        try:
            found = digest_of(folder / name)
        except OSError as error:
            missing = isinstance(error, FileNotFoundError)
            breaches.append(Breach(name, "is missing" if missing else f"({error.strerror})"))
            continue
        if found != recorded:
            what = f"has the digest {found[:12]}…: expected {recorded[:12]}… as written"
            breaches.append(Breach(name, what))
    return breaches


def extra_files(folder: str | os.PathLike[str], kind: str, *, format: int = 1) -> list[str]:
    """Return the files in a folder that popdyn did not write, relative to it."""
    owned = read_manifest(folder, kind, format=format)
    return sorted(files_below(Path(folder)) - owned.keys() - {MANIFEST})


def checked_bytes(folder: Path, name: str, digests: dict[str, str]) -> bytes:
    """Return what a file of a marked folder holds, once it agrees with its digest.

    Raises:
        PopdynError: If it is missing or changed.
    """
    recorded = digests.get(name)
    try:
        content = (folder / name).read_bytes()
    except FileNotFoundError:
        raise PopdynError(f"'{folder / name}' is missing: expected it as written") from None
    found = hashlib.sha256(content).hexdigest()
    if found != recorded:
        raise PopdynError(
            f"'{folder / name}' is damaged: it has the digest {found[:12]}…, expected "
            f"{str(recorded)[:12]}… as written"
        )
    return content


# ---------------------------------------------------------------------------------------------
# Targets


Owned = Callable[[Path], Collection[str]]
"""Says which files below a path are popdyn's; a PopdynError where the path has not its mark."""


class Target:
    """The one place that decides what may be written where, and what may be replaced.

    Inside the block the caller writes to :attr:`place`; at its end the old thing, if there is
    one, makes way for the new one by a rename. An error or a kill leaves the old one.

    What is being written lies in a sibling ``<name>.popdyn`` with a mark of its own: the lock,
    the new thing, and for a moment the old one. A process that dies leaves it for the next one.

    Args:
        path: File or folder to write.
        kind: What it will be: ``"store"``, ``"run"``, ``"bench"``, ``"export"``, ``"figure"``.
        overwrite: Whether something of the same kind, which nobody added to, may be replaced.
        keep: Whether the unfinished thing stays after an error and is given to the next process,
            which finds :attr:`resumed` true.
        in_place: Whether a folder of this kind that is there already is gone on with: without
            ``overwrite`` :attr:`place` is then the path itself, under the lock.
        reads: What the command reads, which is never replaced.
        owned: Says which files below an existing path are popdyn's; by the manifest if None.

    Attributes:
        path: Where the thing will be.
        place: Where to write it.
        resumed: Whether there was an unfinished one at :attr:`place` when the block began.
        keep: As given; may be changed inside the block.

    Raises:
        PopdynError: On entering, before anything is written: where the path is a URL, exists and
            may not be replaced, is read, or is being written by another process.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "a"
        >>> with Target(path, "run") as target:
        ...     target.place.mkdir()
        ...     write_text(target.place / "config.json", "{}")
        ...     write_manifest(target.place, "run")
        >>> sorted(files_below(path))
        ['config.json', 'popdyn.json']
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        kind: str,
        *,
        overwrite: bool = False,
        keep: bool = False,
        in_place: bool = False,
        reads: Iterable[str | os.PathLike[str] | None] = (),
        owned: Owned | None = None,
    ) -> None:
        if _URL.match(os.fspath(path)):
            raise PopdynError(f"'{os.fspath(path)}' is a URL: expected a local path to write")
        self.path, self.kind = Path(path), kind
        self.overwrite, self.keep, self.in_place = overwrite, keep, in_place
        self.reads = [Path(read) for read in reads if read is not None]
        self._owned = owned or (lambda folder: {*read_manifest(folder, kind), MANIFEST})
        self.resumed = False
        self._workshop = _Workshop(self.path)

    @property
    def place(self) -> Path:
        going_on = self.in_place and not (self.overwrite and os.path.lexists(self.path))
        return self.path if going_on else self._workshop.new

    def check(self) -> None:
        """Raise a PopdynError unless the path may be written; nothing is touched."""
        path = self.path
        there = os.path.lexists(path)
        if path.name in ("", ".."):
            raise PopdynError(f"'{path}' is no name: expected one for the {self.kind}")
        for read in self.reads:
            if _overlap(path, read):
                raise PopdynError(
                    f"'{path}' overlaps with '{read}', which is read: expected another --out"
                )
        parent = next(p for p in path.parents if os.path.lexists(p))
        if not parent.is_dir():
            raise PopdynError(f"'{path}' cannot be written: '{parent}' is no folder")
        self._workshop.check()
        if not there or (self.in_place and not self.overwrite and self._empty_or_owned()):
            return
        if not self.overwrite:
            raise PopdynError(f"'{path}' exists: expected a new name, or --overwrite")
        if path.is_symlink():
            raise PopdynError(f"'{path}' is a link: it is not replaced")
        here = Path.cwd()
        if path.resolve() in (here, *here.parents) or os.path.ismount(path):
            raise PopdynError(f"'{path}' holds the working folder or a disk: it is not replaced")
        try:
            if path.is_dir() and not any(path.iterdir()):
                return
            owned = self._owned(path)
            extra = sorted(files_below(path) - set(owned)) if path.is_dir() else []
        except FileNotFoundError:
            raise PopdynError(
                f"'{path}' is being replaced by another process: expected to be alone"
            ) from None
        if extra:
            more = f" and {len(extra) - 1} more" if len(extra) > 1 else ""
            raise PopdynError(
                f"'{path}' holds '{extra[0]}'{more}, which popdyn did not write: it is not "
                "replaced, move what is yours elsewhere"
            )

    def drop(self) -> None:
        """Remove the unfinished thing at :attr:`place`."""
        if self.place == self._workshop.new:
            _remove(self._workshop.new)
        self.resumed = False

    def __enter__(self) -> Self:
        self._first_check()
        self._workshop.open()
        try:
            self._workshop.put_back()
            self.check()
            _remove(self._workshop.old)
            self.resumed = os.path.lexists(self.place)
            if self.resumed and not self.keep:
                self.drop()
        except BaseException:
            self._workshop.close()
            raise
        return self

    def _first_check(self) -> None:
        """Refuse before anything is touched, unless another process is at work just now.

        While it swaps, the path looks like nothing of popdyn's: the lock decides then.
        """
        for _ in range(2):
            try:
                return self.check()
            except PopdynError:
                if self._workshop.is_marked():
                    return None
                time.sleep(0.02)
        return self.check()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        try:
            if kind is not None:
                _let_zarr_finish()
            if kind is None and self.place != self.path:
                self._swap()
            elif not self.keep:
                _remove(self._workshop.new)
        finally:
            self._workshop.close()

    def _swap(self) -> None:
        # Again: what came in the meantime is somebody's, too.
        self.check()
        if self.path.is_dir():
            self.path.rename(self._workshop.old)
        os.replace(self._workshop.new, self.path)
        _remove(self._workshop.old)

    def _empty_or_owned(self) -> bool:
        if self.path.is_dir() and not any(not is_litter(p.name) for p in self.path.iterdir()):
            return True
        self._owned(self.path)
        return True


class _Workshop:
    """The sibling of a target where it is made: a mark, the lock, what is new, what was there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.folder = path.with_name(f"{path.name}.popdyn") if path.name else path
        self.new = self.folder / f"new{path.suffix}"
        self.old = self.folder / f"old{path.suffix}"
        self._lock = filelock.FileLock(self.folder / _LOCK, blocking=False, thread_local=False)
        self._made: list[Path] = []

    def check(self) -> None:
        """Raise a PopdynError if something of the user's has the workshop's name."""
        if os.path.lexists(self.folder) and not self.is_ours():
            raise PopdynError(
                f"'{self.folder}' is in the way and none of popdyn's: expected its name to be free"
            )

    def open(self) -> None:
        """Make the folder and take the lock.

        Who takes a workshop down removes the mark, the lock and the folder in this order, and
        holds the lock meanwhile. So a folder with nothing but an empty lock is a workshop, too,
        and a mark is written under the lock alone.
        """
        for _ in range(_ATTEMPTS):
            try:
                self._make_folders()
            except FileExistsError:  # taken down while it was looked at, or a file in the way
                self.check()
                continue
            self.check()
            try:
                self._lock.acquire()
            except filelock.Timeout:
                raise PopdynError(
                    f"'{self.path}' is being written by another process: expected to be alone"
                ) from None
            except (FileExistsError, FileNotFoundError):  # taken down between two lines
                time.sleep(0.01)
                continue
            if self._holds_the_name():
                if not self.is_marked():
                    self._mark()
                return
            self._lock.release()
            time.sleep(0.01)
        raise PopdynError(f"'{self.folder}' cannot be locked: expected to be alone")

    def _mark(self) -> None:
        (self.folder / MANIFEST).write_text(json.dumps(_mark("workshop", 1, {})) + "\n")

    def put_back(self) -> None:
        """Undo the first half of a swap whose process died before the second."""
        if os.path.lexists(self.old) and not os.path.lexists(self.path):
            self.old.rename(self.path)

    def close(self) -> None:
        """Give the lock up, and take the workshop down if nothing is left in it."""
        try:
            for half in self.folder.glob(f"{_HALF}*"):  # of a process that was killed in `written`
                half.unlink()
            if {entry.name for entry in self.folder.iterdir()} <= {MANIFEST, _LOCK}:
                (self.folder / MANIFEST).unlink(missing_ok=True)
                (self.folder / _LOCK).unlink(missing_ok=True)
                self.folder.rmdir()
        except OSError:
            # Another process has come in, and it is its own now; or one of our threads wrote on.
            with contextlib.suppress(OSError):
                if not self.is_marked() and not self.is_ours():
                    self._mark()
        finally:
            self._lock.release()
        for parent in self._made:
            with contextlib.suppress(OSError):
                parent.rmdir()  # where nothing came of it

    def _make_folders(self) -> None:
        missing = [p for p in self.path.parents if not p.exists()]
        for _ in range(_ATTEMPTS):
            try:
                self.folder.mkdir(parents=True, exist_ok=True)
            except (FileExistsError, FileNotFoundError):  # taken down between two looks at it
                time.sleep(0.01)
            else:
                break
        self._made = [*missing, *(p for p in self._made if p not in missing)]

    def is_marked(self) -> bool:
        return manifest_kind(self.folder) == "workshop"

    def is_ours(self) -> bool:
        if self.folder.is_symlink():
            return False
        for _ in range(_ATTEMPTS):
            if self.is_marked():
                return True
            try:
                with os.scandir(self.folder) as entries:
                    holds = {e.name: _holds(e) for e in entries if not e.name.startswith(_HALF)}
            except FileNotFoundError:  # taken down at this moment
                return True
            except NotADirectoryError:
                return False
            if not holds.keys() <= {MANIFEST, _LOCK, self.new.name, self.old.name}:
                return False
            if not any(holds.values()):  # what a thread of a dying process made again, too
                return True
            time.sleep(0.01)  # it has come between the two looks, or is none
        return False

    def _holds_the_name(self) -> bool:
        """Return whether the file that is locked is still the one that others would open."""
        try:
            mine = os.fstat(self._lock._context.lock_file_fd or -1)
            return os.path.samestat(mine, os.stat(self.folder / _LOCK))
        except OSError:
            return False


def _holds(entry: os.DirEntry[str]) -> bool:
    """Return whether a file has a byte, or a folder a file."""
    if entry.is_dir(follow_symlinks=False):
        return bool(files_below(Path(entry.path)))
    return entry.stat(follow_symlinks=False).st_size > 0


def tidy(path: str | os.PathLike[str]) -> None:
    """Take down what a process left beside a path that it had finished."""
    workshop = _Workshop(Path(path))
    if not os.path.lexists(workshop.folder) or not workshop.is_ours():
        return
    with contextlib.suppress(PopdynError):  # another one is at work
        workshop.open()
        workshop.close()


def unfinished(path: str | os.PathLike[str]) -> str | None:
    """Return what is known of a thing that is not there because its making was cut short."""
    workshop = _Workshop(Path(path))
    if not workshop.is_marked():
        return None
    if os.path.lexists(workshop.old):
        return (
            f"it was being replaced, the old one is '{workshop.old}': the same command puts it back"
        )
    if os.path.lexists(workshop.new):
        return (
            f"it is unfinished, in '{workshop.folder}': the same command goes on (train: --resume)"
        )
    return None


def _overlap(path: Path, read: Path) -> bool:
    """Return whether writing one would touch the other; links are followed."""
    try:
        target, source = path.resolve(), read.resolve()
    except (OSError, RuntimeError) as error:  # links that go round in a circle
        raise PopdynError(f"'{path}' cannot be followed: {error}") from None
    if source in target.parents:
        # Beside the user's own files something new does no harm; in a store or a run it does.
        marked = any((source / name).exists() for name in (MANIFEST, "zarr.json"))
        return marked or os.path.lexists(path)
    return target == source or target in source.parents


def _let_zarr_finish(seconds: float = 5.0) -> None:
    """Wait until Zarr's threads have written what they had begun when their caller was interrupted.

    An exception ends the wait for them, not them: they would write on in a folder that is gone.
    """
    sync = sys.modules.get("zarr.core.sync")
    loop = getattr(sync, "loop", [None])[0]
    if loop is None or not loop.is_running():
        return

    async def idle() -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=seconds)

    with contextlib.suppress(TimeoutError):  # what the caller says matters more
        asyncio.run_coroutine_threadsafe(idle(), loop).result(2.0 * seconds)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        # Litter that appears meanwhile, as .nfs files do, must not stop what is done already.
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)

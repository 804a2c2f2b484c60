"""Folders that are written whole or not at all, by one run at a time."""

import ctypes
import errno
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from defects_in_welds.params import UserError

_NOT_WRITABLE = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "free some space, or have the quota raised",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
    errno.EROFS: "write elsewhere",
    errno.EACCES: "ask for the right to write there, or write elsewhere",
    errno.EPERM: "ask for the right to write there, or write elsewhere",
    errno.EEXIST: "a file lies where its folder should be: move the file away",
    errno.ENOTDIR: "a file lies where its folder should be: move the file away",
}
_HELD_BY_ANOTHER = (errno.EAGAIN, errno.EACCES)

# Of Linux's renameat2.
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to write into, which takes the place of the old one when everything went well.

    Args:
        path: Folder to write; a link to one stays a link.

    Yields:
        A temporary neighbour of it.

    Raises:
        UserError: If there is no space or no right to write there, another run is writing it, or the working directory
            would be replaced.
    """
    target = path.resolve()
    if target in (Path.cwd(), *Path.cwd().parents):
        raise UserError(f"{path}: the working directory lies in it and would be replaced; name another folder")
    # Named anew by every run: workers that outlive a killed one must not write into its successor's.
    partial = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    with write_errors(path), reserved(path):
        try:
            _clear_up(target)
            partial.mkdir()
            yield partial
            _put_in_place(partial, target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """Give a file name to write under, which takes the place of the old file when everything went well.

    Args:
        path: File to write; its folder is made where it is missing, and a link to a file stays a link.

    Yields:
        The temporary name, beside it.
    """
    target = path.resolve()
    partial = target.with_name(f".{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        yield partial
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)


@contextmanager
def reserved(path: Path, *, is_awaited: bool = False) -> Iterator[None]:
    """Keep other runs from writing a file or folder.

    The system frees the place when a run ends in whatever way. A process does not wait for itself, and must not reserve
    a place twice: the first to leave would free it.

    Args:
        path: What is going to be written.
        is_awaited: Whether to wait for another run that has reserved it.

    Raises:
        UserError: If another run has reserved it and is not waited for, or there is no space or no right to reserve it.
    """
    target = path.resolve()
    name = target.with_name(f".{target.name}.lock")
    with write_errors(path):
        lock = _locked(name, path, is_awaited)
    try:
        with write_errors(path):
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
        yield
    finally:
        with suppress(OSError):  # rights that are gone: the lock is freed all the same
            name.unlink()
        with suppress(OSError):  # what a full disk has not taken is tried again
            lock.close()


def is_free(folder: Path, names: Collection[str], mark_name: str, mark: str) -> bool:
    """Tell whether a folder may be replaced: it is missing or empty, or holds nothing but what was written by us.

    Args:
        folder: What would be replaced.
        names: Of all that we write into it.
        mark_name: One of them, a text file that begins with a mark of its writer.
        mark: That mark.
    """
    if not folder.exists():
        return True
    found = {path.name for path in folder.iterdir()} if folder.is_dir() else {folder.name}
    if not found <= set(names):
        return False
    try:
        with (folder / mark_name).open(encoding="utf-8") as file:
            return mark in file.read(200)
    except (OSError, ValueError):
        return not found


@contextmanager
def write_errors(path: Path) -> Iterator[None]:
    """Say in one line that a file or folder cannot be written, and what to do.

    Args:
        path: What is written.

    Raises:
        UserError: If there is no space or no right to write it.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NOT_WRITABLE or not _is_of_writing(error, path):
            raise
        remedy = _NOT_WRITABLE[error.errno]
        raise UserError(f"{path}: cannot be written: {os.strerror(error.errno)}; {remedy}") from None


@contextmanager
def read_together(*paths: Path) -> Iterator[None]:
    """Refuse what was read from folders of which a run has replaced one in the meantime.

    Args:
        paths: Folders that are read within the context.

    Raises:
        UserError: If that happened.
    """
    before = [_identity(path) for path in paths]
    yield
    for path, identity in zip(paths, before, strict=True):
        if _identity(path) != identity:
            raise UserError(f"{path}: another run has replaced it while it was read; start again")


def _identity(path: Path) -> tuple[int, int, int] | None:
    if not path.exists():
        return None
    found = path.stat()
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _is_of_writing(error: OSError, path: Path) -> bool:
    """Tell whether an error is of a path, its temporary neighbours or what should be above it; not of what is read."""
    if not isinstance(error.filename, str):  # as of a file that was open already
        return True
    file, target = Path(error.filename).resolve(), path.resolve()
    if file in target.parents:
        return not os.path.isdir(file)  # noqa: PTH112 - pathlib's raises where one may not look
    beside = file.relative_to(target.parent).parts[0] if target.parent in file.parents else ""
    return beside == target.name or beside.startswith(f".{target.name}.")


def _locked(name: Path, path: Path, is_awaited: bool) -> TextIO:
    """Open the lock of a path, and hold it.

    Raises:
        UserError: If another run holds it and is not waited for.
    """
    while True:
        name.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock = name.open("a+", encoding="ascii")
        except FileNotFoundError:  # another process has removed the empty folder
            continue
        try:
            _lock(lock.fileno(), is_awaited)
        except OSError:
            lock.seek(0)
            holder = lock.read()
            lock.close()
            raise UserError(
                f"{path}: another run{f' (process {holder})' if holder else ''} is writing it; wait until it has "
                "ended, or stop it"
            ) from None
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock.fileno()), name.stat()):
                return lock
        lock.close()  # its holder has just removed it


def _lock(descriptor: int, is_awaited: bool) -> None:
    """Lock a file for this process alone: the lock of a killed run does not live on in its workers.

    Raises:
        OSError: If another process holds the lock and is not waited for.
    """
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | (0 if is_awaited else fcntl.LOCK_NB))
    except OSError as error:
        if error.errno in _HELD_BY_ANOTHER:
            raise
        # A file system without locks: go on without one.


def _clear_up(path: Path) -> None:
    """Remove what killed runs have left, and give the old folder its place again if no new one has taken it."""
    old = _old(path)
    if old.exists() and not path.exists():
        old.rename(path)
    for leftover in (old, *path.parent.glob(f".{glob.escape(path.name)}.*partial")):
        shutil.rmtree(leftover, ignore_errors=True)


def _put_in_place(partial: Path, path: Path) -> None:
    if not path.exists():
        partial.rename(path)
    elif not _exchange(partial, path):
        old = _old(path)
        try:
            path.rename(old)
            partial.rename(path)  # a kill just before leaves the old folder under its other name
        finally:
            if not path.exists():
                old.rename(path)
        shutil.rmtree(old, ignore_errors=True)


def _exchange(first: Path, second: Path) -> bool:
    """Let two folders change places in one step; False where the system cannot."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    names = os.fsencode(first), os.fsencode(second)
    return rename is not None and rename(_AT_FDCWD, names[0], _AT_FDCWD, names[1], _RENAME_EXCHANGE) == 0


def _old(path: Path) -> Path:
    return path.with_name(f".{path.name}.old")

"""Write a folder whole or not at all."""

import errno
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from defects_in_welds.params import UserError

_NOT_WRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def replaced_folder(path: Path) -> Iterator[Path]:
    """Give an empty folder to write into, which takes the place of the old one when everything went well.

    Args:
        path: Folder to write.

    Yields:
        A temporary neighbour of it.

    Raises:
        UserError: If there is no space or no right to write there.
    """
    partial, old = (path.with_name(f".{path.name}.{state}") for state in ("partial", "old"))
    try:
        _put_back(old, path)  # a kill between the two renames below leaves nothing else
        for leftover in (partial, old):
            shutil.rmtree(leftover, ignore_errors=True)
        partial.mkdir(parents=True)
        yield partial
        try:
            if path.exists():
                path.rename(old)
            partial.rename(path)
        finally:
            _put_back(old, path)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
        raise UserError(f"{path}: cannot be written: {error.strerror}; free some space or write elsewhere") from None
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _put_back(old: Path, path: Path) -> None:
    """Give the old folder its place again, if no new one has taken it."""
    if old.exists() and not path.exists():
        old.rename(path)

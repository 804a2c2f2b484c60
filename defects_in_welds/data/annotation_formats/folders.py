"""What the annotation formats share: finding files in a data set's folder without leaving it."""

import math
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.data.image_reading import IMAGE_SUFFIXES, read_image_hw

SPLIT_FOLDERS = {
    Split.TRAIN: ("train", "training"),
    Split.VAL: ("val", "valid", "validation"),
    Split.TEST: ("test", "testing"),
}


NO_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")
"""What steers a terminal, and halves of characters, which no UTF-8 file can hold."""

LONGEST_NAME = 200
"""Characters of the name of a class or weld: the preview and the report take seconds to set thousands."""

_MOST_FOLDERS = 20
"""Of a path from another computer, so many folders are looked for at most; a path may name thousands."""

_LONGEST_YAML = 200_000
"""In characters; takes about two seconds. A thousand class names are a tenth of it."""

_IN_DVC_CACHE = re.compile(r"/files/md5/[0-9a-f]{2}/[0-9a-f]{30}$")


def relative_name(path: Path, root: Path) -> str:
    """Name a file of the data set by its path below the root, with forward slashes."""
    return path.relative_to(root).as_posix()


def list_files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """List the files below a folder that have one of the suffixes (lower case), sorted; hidden ones are passed over."""
    return sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.is_file()
    )


def list_images(folder: Path) -> list[Path]:
    """List the image files below a folder, sorted."""
    return list_files(folder, IMAGE_SUFFIXES)


def split_of(folders: Sequence[str]) -> Split | None:
    """Find the split that a path names, as ``images/train2017`` does; the innermost folder that names one counts.

    A folder names a split only by its whole name, digits at its end aside: ``test pieces`` is no split.
    """
    return next(filter(None, map(_split_named, reversed(folders))), None)


def split_of_file(path: Path, root: Path) -> Split | None:
    """Find the split that an annotation file is of: what the first or last word of its name says, else its folders."""
    words = re.split(r"[-_. ]+", path.stem.strip("-_. "))
    return _split_named(words[-1]) or _split_named(words[0]) or split_of(path.parent.relative_to(root).parts)


def _split_named(word: str) -> Split | None:
    plain = word.lower().rstrip("0123456789")
    return next((split for split, names in SPLIT_FOLDERS.items() if plain in names), None)


def find_below(bases: Sequence[Path], named: str) -> Path | None:
    """Find the file or folder that an annotation file names, without ever leaving the bases.

    ``..`` is taken off. An absolute path, or one that starts with ``..``, was written for another place: of it, the
    longest end that exists below one of the bases counts, of up to `_MOST_FOLDERS` folders.

    Args:
        bases: Folders, in order of preference.
        named: The path, with slashes of either kind.
    """
    parts = [part for part in re.split(r"[/\\]", named) if part not in ("", ".", "..") and not part.endswith(":")]
    is_foreign = re.match(r"[/\\]|\.\.|[A-Za-z]:", named) is not None
    starts = range(max(0, len(parts) - _MOST_FOLDERS), len(parts)) if is_foreign else range(min(len(parts), 1))
    ends = (base.joinpath(*parts[start:]) for start in starts for base in bases)
    try:
        return next((path for path in ends if path.exists()), None)
    except OSError:  # a name too long for the file system
        return None


def size_mismatch(image: Path, width: float, height: float) -> str | None:
    """Say how an image differs from the size that its annotations give; None where it does not, or cannot be read."""
    try:
        actual_height, actual_width = read_image_hw(image)
    except DataError:  # found again, and reported, when its pixels are read
        return None
    if (actual_width, actual_height) == (width, height):
        return None
    return f"says {width:g}x{height:g} px, but {image.name} has {actual_width}x{actual_height} px"


def read_text(path: Path) -> str:
    """Read a text file as UTF-8; bytes that are not UTF-8 become marks that no number or name parses from.

    Raises:
        DataError: If the file cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8-sig", errors="replace")
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def read_plain_yaml(text: str) -> Any:  # noqa: ANN401 - whatever the file holds
    """Parse YAML without tags and aliases: a few nested aliases would write out as gigabytes.

    Raises:
        yaml.YAMLError: If it is none, or nested too deeply, or too long, or holds a number or date that Python cannot
            take.
    """
    if len(text) > _LONGEST_YAML:
        raise yaml.YAMLError(f"longer than {_LONGEST_YAML} characters")
    try:
        return _PlainLoader(text).get_single_data()
    except RecursionError:
        raise yaml.YAMLError("nested too deeply") from None
    except (ValueError, OverflowError) as error:
        raise yaml.YAMLError(str(error)) from None


class _PlainLoader(yaml.SafeLoader):
    """Refuses aliases, and tags: PyYAML stumbles over `!!bool maybe` and the like."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) or event.tag is not None:
            kind = "an alias" if isinstance(event, yaml.AliasEvent) else "a tag"
            raise yaml.MarkedYAMLError(problem=f"{kind}, which is refused", problem_mark=event.start_mark)
        return super().compose_node(parent, index)


def refuse_links_out(root: Path) -> None:
    """Refuse links that lead out of a data set's folder: lines of what they lead to would be quoted in findings.

    Links to single images are read, and so are those that DVC makes where its cache is linked. A link that leads
    nowhere is refused too: its film would pass for one that nobody has annotated.

    Raises:
        DataError: If there is such a link.
    """
    home = root.resolve()
    for folder, folders, files in os.walk(root):
        for path in (Path(folder, name) for name in sorted([*folders, *files])):
            if not path.is_symlink():
                continue
            try:
                if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file():
                    continue
                target = path.resolve(strict=True)
            except (OSError, RuntimeError):  # the latter of a link to itself
                raise DataError(f"{path}: a link that leads nowhere; correct it or take it away") from None
            if not target.is_relative_to(home) and not _IN_DVC_CACHE.search(target.as_posix()):
                raise DataError(f"{path}: a link out of the data folder, which is refused; put what it leads to there")


def to_number(text: object) -> float:
    """Parse a finite number.

    Raises:
        ValueError: If it is none; the message says so.
    """
    try:
        number = float(text)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"{text!r:.80} is no number") from None
    except OverflowError:  # a whole number of JSON may have any size
        raise ValueError("a number is too large") from None
    if isinstance(text, bool) or not math.isfinite(number):
        raise ValueError(f"{text!r:.80} is no finite number")
    return number

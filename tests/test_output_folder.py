import errno
from pathlib import Path

import pytest

from defects_in_welds import output_folder
from defects_in_welds.output_folder import replaced_file, replaced_folder, write_errors
from defects_in_welds.params import UserError


def write(path: Path, text: str) -> None:
    with replaced_folder(path) as folder:
        (folder / "file").write_text(text)


def write_and_fail(path: Path, error: BaseException) -> None:
    with replaced_folder(path) as folder:
        (folder / "file").write_text("half")
        raise error


def test_a_new_folder_takes_the_place_of_the_old(tmp_path):
    write(tmp_path / "out", "old")
    write(tmp_path / "out", "new")
    assert (tmp_path / "out/file").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), ValueError(), OSError(errno.EIO, "broken")])
def test_a_failure_leaves_the_old_folder_and_passes_on(tmp_path, error):
    write(tmp_path / "out", "old")
    with pytest.raises(type(error)):
        write_and_fail(tmp_path / "out", error)
    assert (tmp_path / "out/file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_one_line_that_names_the_folder(tmp_path):
    with pytest.raises(UserError, match=r"out: cannot be written: No space left on device; free some space"):
        write_and_fail(tmp_path / "out", OSError(errno.ENOSPC, "No space left on device"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("error", "raised"), [(KeyboardInterrupt(), KeyboardInterrupt), (OSError(errno.EACCES, "not allowed"), UserError)]
)
def test_the_old_folder_comes_back_if_the_new_one_cannot_take_its_place(tmp_path, monkeypatch, error, raised):
    write(tmp_path / "out", "old")
    rename = Path.rename

    def refuse_the_new_one(path, target):
        if path.name.endswith(".partial"):
            raise error
        return rename(path, target)

    monkeypatch.setattr(output_folder, "_exchange", lambda first, second: False)  # as systems other than Linux
    monkeypatch.setattr(Path, "rename", refuse_the_new_one)
    with pytest.raises(raised):
        write(tmp_path / "out", "new")
    assert (tmp_path / "out/file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_old_folder_comes_back_after_a_kill_just_before_the_new_one_took_its_place(tmp_path):
    write(tmp_path / "out", "old")
    (tmp_path / "out").rename(tmp_path / ".out.old")
    with pytest.raises(ValueError, match="early"):
        write_and_fail(tmp_path / "out", ValueError("early"))
    assert (tmp_path / "out/file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_the_remains_of_a_killed_run_are_cleared(tmp_path):
    for name in (".out.0a1b2c3d.partial", ".out.partial", ".out.old"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "rest").touch()
    write(tmp_path / "out", "new")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["file"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to("elsewhere")
    write(tmp_path / "out", "new")
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "elsewhere/file").read_text() == "new"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["elsewhere", "out"]


@pytest.mark.parametrize("name", [".", "..", "../here"])
def test_the_working_directory_is_not_replaced(tmp_path, monkeypatch, name):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(UserError, match=r": the working directory lies in it and would be replaced; name another"):
        write(Path(name), "new")


def test_an_error_of_reading_is_not_blamed_on_writing(tmp_path):
    unreadable = OSError(errno.EACCES, "Permission denied", str(tmp_path / "film.tif"))
    with pytest.raises(OSError, match=r"film\.tif"):
        write_and_fail(tmp_path / "out", unreadable)
    with (
        pytest.raises(UserError, match="out: cannot be written: Permission denied"),
        replaced_folder(tmp_path / "out") as folder,
    ):
        raise OSError(errno.EACCES, "Permission denied", str(folder / "film.tif"))


@pytest.mark.parametrize("name", ["missing", "missing/out", "missing/out/deep/file", "missing/.out.lock"])
def test_what_is_part_of_the_output_is_of_writing(tmp_path, name):
    with pytest.raises(UserError, match="out: cannot be written"), write_errors(tmp_path / "missing/out"):
        raise OSError(errno.EROFS, "Read-only file system", str(tmp_path / name))


@pytest.mark.parametrize("below", ["out", "folder/out"])
def test_a_file_in_place_of_a_parent_folder_is_named(tmp_path, below):
    (tmp_path / "artifacts").touch()
    with (
        pytest.raises(UserError, match=r"out: cannot be written: .*; a file lies where its folder should be"),
        replaced_folder(tmp_path / "artifacts" / below),
    ):
        pytest.fail("begun")


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "folder/file"
    with replaced_file(path) as partial:
        partial.write_text("old")
    with pytest.raises(ZeroDivisionError), replaced_file(path) as partial:
        partial.write_text(f"half {1 / 0}")
    assert path.read_text() == "old"
    assert [found.name for found in path.parent.iterdir()] == ["file"]

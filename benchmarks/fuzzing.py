"""Hand every reader of outside data files that nobody would write, guided by the code that they reach.

    pip install --target /tmp/atheris atheris
    PYTHONPATH=/tmp/atheris python benchmarks/fuzzing.py --seconds 3600

Atheris (libFuzzer) changes the files of ``fuzzed_readers.py``, and keeps the changes that run lines of this package, of
pydicom, tifffile, PyYAML or xlrd that no earlier ones ran. What is C, such as OpenCV or expat, is run, but guides
nothing. Each reader has a process of its own, on a file system in memory.

A file fails where reading it ends in anything but a result or an error of ours, takes more than two seconds of the
processor or 200 MiB of memory, opens a file elsewhere, starts a program or asks the network, or ends the process. Files
that failed stay in ``--keep``, named by what went wrong; ``tests/security/test_fuzzed_data.py`` is made of them.
"""

import argparse
import contextlib
import hashlib
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

MOST_SECONDS = 2.0
MOST_MIB = 200
_MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory
_GUIDES = {
    "YOLO data.yaml": ["yaml"],
    "limits": ["yaml"],
    "TIFF": ["tifffile"],
    "DICOM": ["pydicom"],
    "BAM's xls": ["xlrd"],
}  # before anything is imported
_NO_EXECUTIONS = {"executions": 0, "seconds": 0.0, "coverage": 0, "inputs kept": 0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=600, help="in all; each reader gets its share")
    parser.add_argument("--readers", nargs="*", help="names; all of them if left out")
    parser.add_argument("--corpus", type=Path, default=Path("/tmp/fuzzed/corpus"), help="inputs, from run to run")  # noqa: S108
    parser.add_argument("--keep", type=Path, default=Path("/tmp/fuzzed/failures"), help="inputs that failed")  # noqa: S108
    parser.add_argument("--try-one", metavar="READER", help=argparse.SUPPRESS)
    arguments, for_fuzzer = parser.parse_known_args()
    if arguments.try_one:
        fuzz(arguments.try_one, arguments.keep, for_fuzzer)
    from fuzzed_readers import READERS
    from records import record

    names = arguments.readers or list(READERS)
    table = {}
    for name in names:
        table[name] = run_reader(name, arguments.seconds / len(names), arguments.corpus, arguments.keep)
        print(f"{name:24}", "  ".join(f"{key} {value}" for key, value in table[name].items()), flush=True)
    total = {key: round(sum(row[key] for row in table.values())) for key in ("executions", "seconds", "failures")}
    record("fuzzing", {"readers": table, "total": total})


# --- One reader after another -------------------------------------------------------------------------------------


def run_reader(name: str, seconds: float, corpus: Path, keep: Path) -> dict[str, Any]:
    """Fuzz in processes, a new one after each that was ended, until the time is over."""
    inputs, kept = (folder / re.sub(r"\W+", "_", name) for folder in (corpus, keep))
    row = dict(_NO_EXECUTIONS)
    end = time.monotonic() + seconds
    while (left := round(end - time.monotonic())) > 0:
        inputs.mkdir(parents=True, exist_ok=True)
        kept.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
            environment = os.environ | {"TMPDIR": folder, "TQDM_DISABLE": "1", "MPLBACKEND": "agg"}
            # libFuzzer measures by the clock on the wall, which goes on while other programs have the processor.
            options = [f"-max_total_time={left}", "-print_final_stats=1", "-timeout=300", "-report_slow_units=300"]
            options += ["-rss_limit_mb=4096", "-max_len=6000", "-len_control=20", f"-artifact_prefix={kept}/"]
            command = [sys.executable, __file__, "--try-one", name, "--keep", str(kept), *options, str(inputs)]
            run = subprocess.run(command, capture_output=True, cwd=folder, env=environment)
        log = run.stderr.decode(errors="replace")
        (kept / "last.log").write_text(log[-20_000:], encoding="utf-8")
        add(row, log)
        if run.returncode != 0 and not list(kept.glob("*-*")):
            print(f"{name}: the fuzzer itself failed; see {kept}/last.log", file=sys.stderr)
            break
    row["failures"] = len([path for path in kept.iterdir() if path.name != "last.log"])
    return row


def add(row: dict[str, Any], log: str) -> None:
    """Add what libFuzzer says at the end."""
    ends = re.findall(r"^#\d+\s+\w+\s+cov: (\d+) ft: \d+ corp: (\d+)", log, re.MULTILINE)
    executions = re.search(r"number_of_executed_units: (\d+)", log) or re.search(r"Done (\d+) runs", log)
    seconds = re.search(r"Done \d+ runs in (\d+) second", log)
    row["executions"] += int(executions.group(1)) if executions else 0
    row["seconds"] += float(seconds.group(1)) if seconds else 0
    if ends:
        row["coverage"], row["inputs kept"] = (
            max(int(a), row[key]) for a, key in zip(ends[-1], list(row)[2:], strict=True)
        )


# --- In the process of one reader ---------------------------------------------------------------------------------


def fuzz(name: str, keep: Path, options: list[str]) -> None:
    import atheris

    own = ["defects_in_welds.data", "defects_in_welds.evaluation"]
    with atheris.instrument_imports(include=[*own, *_GUIDES.get(name, [])]):
        from fuzzed_readers import MAX_PIXELS, READERS, WORDS, mutation

        from defects_in_welds.data import image_reading

        image_reading.MAX_PIXELS = MAX_PIXELS
        reader = READERS[name]
        folder = Path.cwd()
        read = reader.prepare(folder)
        seeds = reader.seeds()
        for seed in seeds:  # imports what is imported late
            with contextlib.suppress(Exception):
                read(seed)

    from defects_in_welds.params import UserError

    (inputs,) = (Path(option) for option in options if not option.startswith("-"))
    for number, seed in enumerate(seeds):
        (inputs / f"seed{number}").write_bytes(seed)
    words = folder / "words.dict"
    quoted = ["".join(f"\\x{byte:02x}" for byte in word.encode()) for word in (*WORDS, *reader.words)]
    words.write_text("".join(f'"{word}"\n' for word in quoted), encoding="utf-8")
    watch = Watch(folder)

    def try_input(data: bytes) -> None:
        failure = watch.failure(lambda: read(data), UserError)
        if failure is not None:
            digest = hashlib.sha256(failure.encode()).hexdigest()[:8]
            path = keep / f"{re.sub(r'[^A-Za-z0-9_.]+', '-', failure)[:100]}-{digest}"
            if not path.exists():
                path.write_bytes(data)

    # Looked up late: Fuzz() exchanges it.
    change = mutation(reader.structure, lambda data, max_size: atheris.Mutate(data, max_size))
    settings = {} if change is None else {"custom_mutator": change}
    atheris.Setup([sys.argv[0], f"-dict={words}", *options], try_input, **settings)
    atheris.Fuzz()


class Watch:
    """Sees what reading does beside its result."""

    def __init__(self, folder: Path) -> None:
        self._strays: list[str] = []
        self._is_on = False
        own = (folder, Path(sys.prefix), Path(sys.base_prefix), Path(__file__).parents[1] / "defects_in_welds")
        self._own = (*(f"{path}/" for path in own), "/proc/self/", "/dev/null", "/sys/devices/system/cpu")
        self._folder = f"{folder}/"
        sys.addaudithook(self._see)

    def _see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._is_on:
            return
        if event == "open" and isinstance(arguments[0], str | bytes):
            path, flags = _absolute(arguments[0]), arguments[2]
            writes = bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            allowed = (self._folder, "/dev/null") if writes else self._own
            if not f"{path}/".startswith(allowed):
                self._strays.append(f"{'writes' if writes else 'opens'} {path}")
        elif event in ("subprocess.Popen", "os.system", "os.exec", "socket.connect", "socket.getaddrinfo"):
            self._strays.append(event)
        elif event in ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.symlink", "os.chmod", "os.truncate"):
            named = arguments[event == "os.symlink"]
            path = _absolute(named) if isinstance(named, str | bytes) else ""
            if path and not f"{path}/".startswith(self._folder):
                self._strays.append(f"{event} {path}")

    def failure(self, read: Callable[[], None], allowed: type[Exception]) -> str | None:
        """Run, and say in a few words what went wrong."""
        self._strays.clear()
        memory, start = peak_mib(), time.process_time()
        reason = None
        self._is_on = True
        try:
            read()
        except allowed as error:
            if len(str(error)) > 3000:
                reason = f"error of thousands of letters {place(error)}"
        except Exception as error:
            reason = f"{type(error).__name__} {place(error)}"
        finally:
            self._is_on = False
        seconds, grown = time.process_time() - start, peak_mib() - memory
        if grown > MOST_MIB:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak starts anew
            reason = reason or f"memory {grown // 100 * 100} MiB"
        if seconds > MOST_SECONDS:
            reason = reason or f"slow {round(seconds)} s"
        return reason or (self._strays[0] if self._strays else None)


def _absolute(path: str | bytes) -> str:
    return os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - without following links, which would be seen again


def place(error: BaseException) -> str:
    """Name the innermost lines, so that each fault is kept once."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if "defects_in_welds" in frame.filename] or frames
    return "-".join(f"{Path(frame.filename).stem}.{frame.lineno}" for frame in (own[-1], frames[-1]))


def peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main()

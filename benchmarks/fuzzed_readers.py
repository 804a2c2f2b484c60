"""The readers of outside data that ``fuzzing.py`` tries, each with files to start from and words to put in.

What takes long to import is imported where it is needed: each reader runs in a process of its own.
"""

import contextlib
import io
import json
import random
import struct
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import imagecodecs
import numpy as np
import pydicom
import tifffile
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate

from defects_in_welds.data import dataset_checks, splitting
from defects_in_welds.data.annotation_formats import read_dataset
from defects_in_welds.data.image_reading import read_image_hw, read_radiograph
from defects_in_welds.params import UserError, load_params

MAX_PIXELS = 2_000_000
"""In place of that of image_reading: memory must follow this limit, and small pictures are decoded faster."""

WORDS = ["nan", "inf", "-1", "1e30", "1e308", "-1e308", "1e-320", "0", "9" * 400, "../", "/etc/passwd", "\u2028", "é"]

Read = Callable[[bytes], None]
Mutate = Callable[[bytes, int, int], bytes]


@dataclass(frozen=True)
class Reader:
    """Something that reads outside data.

    Attributes:
        prepare: Given an empty folder, makes what else must be there, and the function that reads one input.
        seeds: Inputs to start from.
        words: What to put into inputs.
        structure: ``json`` changes the values of JSON, too; ``png`` makes the checksums of PNG true again.
    """

    prepare: Callable[[Path], Read]
    seeds: Callable[[], list[bytes]]
    words: tuple[str, ...] = ()
    structure: str | None = None


# --- Data sets ----------------------------------------------------------------------------------------------------


def picture(seed: int = 0) -> bytes:
    pixels = np.random.default_rng(seed).integers(0, 255, (20, 30)).astype(np.uint8)
    return cv2.imencode(".bmp", pixels)[1].tobytes()


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def data_set(kind: str, varied: str, *images: str, **others: str) -> Callable[[Path], Read]:
    """Read a data set of which one file varies, and go on as `prepare` would up to the pixels."""

    def prepare(folder: Path) -> Read:
        root = folder / "data"
        for number, image in enumerate(images):
            write(root / image, picture(number))
        for name, content in others.items():
            write(root / name.replace("__", "/").replace("_", "."), content.encode())
        (root / varied).parent.mkdir(parents=True, exist_ok=True)
        params = load_params().prepare

        def read(data: bytes) -> None:
            (root / varied).write_bytes(data)
            check_data_set(root, kind, params, folder / "checks.csv")

        return read

    return prepare


def check_data_set(root: Path, kind: str, params: Any, table: Path) -> None:
    dataset = read_dataset(root, kind)
    findings = list(dataset.findings)
    for film in dataset.radiographs:
        findings += dataset_checks.check_annotations(film, (20, 30), "keep")[1]
    dataset_checks.write_checks(findings, "keep", table)
    assert all(len(finding.message) < 1000 for finding in findings), "a message without end"
    splitting.assign_splits(dataset.radiographs, params)


def any_folder(folder: Path) -> Read:
    """Read a folder of any names: a line ``>name`` begins a file, and ``>name>target`` makes a link."""
    params = load_params().prepare
    count = 0

    def read(data: bytes) -> None:
        nonlocal count
        count += 1
        root = folder / f"data{count}"
        root.mkdir()
        try:
            unpack(data, root)
            check_data_set(root, "auto", params, folder / "checks.csv")
        finally:
            remove(root)

    return read


def unpack(data: bytes, root: Path) -> None:
    for part in data.split(b"\n>")[:20]:
        head, _, content = part.partition(b"\n")
        name, _, target = head.removeprefix(b">").decode(errors="surrogateescape").partition(">")
        steps = [step for step in name.replace("\0", "").split("/") if step not in ("", ".", "..")][:5]
        if not steps:
            continue
        path = root.joinpath(*steps)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if target:
                path.symlink_to(target.replace("\0", ""))
            else:
                path.write_bytes(content or picture(len(name)))
        except OSError:
            continue  # a name that this file system does not take


def remove(folder: Path) -> None:
    for path in folder.iterdir():
        if not path.is_symlink() and path.is_dir():
            remove(path)
        else:
            path.unlink()
    folder.rmdir()


def whole_stage(folder: Path) -> Read:
    """Prepare a data set to the end."""
    from defects_in_welds.data.preparation import prepare_dataset

    root = folder / "data"
    for number in range(4):
        write(root / f"{number}.bmp", picture(number))
    params = load_params(["prepare.img_size=32", "prepare.overlap_px=8", "prepare.on_finding=keep"])

    def read(data: bytes) -> None:
        (root / "truth.json").write_bytes(data)
        prepare_dataset(params, root, folder / "prepared")

    return read


def yolo_labels() -> list[bytes]:
    return [
        b"0 .5 .5 .1 .1\n1 0.2 0.2 0.1 0.1\n",
        b"0 .1 .1 .2 .1 .2 .2\n\n",
        b"\xef\xbb\xbf2 1 1 1 1\r\n0 .5 .5 nan .1",
    ]


def yolo_configs() -> list[bytes]:
    return [
        b"names: [pore, crack]\nnc: 2\ntrain: images/train\nval: ../valid/images\ntest:\n",
        b"path: /home/somebody/films\nnames:\n  0: pore\n  3: 'crack'\ntrain: [a.txt, images/train]\nval: images/val\n",
        b"names: {0: pore, 1: !!str crack, .inf: 1:30.5}\ntrain: &x images\nval: *x\n",
    ]


def coco_films(films: int = 1) -> list[bytes]:
    images = [{"id": i, "file_name": f"{i}.bmp", "width": 30, "height": 20, "weld": f"w{i}"} for i in range(films)]
    images[0] |= {"split": "train", "pixel_pitch_mm": 0.1}
    annotations = [
        {"id": i, "image_id": i % films, "category_id": 1 + i % 2, "bbox": [2, 2, 9, 8.5], "iscrowd": 0, "length_mm": 1}
        for i in range(3)
    ]
    categories = [{"id": 1, "name": "pore"}, {"id": 2, "name": "crack"}]
    return [json.dumps({"images": images, "annotations": annotations, "categories": categories}).encode()]


def voc_files() -> list[bytes]:
    box = "<bndbox><xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax></bndbox>"
    size = "<filename>a.bmp</filename><size><width>30</width><height>20</height></size>"
    flaw = f"<object><name>pore</name><difficult>1</difficult>{box}</object>"
    return [
        f'<?xml version="1.0" encoding="utf-8"?>\n<annotation>{size}\n{flaw}\n{flaw}</annotation>'.encode(),
        f"<!DOCTYPE a [<!ENTITY b 'c'>]><annotation>{flaw}<!-- <object> --></annotation>".encode("utf-16"),
    ]


def folders() -> list[bytes]:
    xml = voc_files()[0]
    return [
        b">images/train/a.bmp\n\n>labels/train/a.txt\n0 .5 .5 .1 .1\n>classes.txt\npore\n>images/val/b c.bmp\n",
        b">data.yaml\nnames: [pore]\ntrain: list.txt\n>list.txt\n./a.bmp\nb.bmp\n>a.bmp\n\n>b.bmp>a.bmp\n>a.txt\n",
        b">W1/W1_0001.bmp\n\n>W1/ground_truth.txt\n1 2 9 2 8\n>W2/x.bmp>/etc/passwd\n>W2/y>../..\n",
        b">JPEGImages/a.bmp\n\n>ImageSets/Main/train.txt\na\n>SegmentationClass/a.bmp\n\n>Annotations/a.xml\n" + xml,
        b">0.bmp\n\n>train.json\n" + coco_films()[0] + b"\n>test.json\n" + coco_films()[0],
    ]


# --- Images -------------------------------------------------------------------------------------------------------


def image_file(folder: Path) -> Read:
    path = folder / "film"

    def read(data: bytes) -> None:
        path.write_bytes(data)
        height, width = read_image_hw(path)
        radiograph = read_radiograph(path)
        assert radiograph.image_hw == (height, width), "another size than the header says"

    return read


def levels(kind: type = np.uint8, channels: int = 1) -> np.ndarray:
    pixels = np.random.default_rng(1).integers(0, np.iinfo(kind).max, (17, 20, channels)).astype(kind)
    return pixels[..., 0] if channels == 1 else pixels


def opencv_files(suffix: str, *kinds: tuple[type, int], options: tuple[int, ...] = ()) -> list[bytes]:
    return [cv2.imencode(suffix, levels(*kind), options)[1].tobytes() for kind in kinds]


def png_files() -> list[bytes]:
    palette = b"PLTE" + bytes(range(48))
    return [
        *opencv_files(".png", (np.uint8, 1), (np.uint16, 1), (np.uint8, 3), (np.uint16, 4)),
        png_of(8, 2, 4, 3, b"\0\1\2\3\4" * 2, palette, b"tRNS\0\1\2", b"pHYs" + bytes(9)),
        png_of(16, 2, 1, 0, b"\0\1\2" * 2, b"acTL" + bytes(8), b"gAMA" + bytes(4)),
    ]


def png_of(width: int, height: int, depth: int, colour: int, rows: bytes, *chunks: bytes) -> bytes:
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(png_chunk, (header, *chunks, b"IDAT" + zlib.compress(rows), b"IEND")))


def png_chunk(data: bytes) -> bytes:
    return struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))


def tiff_files() -> list[bytes]:
    options: list[dict[str, Any]] = [
        {},
        {"compression": "lzw", "predictor": True, "rowsperstrip": 5},
        {"compression": "deflate", "tile": (16, 16)},
        {"compression": "packbits", "byteorder": ">"},
        {"compression": "zstd", "bigtiff": True},
        {"compression": "lzma"},
        {"photometric": "miniswhite", "resolution": (254, 254), "resolutionunit": "CENTIMETER"},
    ]
    files = [written(tifffile.imwrite, levels(np.uint16), **one) for one in options]
    rgb = {"photometric": "rgb"}
    files += [written(tifffile.imwrite, levels(channels=3), compression=kind, **rgb) for kind in (None, "jpeg")]
    files.append(written(tifffile.imwrite, np.moveaxis(levels(channels=3), 2, 0), planarconfig="separate", **rgb))
    files.append(written(tifffile.imwrite, levels(), compression="jpeg", tile=(16, 16)))
    return files


def written(write_to: Callable[..., Any], *arguments: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    write_to(file, *arguments, **options)
    return file.getvalue()


def dicom_files() -> list[bytes]:
    jpeg = opencv_files(".jpg", (np.uint8, 1))[0]
    jpeg_2000 = imagecodecs.jpeg2k_encode(levels(np.uint16), codecformat="j2k", resolutions=1)
    return [
        dicom_of(pydicom.uid.ExplicitVRLittleEndian, levels(np.uint16).tobytes(), 16),
        dicom_of(pydicom.uid.ImplicitVRLittleEndian, levels().tobytes(), 8, PhotometricInterpretation="MONOCHROME1"),
        dicom_of(pydicom.uid.ExplicitVRBigEndian, levels(np.uint16).tobytes(), 16, PixelSpacing=[0.1, 0.1]),
        dicom_of(pydicom.uid.JPEGBaseline8Bit, encapsulate([jpeg]), 8),
        dicom_of(pydicom.uid.JPEG2000Lossless, encapsulate([jpeg_2000]), 16),
        dicom_of(pydicom.uid.RLELossless, encapsulate([struct.pack("<16I", 1, 64, *[0] * 14) + b"\x80\5" * 20]), 8),
    ]


def dicom_of(syntax: str, pixels: bytes, bits: int, **elements: object) -> bytes:
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = syntax
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3"
    dataset = pydicom.Dataset()
    dataset.file_meta = meta
    plain = {"Rows": 17, "Columns": 20, "SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
    depth = {"BitsAllocated": bits, "BitsStored": bits, "HighBit": bits - 1, "PixelRepresentation": 0}
    for keyword, value in (plain | depth | elements).items():
        setattr(dataset, keyword, value)
    dataset.PixelData = pixels + b"\0" * (len(pixels) % 2)
    dataset["PixelData"].VR = "OW" if bits == 16 and not meta.TransferSyntaxUID.is_encapsulated else "OB"
    file = io.BytesIO()
    dataset.save_as(file, enforce_file_format=True)
    return file.getvalue()


# --- What stages wrote, and limits --------------------------------------------------------------------------------


def reads_file(name: str, read_from: Callable[[Path], object]) -> Callable[[Path], Read]:
    def prepare(folder: Path) -> Read:
        def read(data: bytes) -> None:
            (folder / name).write_bytes(data)
            read_from(folder)

        return read

    return prepare


def store(varied: str) -> Callable[[Path], Read]:
    def prepare(folder: Path) -> Read:
        from defects_in_welds.data.tensor_store import TensorStore

        whole_stage(folder)(coco_films(4)[0])
        path = folder / "prepared" / varied

        def read(data: bytes) -> None:
            path.unlink()
            path.write_bytes(data)
            opened = TensorStore.open(path.parent)
            for index in range(len(opened.manifest.tiles)):
                opened.pixels(index).sum()
                opened.film_of(index)

        return read

    return prepare


def store_files(varied: str) -> Callable[[], list[bytes]]:
    def seeds() -> list[bytes]:
        with tempfile.TemporaryDirectory() as folder:
            whole_stage(Path(folder))(coco_films(4)[0])
            return [(Path(folder) / "prepared" / varied).read_bytes()]

    return seeds


def checkpoints() -> list[bytes]:
    import torch

    from defects_in_welds.model.checkpoint import FORMAT, FORMAT_VERSION

    content = {"format": FORMAT, "format_version": FORMAT_VERSION, "state_dict": {"w": torch.zeros(2)}, "model": {}}
    return [
        written(lambda file, new=new: torch.save(content, file, _use_new_zipfile_serialization=new))
        for new in (True, False)
    ]


def read_checkpoint(folder: Path) -> None:
    from defects_in_welds.model.checkpoint import _read_checkpoint

    _read_checkpoint(folder / "best.ckpt")


def records() -> list[bytes]:
    return [json.dumps({key: [1, {"a": "b"}] for key in ("run_id", "params", "split", "pod", "per_class")}).encode()]


def read_records(folder: Path) -> None:
    from defects_in_welds.evaluation.earlier_stages import read_metrics, read_run

    (folder / "metrics.json").write_bytes((folder / "run.json").read_bytes())
    for read in (read_run, read_metrics):
        with contextlib.suppress(UserError):
            read(folder)


def read_limits_file(folder: Path) -> None:
    from defects_in_welds.evaluation.report.acceptance import read_limits

    read_limits(folder / "limits.yaml", ("pore", "crack"))


def read_spreadsheet(folder: Path) -> None:
    from defects_in_welds.evaluation.bam_truth import _read_sheet

    _read_sheet(folder / "a.xls")


SPREADSHEETS = [b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(24) + b"\xfe\xff\x09\0\6\0" + bytes(600)]
SPREADSHEETS += [b"\x09\x08\x10\0\0\6\5\0" + bytes(60), b"\x09\0\4\0\2\0\x10\0\x0a\0\0\0"]

YAML = ("!!bool", "!!timestamp", "!!int", "&a", "*a", "<<:", ".inf", "? ", "|", "1:59.5", "2001-99-99", "0x", "names:")
XML = ("<!DOCTYPE", "<!ENTITY", "&a;", "<object>", "encoding=", "utf-7", "rot13", "<![CDATA[", "<size>", "<filename>")

READERS = {
    "YOLO labels": Reader(data_set("yolo", "labels/a.txt", "images/a.bmp", classes_txt="pore\ncrack\n"), yolo_labels),
    "YOLO data.yaml": Reader(
        data_set("yolo", "data.yaml", "images/train/a.bmp", "valid/images/b.bmp"), yolo_configs, YAML
    ),
    "COCO": Reader(data_set("coco", "truth.json", "0.bmp", "b.bmp"), coco_films, structure="json"),
    "VOC": Reader(data_set("voc", "Annotations/a.xml", "JPEGImages/a.bmp", "b.bmp"), voc_files, XML),
    "GDXray": Reader(
        data_set("gdxray", "W1/ground_truth.txt", "W1/a_1.bmp", "W1/a_2.bmp"), lambda: [b"1 2 9 2 8\n2,1e1,12,0.5,7\n"]
    ),
    "any folder": Reader(any_folder, folders, (*YAML, "\n>", "labels/", ".json", ".xml", "ground_truth.txt")),
    "PNG": Reader(image_file, png_files, structure="png"),
    "JPEG": Reader(
        image_file,
        lambda: [
            *opencv_files(".jpg", (np.uint8, 1), (np.uint8, 3)),
            *opencv_files(".jpg", (np.uint8, 3), options=(cv2.IMWRITE_JPEG_PROGRESSIVE, 1)),
        ],
    ),
    "BMP": Reader(image_file, lambda: opencv_files(".bmp", (np.uint8, 1), (np.uint8, 3), (np.uint8, 4))),
    "TIFF": Reader(image_file, tiff_files),
    "DICOM": Reader(image_file, dicom_files),
    "manifest.json": Reader(store("manifest.json"), store_files("manifest.json"), structure="json"),
    "tiles.npy": Reader(store("tiles_uint8.npy"), store_files("tiles_uint8.npy"), ("fortran_order", "|O", "(10,")),
    "run.json, metrics.json": Reader(reads_file("run.json", read_records), records, structure="json"),
    "limits": Reader(
        reads_file("limits.yaml", read_limits_file),
        lambda: [b"levels:\n  B: {pore: 2.0, crack: 0}\n  C:\n    pore: 3\n"],
        YAML,
    ),
    "checkpoint": Reader(reads_file("best.ckpt", read_checkpoint), checkpoints),
    "BAM's xls": Reader(reads_file("a.xls", read_spreadsheet), lambda: SPREADSHEETS),
    "prepare, whole": Reader(whole_stage, lambda: coco_films(4), structure="json"),
}


# --- Changes that keep the structure ------------------------------------------------------------------------------

_STRANGE: list[Any] = [
    None, True, [], {}, "", "nan", 0, -1, 1.5, 1e30, 1e308, -1e308, float("nan"), float("inf"), 10**400, 2**63,
    "\ud800", "\x1b[2J", "../../etc/passwd", "/" + "a/" * 300, "a" * 3000, "train", "1.bmp", "background", [1, 2, 3, 4],
]  # fmt: skip


def mutation(structure: str | None, plain: Callable[[bytes, int], bytes]) -> Mutate | None:
    """Build on a plain change of bytes; None where that is enough."""
    if structure is None:
        return None
    change = {"json": change_json, "png": mend_png}[structure]

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        try:
            return change(data, random.Random(seed), lambda old: plain(old, max_size))[:max_size]
        except RecursionError:  # JSON that is nested as deeply as it can be read
            return plain(data, max_size)

    return mutate


def change_json(data: bytes, dice: random.Random, plain: Callable[[bytes], bytes]) -> bytes:
    """Exchange, copy or delete some value."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return plain(data)
    places = list(places_in(content))
    if not places or dice.random() < 0.2:
        return plain(data)
    for _ in range(dice.choice((1, 1, 2, 5))):
        holder, key = dice.choice(places)
        what = dice.random()
        if what < 0.6:
            holder[key] = dice.choice(_STRANGE)
        elif what < 0.9:
            source, other = dice.choice(places)
            holder[key] = json.loads(json.dumps(source[other])) if other in keys_of(source) else 1
        elif isinstance(holder, dict):
            holder.pop(key, None)
    if dice.random() < 0.02:
        depth = dice.choice((50, 900, 980, 5000))
        return json.dumps(content).replace("1", "[" * depth + "]" * depth, 1).encode()
    return json.dumps(content).encode()


def places_in(content: Any) -> Iterator[tuple[Any, Any]]:
    for key in keys_of(content):
        yield content, key
        yield from places_in(content[key])


def keys_of(content: Any) -> list[Any]:
    if isinstance(content, dict):
        return list(content)
    return list(range(len(content))) if isinstance(content, list) else []


def mend_png(data: bytes, dice: random.Random, plain: Callable[[bytes], bytes]) -> bytes:
    """Change bytes, and mostly make the checksums true again: else the decoder looks no further."""
    data = plain(data)
    if dice.random() < 0.1:
        return data
    mended, rest = data[:8], data[8:]
    while len(rest) >= 12:
        (size,) = struct.unpack(">I", rest[:4])
        chunk = rest[4 : 8 + min(size, len(rest))]
        mended += rest[:4] + chunk + struct.pack(">I", zlib.crc32(chunk))
        rest = rest[12 + size :]
    return mended + rest

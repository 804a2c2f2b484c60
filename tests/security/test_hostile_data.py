"""Data sets, arrays and weights from a stranger: refused or left out with one line, nothing run, nothing read outside.

What tests elsewhere show already is listed in docs/security.md and not repeated here.
"""

import io
import json
import pickle
import struct
import tracemalloc
import zipfile
import zlib
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pydicom
import pytest
import pytorch_lightning as pl
import torch
from pydicom.dataset import FileMetaDataset
from pydicom.filewriter import write_file_meta_info

from defects_in_welds.data import image_reading
from defects_in_welds.data.annotation import DataError, FindingKind
from defects_in_welds.data.annotation_formats import read_dataset
from defects_in_welds.data.image_reading import read_image_hw, read_radiograph
from defects_in_welds.data.preparation import prepare_dataset
from defects_in_welds.data.tensor_store import MANIFEST_NAME, TensorStore, _map_array
from defects_in_welds.evaluation.earlier_stages import read_json
from defects_in_welds.model.checkpoint import CheckpointError, load_detector
from defects_in_welds.model.weights import load_start_weights
from defects_in_welds.params import ParamsError, load_params
from defects_in_welds.training import run_training

CANARY = "kanarienvogel"
DIGITS = "9" * 5000


class MakesFolder:
    """Pickles into a call that makes a folder."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.mkdir, (self.path,)


def write_image(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.random.default_rng(len(path.name)).integers(0, 255, (50, 100)).astype(np.uint8))


def write_yolo(root, labels="0 .5 .5 .1 .1\n", config="names: [pore]\n"):
    write_image(root / "images/a.png")
    (root / "labels").mkdir()
    (root / "labels/a.txt").write_text(labels)
    (root / "data.yaml").write_text(config)
    return root


def coco(image=None, annotation=None, category=None):
    return {
        "images": [{"id": 1, "file_name": "a.png"} | (image or {})],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]} | (annotation or {})],
        "categories": [{"id": 1, "name": "pore"} | (category or {})],
    }


def write_coco(root, content):
    write_image(root / "images/a.png")
    (root / "truth.json").write_text(content if isinstance(content, str) else json.dumps(content))
    return root


# --- Code in files ------------------------------------------------------------------------------------------------


def test_a_pickle_would_run(tmp_path):
    """The trap of the tests below snaps where nothing guards against it."""
    pickle.loads(pickle.dumps(MakesFolder(tmp_path / "called")))  # noqa: S301
    assert (tmp_path / "called").is_dir()


@pytest.mark.parametrize("how", ["torch", "torch, old layout", "pickle", "inside a state dict"])
def test_no_code_of_a_weights_file_or_checkpoint_runs(tmp_path, params, how):
    path, trap = tmp_path / "w.ckpt", MakesFolder(tmp_path / "called")
    if how == "pickle":
        path.write_bytes(pickle.dumps(trap))
    else:
        content = {"state_dict": {"weight": torch.zeros(1), "trap": trap}} if how == "inside a state dict" else trap
        torch.save(content, path, _use_new_zipfile_serialization=how != "torch, old layout")
    with pytest.raises(CheckpointError, match="no checkpoint of ours"):
        load_detector(path)
    with pytest.raises(ParamsError, match="is no weights file"):
        load_start_weights(torch.nn.Linear(1, 1), replace(params.model, weights=str(path)))
    assert not (tmp_path / "called").exists()
    assert path.exists(), "the user's own file stays"


class Plain(pl.LightningModule):
    """The least that Lightning trains."""

    def __init__(self):
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.1)

    def training_step(self, batch):
        return self.layer(batch).sum()


def test_no_code_of_the_state_to_resume_runs(tmp_path, params, monkeypatch):
    """`train` hands `last.ckpt` to Lightning: with what arguments is asked of it, and tried on a trap."""
    handed = {}

    def fit(module, datamodule, **arguments):
        handed.update(arguments)
        raise KeyboardInterrupt

    fakes = {
        "WeldDataModule": lambda *_: SimpleNamespace(
            setup=lambda _: None, store=SimpleNamespace(manifest=SimpleNamespace(defect_classes=("pore",)))
        ),
        "input_spec_of": lambda _: None,
        "build_detector": lambda *_: None,
        "DetectionModule": lambda *_: None,
        "_interrupted_run": lambda *_: "run",
        "_make_trainer": lambda *_: SimpleNamespace(fit=fit),
    }
    for name, fake in fakes.items():
        monkeypatch.setattr(run_training, name, fake)
    monkeypatch.setattr(run_training, "_is_first_process", lambda: False)
    params.train.resume = True
    with pytest.raises(KeyboardInterrupt):
        run_training.train(params, tmp_path, tmp_path, tmp_path)
    assert handed == {"ckpt_path": tmp_path / "last.ckpt", "weights_only": True}

    torch.save({"state_dict": MakesFolder(tmp_path / "called")}, tmp_path / "last.ckpt")
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False, max_epochs=1,
        enable_model_summary=False, default_root_dir=tmp_path,
    )  # fmt: skip
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        trainer.fit(Plain(), torch.utils.data.DataLoader(torch.zeros(1, 1)), **handed)
    assert not (tmp_path / "called").exists()


def make_array(kind, folder):
    if kind == "empty":
        return b""
    if kind == "an archive":
        with closing(io.BytesIO()) as file:
            with zipfile.ZipFile(file, "w") as archive:
                archive.writestr("a.npy", b"")
            return file.getvalue()
    if kind == "a pickle":
        return pickle.dumps(MakesFolder(folder / "called"))
    if kind == "objects":
        file = io.BytesIO()
        np.save(file, np.array([MakesFolder(folder / "called")], dtype=object), allow_pickle=True)
        return file.getvalue()
    shape = (10**12, 8, 8) if kind == "rows that are not there" else "__import__('os').mkdir('called')"
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header


@pytest.mark.parametrize(
    "kind", ["empty", "an archive", "a pickle", "objects", "rows that are not there", "code in its header"]
)
def test_an_array_is_nothing_but_numbers(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiles.npy").write_bytes(make_array(kind, tmp_path))
    with pytest.raises(DataError, match=r"tiles\.npy: not a readable array .*run `dvc repro prepare`"):
        _map_array(tmp_path / "tiles.npy", "uint8", 8, 1)
    assert not (tmp_path / "called").exists()


@pytest.mark.parametrize("content", ["[" * 200_000, '{"films": ' * 100_000, f"[{DIGITS}]"], ids=["[", "{", "9"])
def test_json_of_earlier_stages_is_refused_however_it_is_nested(tmp_path, content):
    (tmp_path / MANIFEST_NAME).write_text(content)
    with pytest.raises(DataError, match="not a readable manifest"):
        TensorStore.open(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_json(tmp_path / MANIFEST_NAME, "train")


# --- Paths --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "named",
    [
        "../outside.png",
        "images/../../outside.png",
        "..\\outside.png",
        "{outside}",
        "file://{outside}",
        "~/outside.png",
        "a\0.png",
        "\ud800.png",
        "x" * 5000,
        "../" * 2000 + "outside.png",
        ["a.png"],
    ],
)
def test_coco_file_names_never_leave_the_folder(tmp_path, monkeypatch, named):
    monkeypatch.setenv("HOME", str(tmp_path))
    write_image(tmp_path / "outside.png")
    named = named.format(outside=tmp_path / "outside.png") if isinstance(named, str) else named
    content = coco()
    content["images"].append({"id": 2, "file_name": named})
    dataset = read_dataset(write_coco(tmp_path / "data", content))
    assert [film.name for film in dataset.radiographs] == ["images/a.png"]
    (finding,) = dataset.findings
    assert finding.kind is FindingKind.LABEL_WITHOUT_IMAGE
    assert len(finding.message) < 250


SECRET = f"[default]\naws_secret_access_key = {CANARY}\n{CANARY} 1 2 3 4\n"


def link(kind, root, home):
    """Let something of a data set lead to a file of the user's."""
    secret = home / "credentials"
    if kind == "label":
        (root / "labels/a.txt").unlink()
        (root / "labels/a.txt").symlink_to(secret)
    elif kind == "list":
        (root / "data.yaml").write_text("names: [pore]\ntrain: list.txt\n")
        (root / "list.txt").symlink_to(secret)
    elif kind == "relative":
        (root / "classes.txt").symlink_to("../home/credentials")
    elif kind == "folder":
        (root / "data.yaml").write_text("names: [pore]\ntrain: more/credentials\n")
        (root / "more").symlink_to(home)
    elif kind == "chain":
        (root / "b.txt").symlink_to(root / "c.txt")
        (root / "c.txt").symlink_to(secret)
    elif kind == "yaml":
        (root / "data.yaml").unlink()
        (root / "data.yaml").symlink_to(secret)
    elif kind == "gdxray":
        (root / "ground_truth.txt").symlink_to(secret)
    elif kind == "folder named as an image":
        (root / "more.png").symlink_to(home)


@pytest.mark.parametrize(
    "kind", ["label", "list", "relative", "folder", "chain", "yaml", "gdxray", "folder named as an image"]
)
def test_no_link_leads_to_text_outside(tmp_path, kind):
    """Broken lines are quoted in findings: a link to a file of keys would put them there."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/credentials").write_text(SECRET)
    link(kind, write_yolo(tmp_path / "data"), tmp_path / "home")
    params = load_params(["prepare.on_finding=keep"])
    with pytest.raises(DataError, match="a link out of the data folder, which is refused") as error:
        prepare_dataset(params, tmp_path / "data", tmp_path / "out")
    assert CANARY not in str(error.value)
    assert not (tmp_path / "out").exists()


def test_links_inside_and_of_dvc_and_of_the_whole_folder_are_followed(tmp_path):
    cached = tmp_path / "cache/files/md5/ab" / ("0" * 30)
    cached.parent.mkdir(parents=True)
    root = write_yolo(tmp_path / "elsewhere")
    (root / "labels/a.txt").rename(cached)
    (root / "labels/a.txt").symlink_to(cached)
    (root / "data.yaml").rename(root / "kept.txt")
    (root / "data.yaml").symlink_to("kept.txt")
    (tmp_path / "data").symlink_to(root)
    (film,) = read_dataset(tmp_path / "data").radiographs
    assert len(film.annotations) == 1


def test_an_image_that_is_a_link_to_text_is_not_quoted(tmp_path):
    root = write_yolo(tmp_path / "data")
    (tmp_path / "credentials").write_text(SECRET)
    (root / "images/b.png").symlink_to(tmp_path / "credentials")
    (finding,) = read_dataset(root).findings
    assert finding.message == "is no PNG, TIFF, JPEG, BMP or DICOM file"


# --- Numbers and names --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf"), "1e999", True, [1], {}])
@pytest.mark.parametrize("key", ["bbox", "length_mm"])
def test_numbers_of_coco_are_finite(tmp_path, key, value):
    given = [value, 1, 5, 5] if key == "bbox" else value
    dataset = read_dataset(write_coco(tmp_path, coco(annotation={key: given})))
    (finding,) = dataset.findings
    assert (finding.kind, finding.path, finding.line) == (FindingKind.BROKEN_LABEL, "truth.json", 1)
    assert len(finding.message) < 150


@pytest.mark.parametrize("image", [{"width": 10**400, "height": 1}, {"pixel_pitch_mm": 10**400}, {"weld": "\ud800"}])
def test_an_image_that_coco_describes_with_nonsense_is_left_out(tmp_path, image):
    content = coco()
    content["images"].insert(0, {"id": 2, "file_name": "b.png"} | image)
    write_image(tmp_path / "images/b.png")
    dataset = read_dataset(write_coco(tmp_path, content))
    assert [film.name for film in dataset.radiographs] == ["images/a.png"]
    assert dataset.findings[0].kind is FindingKind.BROKEN_LABEL


def test_a_whole_number_of_thousands_of_digits_is_no_json(tmp_path):
    text = json.dumps(coco()).replace("[1, 1,", f"[{DIGITS}, 1,")
    with pytest.raises(DataError, match=r"truth\.json: no valid JSON \(Exceeds the limit"):
        read_dataset(write_coco(tmp_path, text))


@pytest.mark.parametrize("name", ["\x1b[2Jpore", "pore\ud800", "po\nre", "\x00"])
def test_a_class_that_is_no_text_is_refused(tmp_path, name):
    with pytest.raises(DataError, match="holds characters that are no text; rename it") as error:
        read_dataset(write_coco(tmp_path, coco(category={"name": name})))
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    "line", ["0 1e308 1e308 1e308 1e308", "0 1.7e308 .5 1.7e308 .1", "0 1e308 0 0 1e308 1e308 1e308"]
)
def test_boxes_beyond_all_bounds_are_findings_and_no_warning(tmp_path, line):
    root = write_yolo(tmp_path / "data", f"{line}\n0 .5 .5 .1 .1\n")
    params = load_params(["prepare.on_finding=fail"])
    with pytest.raises(DataError, match=r"labels/a\.txt:1: box \("):
        prepare_dataset(params, root, tmp_path / "out")


@pytest.mark.parametrize("line", [f"{DIGITS} .5 .5 .1 .1", "nan .5 .5 .1 .1", "0 nan .5 .1 .1", "0 .5 .5 inf .1"])
def test_numbers_of_yolo_are_finite_and_short(tmp_path, line):
    (finding,) = read_dataset(write_yolo(tmp_path, f"{line}\n")).findings
    assert finding.kind is FindingKind.BROKEN_LABEL
    assert len(finding.message) < 150


def test_numbers_of_gdxray_are_finite_and_short(tmp_path):
    write_image(tmp_path / "W1/W1_0001.png")
    rows = [f"{DIGITS} a b c d", f"{DIGITS} 1 2 3 4", "1 nan 2 3 4", "1 1e999 2 3 4"]
    (tmp_path / "W1/ground_truth.txt").write_text("\n".join(rows))
    broken = [one for one in read_dataset(tmp_path).findings if one.kind is FindingKind.BROKEN_LABEL]
    assert [one.line for one in broken] == [1, 2, 3, 4]
    assert max(len(one.message) for one in broken) < 150


XML = {
    "laughs": '<!DOCTYPE annotation [<!ENTITY a "ha">'
    + "".join(f'<!ENTITY {chr(98 + i)} "{f"&{chr(97 + i)};" * 10}">' for i in range(12))
    + "]><annotation>&m;</annotation>",
    "a file": '<!DOCTYPE annotation [<!ENTITY x SYSTEM "{secret}">]><annotation><filename>&x;</filename></annotation>',
    "a parameter": '<!DOCTYPE annotation [<!ENTITY % x SYSTEM "{secret}"> %x;]><annotation/>',
    "a DTD": '<!DOCTYPE annotation SYSTEM "{secret}"><annotation/>',
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
@pytest.mark.parametrize("kind", XML)
def test_xml_has_no_entities(tmp_path, kind, encoding):
    (tmp_path / "secret").write_text(CANARY)
    for name in ("a", "b"):
        write_image(tmp_path / f"data/{name}.png")
    (tmp_path / "data/b.xml").write_text("<annotation><object><name>pore</name></object></annotation>")
    text = XML[kind].format(secret=(tmp_path / "secret").as_uri()) if "{secret}" in XML[kind] else XML[kind]
    (tmp_path / "data/a.xml").write_text(text, encoding=encoding)
    with pytest.raises(DataError, match="name no class") as error:
        read_dataset(tmp_path / "data")
    assert "a.xml: has a DOCTYPE (annotation), which is refused" in str(error.value)
    assert CANARY not in str(error.value)


def test_deep_xml_is_no_crash(tmp_path):
    write_image(tmp_path / "a.png")
    depth = 100_000
    (tmp_path / "a.xml").write_text(f"<annotation>{'<a>' * depth}{'</a>' * depth}</annotation>")
    with pytest.raises(DataError, match="name no class"):
        read_dataset(tmp_path)


# --- Images that are larger than they look ------------------------------------------------------------------------


def write_tiff(path, *, side=16, samples=1, tile=None, data=b""):
    """Write a deflated TIFF tag by tag: no library writes what is false on purpose."""
    place, size = (324, 325) if tile else (273, 279)
    tags = {256: side, 257: side, 258: 8, 259: 8, 262: 1 if samples < 3 else 2, 277: samples, place: 8, size: len(data)}
    tags |= {322: tile, 323: tile} if tile else {278: side}
    data += b"\0" * (len(data) % 2)
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    path.write_bytes(b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directory)
    return path


@pytest.mark.parametrize(("samples", "tile"), [(60_000, None), (1, 60_000), (5, None)])
def test_a_tiff_is_judged_by_what_decoding_it_takes(tmp_path, samples, tile):
    path = write_tiff(tmp_path / "a.tif", samples=samples, tile=tile, data=zlib.compress(bytes(10)))
    tracemalloc.start()
    with pytest.raises(DataError, match=rf"claims {samples} samples a pixel in tiles of"):
        read_radiograph(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_deflated_strip_never_grows_beyond_the_image(tmp_path):
    path = write_tiff(tmp_path / "a.tif", data=zlib.compress(bytes(50_000_000)))
    tracemalloc.start()
    with pytest.raises(DataError, match="damaged, cut short or not supported"):
        read_radiograph(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000


def test_a_dicom_file_that_inflates_as_a_whole_is_refused_unread(tmp_path):
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    head = io.BytesIO()
    write_file_meta_info(head, meta)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    element = struct.pack("<HH2sHI", 9, 0x1001, b"OB", 0, 200_000_000)
    body = packer.compress(element) + b"".join(packer.compress(bytes(10**6)) for _ in range(50)) + packer.flush()
    path = tmp_path / "a.dcm"
    path.write_bytes(bytes(128) + b"DICM" + head.getvalue() + body)
    tracemalloc.start()
    with pytest.raises(DataError, match="compressed as a whole"):
        read_image_hw(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 5_000_000


def bmp(width, height):
    return b"BM" + bytes(12) + struct.pack("<Iii", 40, width, height) + bytes(4)


def jpeg(width, height):
    return b"\xff\xd8\xff\xc0" + struct.pack(">HBHH", 11, 8, height, width) + bytes(8)


def png(width, height):
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", width, height) + bytes(9)


@pytest.mark.parametrize(
    "content",
    [png(2**31 - 1, 2**31 - 1), png(0, 5), jpeg(65535, 65535), bmp(2**30, -(2**30)), bmp(-5, 5)],
    ids=["png", "png of no width", "jpeg", "bmp", "bmp of negative width"],
)
def test_giant_headers_are_refused_before_any_pixel_is_decoded(tmp_path, monkeypatch, content):
    (tmp_path / "a.png").write_bytes(content)
    monkeypatch.setattr(image_reading.cv2, "imdecode", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(DataError, match=r"claims -?\d+x\d+ pixels; 1 to 400000000 pixels can be read"):
        read_radiograph(tmp_path / "a.png")


def test_a_jpeg_header_that_goes_nowhere_ends(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8" + b"\xff\xe0\0\0" * 1000)
    with pytest.raises(DataError):
        read_image_hw(tmp_path / "a.jpg")

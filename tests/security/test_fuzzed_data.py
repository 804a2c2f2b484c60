"""What fuzzing found, kept, and a quick run of it: each reader of ``benchmarks/fuzzed_readers.py`` on changed files.

``benchmarks/fuzzing.py`` does the same for hours, guided by the code that is reached.
"""

import json
import struct
import time
import tracemalloc
import zlib

import cv2
import imagecodecs
import numpy as np
import pydicom
import pytest
import tifffile
from benchmark_modules import load_benchmark
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reader_errors import error_of

from defects_in_welds.data import image_reading
from defects_in_welds.data.annotation import DataError, Finding, FindingKind
from defects_in_welds.data.annotation_formats import read_dataset
from defects_in_welds.data.annotation_formats.folders import find_below
from defects_in_welds.data.image_reading import read_image_hw, read_radiograph
from defects_in_welds.data.preparation import prepare_dataset
from defects_in_welds.data.tensor_store import MANIFEST_NAME, TensorStore
from defects_in_welds.params import load_params

fuzzed = load_benchmark("fuzzed_readers")
QUICK = [name for name in fuzzed.READERS if name != "prepare, whole"]


# --- A quick run of the fuzzer's readers --------------------------------------------------------------------------


@st.composite
def changed(draw, seeds):
    """Cut a file short, exchange some of its bytes, or put a word into it."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, len(data)))
        word = draw(st.sampled_from(fuzzed.WORDS)).encode()
        new = draw(st.sampled_from([word, b"\xff", b"\0", b""]) | st.binary(min_size=1, max_size=4))
        data[place : place + draw(st.integers(0, 4))] = new
    return bytes(data[: draw(st.just(len(data)) | st.integers(0, len(data)))])


@pytest.mark.parametrize("name", QUICK)
def test_every_reader_ends_in_a_result_or_one_error(tmp_path, monkeypatch, name):
    monkeypatch.setattr(image_reading, "MAX_PIXELS", fuzzed.MAX_PIXELS)
    read, seeds = fuzzed.READERS[name].prepare(tmp_path), fuzzed.READERS[name].seeds()

    # The same every time: to find what is new is the work of benchmarks/fuzzing.py.
    @settings(max_examples=60, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(data=changed(seeds))
    def run(data):
        assert len(error_of(read, data)) < 3000

    run()


@pytest.mark.parametrize("name", QUICK)
def test_the_seeds_of_the_fuzzer_are_mostly_read(tmp_path, name):
    """Files that are all refused at the door would show nothing of what lies behind it."""
    read = fuzzed.READERS[name].prepare(tmp_path)
    errors = [error_of(read, seed) for seed in fuzzed.READERS[name].seeds()]
    refused = [error for error in errors if error and "cannot be divided" not in error]  # which is what comes last
    most = {"BAM's xls": 3, "checkpoint": 2}.get(name, 1)  # nothing here writes these whole
    assert len(refused) <= most, refused


# --- Pictures -----------------------------------------------------------------------------------------------------

NOISE = np.random.default_rng(3).integers(0, 256, (16, 16)).astype(np.uint8)


def jpeg(width=16, height=16, channels=1):
    """Make a JPEG whose header may say another size than its data have."""
    data = bytearray(cv2.imencode(".jpg", NOISE)[1].tobytes())
    start = data.index(b"\xff\xc0")
    data[start + 5 : start + 10] = struct.pack(">HHB", height, width, channels)
    return bytes(data)


def tiff(data=b"\0" * 256, pages=1, **tags):
    """Write a grey TIFF of 16x16 pixels tag by tag, with as many directories as asked for."""
    plain = {"NewSubfileType": 0, "ImageWidth": 16, "ImageLength": 16, "BitsPerSample": 8, "Compression": 1}
    plain |= {"PhotometricInterpretation": 1, "StripOffsets": 8, "SamplesPerPixel": 1, "RowsPerStrip": 16}
    content = plain | {"StripByteCounts": len(data)} | tags
    codes = {tifffile.TIFF.TAGS[name]: value for name, value in content.items()}
    data += b"\0" * (len(data) % 2)
    entries = b"".join(struct.pack("<HHII", code, 4, 1, value) for code, value in sorted(codes.items()))
    size = 6 + len(entries)
    nexts = [8 + len(data) + size * page for page in range(1, pages)] + [0]
    directories = b"".join(struct.pack("<H", len(codes)) + entries + struct.pack("<I", place) for place in nexts)
    return b"II*\0" + struct.pack("<I", 8 + len(data)) + data + directories


def png(*chunks):
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in chunks
    )


def dicom(syntax, frame):
    return fuzzed.dicom_of(syntax, pydicom.encaps.encapsulate([frame]), 8, Rows=16, Columns=16)


HEADER = b"IHDR" + struct.pack(">IIBBBBB", 16, 16, 8, 0, 0, 0, 0)
ROWS = b"IDAT" + zlib.compress(b"".join(b"\0" + bytes(row) for row in NOISE))
JPEG_2000 = imagecodecs.jpeg2k_encode(NOISE, codecformat="j2k", resolutions=1)

BOMBS = {
    "JPEG of another size in a TIFF": (tiff(jpeg(65500, 20000), Compression=7), "are of 65500x20000 pixels, not of"),
    "JPEG of another size in DICOM": (
        dicom(pydicom.uid.JPEGBaseline8Bit, jpeg(9000, 9000)),
        "are 9000x9000, not 16x16",
    ),
    "JPEG 2000 of another size in DICOM": (
        dicom(pydicom.uid.JPEG2000Lossless, JPEG_2000[:8] + struct.pack(">II", 9000, 9000) + JPEG_2000[16:]),
        "are 9000x9000, not 16x16",
    ),
    "JPEG 2000 in a TIFF": (tiff(JPEG_2000, Compression=34712), "JPEG2000 compression; save it with LZW"),
    "LERC in a TIFF": (tiff(imagecodecs.lerc_encode(NOISE), Compression=34887), "LERC compression; save it with LZW"),
    "TIFF of many pages": (tiff(pages=100_000), "holds 2 images or more; save each image as a file of its own"),
    "TIFF of many thumbnails": (tiff(pages=100_000, NewSubfileType=1), "holds no image of full size"),
    "PNG chunk of 2 GB": (
        png(HEADER)[:-4] + struct.pack(">I4s", 2**31 - 1, b"PLTE") + bytes(99),
        "a chunk ends beyond the file",
    ),
    "PNG chunk of 2 GB after the pixels": (png(HEADER, ROWS) + b"\x7f\xff\xff\xfftEXt", "a chunk ends beyond the file"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_small_files_never_take_much(tmp_path, name):
    data, reason = BOMBS[name]
    (tmp_path / "film").write_bytes(data)
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(DataError, match=reason):
        read_radiograph(tmp_path / "film")
    seconds = time.process_time() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert seconds < 2
    assert peak < 100_000_000


ODD = {
    "TIFF with a height that is no number": (tiff().replace(b"\1\1\4\0\1", b"\1\1\7\0\1"), "film: damaged"),
    "16-bit TIFF with a palette": (tiff(bytes(512), BitsPerSample=16, PhotometricInterpretation=3), "PALETTE TIFF"),
    "16-bit PNG with a palette": (png(HEADER[:12] + b"\x10\3\0\0\0", b"PLTE" + bytes(6), ROWS, b"IEND"), "damaged"),
    "CMYK JPEG": (jpeg(channels=4), "CMYK; save it as grey or RGB"),
    "animated PNG": (png(HEADER, b"acTL" + bytes(8), ROWS, b"IEND"), "is animated; save one image"),
    "animated GIF": (b"GIF89a" + bytes(500), "is no PNG, TIFF"),
    "JPEG with a segment of no length": (b"\xff\xd8\xff\xe0\0\0" + jpeg()[2:], "damaged JPEG header"),
    "JPEG with a marker of no length": (b"\xff\xd8\xff\xd0\0\4\0\0" + jpeg()[2:], "damaged JPEG header"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_odd_pictures_are_one_error(tmp_path, name):
    data, reason = ODD[name]
    (tmp_path / "film").write_bytes(data)
    with pytest.raises(DataError, match=reason):
        read_radiograph(tmp_path / "film")


def test_single_bits_of_a_colour_tiff_are_read(tmp_path):
    bits = np.zeros((8, 8, 3), dtype=bool)
    bits[2:, :, 1] = True
    tifffile.imwrite(tmp_path / "film", bits, photometric="rgb")
    assert read_radiograph(tmp_path / "film").image_hw == (8, 8)


def test_a_jpeg_with_filling_before_its_markers_is_read(tmp_path):
    (tmp_path / "film").write_bytes(jpeg().replace(b"\xff\xc0", b"\xff\xff\xff\xc0"))
    assert read_radiograph(tmp_path / "film").image_hw == read_image_hw(tmp_path / "film") == (16, 16)


@pytest.mark.parametrize("compression", [None, "lzw", "deflate", "packbits", "lzma", "zstd", "jpeg"])
@pytest.mark.parametrize("tile", [None, (16, 16)])
def test_every_codec_that_tiff_may_have_is_read(tmp_path, compression, tile):
    pixels = np.add.outer(np.arange(40), np.arange(37)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "film", pixels, compression=compression, tile=tile)
    np.testing.assert_allclose(read_radiograph(tmp_path / "film").pixels, pixels, atol=6)


def test_dicom_with_compressed_pixels_is_read(tmp_path):
    for syntax, frame in ((pydicom.uid.JPEGBaseline8Bit, jpeg()), (pydicom.uid.JPEG2000Lossless, JPEG_2000)):
        (tmp_path / "film").write_bytes(dicom(syntax, frame))
        np.testing.assert_allclose(read_radiograph(tmp_path / "film").pixels, NOISE, atol=60)


# --- Annotations --------------------------------------------------------------------------------------------------


def write_films(root, files):
    for name, content in {"a.bmp": fuzzed.picture(), **files}.items():
        fuzzed.write(root / name, content if isinstance(content, bytes) else content.encode())
    return root


def coco(image=None, annotation=None, categories=1):
    return json.dumps(
        {
            "images": [{"id": 1, "file_name": "a.bmp"} | (image or {})],
            "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]} | (annotation or {})],
            "categories": [{"id": number, "name": f"class {number}"} for number in range(1, categories + 1)],
        }
    )


@pytest.mark.parametrize(
    "line",
    [
        "names: {.inf: pore}",
        "names: {0: !!bool maybe}",
        "names: {0: !!timestamp soon}",
        "names: {0: !!int ''}",
        "names: {0: !!float ''}",
        f"names: [pore]\nx: 9{':59' * 300}.5",
        f"names: [pore]\nx: [{'1,' * 200_000}]",
        f"names: [pore]\nnc: {'x' * 150_000}",
    ],
    ids=range(8),
)
def test_odd_yaml_is_one_short_error(tmp_path, line):
    write_films(tmp_path, {"data.yaml": line})
    with pytest.raises(DataError, match=r"data\.yaml") as error:
        read_dataset(tmp_path)
    assert len(str(error.value)) < len(str(tmp_path)) + 200


@pytest.mark.parametrize("encoding", ["foo", "rot13", "zlib", "utf-7", "idna", "undefined"])
def test_an_xml_file_in_an_encoding_that_is_none_costs_its_image(tmp_path, encoding):
    write_films(tmp_path, {"a.xml": f'<?xml version="1.0" encoding="{encoding}"?>\n<annotation/>'})
    with pytest.raises(DataError, match="its image is left out"):
        read_dataset(tmp_path)


@pytest.mark.parametrize(
    "changes",
    [
        {"annotation": {"image_id": "x" * 10**6}},
        {"annotation": {"category_id": "x" * 10**6}},
        {"image": {"split": "x" * 10**6}},
        {"image": {"id": "x" * 10**6}},
        {"image": {"file_name": "x" * 10**6}},
    ],
)
def test_values_without_end_are_quoted_in_part(tmp_path, changes):
    write_films(tmp_path, {"truth.json": coco(**changes)})
    try:
        messages = [finding.message for finding in read_dataset(tmp_path).findings]
    except DataError as error:
        messages = [str(error)]
    assert 0 < max(map(len, messages)) < len(str(tmp_path)) + 600


def test_a_long_finding_is_cut():
    assert len(Finding(FindingKind.BROKEN_LABEL, "a", 1, "x" * 10**6).message) == 401


def test_names_that_no_picture_could_show_are_refused(tmp_path):
    write_films(tmp_path, {"truth.json": coco().replace("class 1", "x" * 10**6)})
    with pytest.raises(DataError, match="has 1000000 characters; give it at most 200") as error:
        read_dataset(tmp_path)
    assert len(str(error.value)) < len(str(tmp_path)) + 200
    write_films(tmp_path, {"truth.json": coco({"weld": "x" * 10**6})})
    with pytest.raises(DataError, match="allowed: text of at most 200 characters"):
        read_dataset(tmp_path)


def quick(read):
    start = time.process_time()
    result = read()
    assert time.process_time() - start < 2
    return result


def test_time_does_not_grow_with_the_square_of_classes_objects_or_folders(tmp_path):
    write_films(tmp_path / "coco", {"truth.json": coco(categories=50_000)})
    assert len(quick(lambda: read_dataset(tmp_path / "coco")).defect_classes) == 50_000

    write_films(tmp_path / "voc", {"a.xml": "<annotation>" + "<object/>\n" * 30_000 + "</annotation>"})
    with pytest.raises(DataError, match="name no class"):
        quick(lambda: read_dataset(tmp_path / "voc"))

    bases = [tmp_path / str(number) for number in range(27)]
    for named in ("/" + "a/" * 1900, "/" + "a/" * 500_000):
        assert quick(lambda named=named: find_below(bases, named)) is None


def test_the_end_of_a_long_path_from_elsewhere_is_found(tmp_path):
    write_films(tmp_path, {})
    assert find_below([tmp_path], "/" + "folder/" * 200 + "a.bmp") == tmp_path / "a.bmp"


@pytest.mark.parametrize("kind", ["a polygon", "words"])
def test_a_line_of_10_megabytes_is_a_finding(tmp_path, kind):
    line = "0 " + "0.5 " * 2_500_000 if kind == "a polygon" else "x" * 10**7
    write_films(tmp_path, {"labels/a.txt": "", "images/a.bmp": fuzzed.picture(1), "classes.txt": "pore"})
    (tmp_path / "labels/a.txt").write_text(f"{line}\n0 .5 .5 .1 .1\n")
    dataset = quick(lambda: read_dataset(tmp_path))
    (finding,) = (one for one in dataset.findings if one.kind is FindingKind.BROKEN_LABEL)
    assert (finding.line, finding.film) == (1, "images/a.bmp")
    assert finding.message.endswith("characters; a line may have 100000")


@pytest.mark.parametrize("name", ["b.bmp", "b.txt", "b"])
@pytest.mark.parametrize(
    "target", ["{name}", "nowhere", "x" * 300, "y/" * 1500], ids=["itself", "none", "name", "path"]
)
def test_a_link_that_leads_nowhere_is_one_error(tmp_path, name, target):
    write_films(tmp_path, {"ground_truth.txt": "1 2 9 2 8\n", "film_1.bmp": fuzzed.picture(1)})
    (tmp_path / name).symlink_to(target.format(name=name))
    with pytest.raises(DataError, match=rf"/{name}: a link that leads nowhere; correct it or take it away"):
        read_dataset(tmp_path)


# --- Prepared data ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    folder = tmp_path_factory.mktemp("store")
    for number in range(4):
        fuzzed.write(folder / f"data/{number}.bmp", fuzzed.picture(number))
    fuzzed.write(folder / "data/truth.json", fuzzed.coco_films(4)[0])
    overrides = ["prepare.img_size=32", "prepare.overlap_px=8", "prepare.on_finding=keep"]
    prepare_dataset(load_params(overrides), folder / "data", folder / "prepared")
    return folder / "prepared"


@pytest.mark.parametrize(
    "tile",
    [{"film": 99}, {"film": -1}, {"film": "0"}, {"film": True}, {"row": "0"}, {"row": -1}, {"dtype": "int8"},
     {"labels": [10**30]}, {"xyxy": [1, 2]}],
    ids=str,
)  # fmt: skip
def test_a_manifest_with_an_impossible_tile_is_broken(tmp_path, store, tile):
    content = json.loads((store / MANIFEST_NAME).read_bytes())
    content["tiles"][0] |= tile
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(content))
    with pytest.raises(DataError, match="broken manifest"):
        TensorStore.open(tmp_path)


@pytest.mark.parametrize("key", ["img_size", "format_version", "films"])
def test_a_manifest_quotes_no_value_without_end(tmp_path, store, key):
    content = json.loads((store / MANIFEST_NAME).read_bytes())
    content[key] = [{"split": "x" * 10**6, "annotations": []}] if key == "films" else "x" * 10**6
    (tmp_path / MANIFEST_NAME).write_text(json.dumps(content))
    with pytest.raises(DataError, match=r"manifest\.json: (broken|prepared by another version)") as error:
        TensorStore.open(tmp_path)
    assert len(str(error.value)) < len(str(tmp_path)) + 400


@pytest.mark.parametrize(
    "shape", ["(4, 32,nan,", "(4, 32, 32", "[(((", "'''", "(4, -32, 32)", "9" * 5000, "(4,) * 9**9"]
)
def test_an_array_with_an_impossible_header_is_one_error(tmp_path, store, shape):
    (tmp_path / MANIFEST_NAME).write_bytes((store / MANIFEST_NAME).read_bytes())
    header = f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    (tmp_path / "tiles_uint8.npy").write_bytes(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(DataError, match=r"tiles_uint8\.npy: (not a readable array|holds uint8 )") as error:
        TensorStore.open(tmp_path)
    assert len(str(error.value)) < len(str(tmp_path)) + 400


@pytest.mark.filterwarnings("ignore:Glyph")  # the preview shows a box for what its font lacks
def test_names_with_spaces_and_in_any_script_go_through_the_whole_stage(tmp_path):
    names = ["плёнка 1.bmp", "фото/ø é 溶接.bmp", "a b  c.bmp", "=1+1;,'\".bmp", "🩻.bmp", "-x.bmp"]
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    annotations = [{"id": n, "image_id": n, "category_id": 1, "bbox": [2, 2, 9, 9]} for n in range(len(names))]
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "трещина $x$ <b>"}]}
    for number, name in enumerate(names):
        fuzzed.write(tmp_path / "data" / name, fuzzed.picture(number))
    fuzzed.write(tmp_path / "data/truth.json", json.dumps(content).encode())
    params = load_params(["prepare.img_size=32", "prepare.overlap_px=8"])
    store = prepare_dataset(params, tmp_path / "data", tmp_path / "out")
    assert {film.name for film in store.manifest.films} == set(names)
    assert store.manifest.defect_classes == ("трещина $x$ <b>",)

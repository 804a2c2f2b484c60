"""A detector in other runtimes: the same boxes and scores, or one clear error."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import MagicMock

import cv2
import numpy as np
import pytest
import torch
from limits import largest_file

from defects_in_welds.data.annotation import DataError, Split
from defects_in_welds.data.tensor_store import FilmRecord, Manifest, StoreWriter, TileRecord
from defects_in_welds.inference.exported_model import FORMAT, ExportedModelError, load_exported_model
from defects_in_welds.inference.graph_runtimes import PACKAGE_OF, open_graph
from defects_in_welds.inference.model_export import export_model
from defects_in_welds.inference.predictor import Predictor
from defects_in_welds.inference.run_prediction import predict_films
from defects_in_welds.model.checkpoint import CheckpointError, save_checkpoint
from defects_in_welds.model.faster_rcnn import InputSpec, build_detector
from defects_in_welds.params import UserError, load_params

TILE_PX = 64
CLASSES = ("crack", "gas pore")
NO_DATA = Path("nowhere")
RUNTIMES = ("onnx", "openvino")
MOST_BOX_DIFFERENCE_PX, MOST_SCORE_DIFFERENCE = 0.5, 1e-3


def write_checkpoint(path, architecture="fasterrcnn_mobilenet_v3_large_320_fpn", **settings):
    """Write a random detector whose scores spread, so that it reports a few boxes of each class."""
    params = load_params()
    params.model.architecture = architecture
    for name, value in {"proposals": 60, **settings}.items():
        setattr(params.model, name, value)
    torch.manual_seed(0)
    spec = InputSpec(TILE_PX, 0.5, 0.2)
    detector = build_detector(params.model, CLASSES, spec)
    for module in detector.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        # Norms that fit the values: those of a new network let nearly nothing through, and all boxes score the same.
        detector.backbone(torch.randn(4, 3, TILE_PX, TILE_PX))
        detector.roi_heads.box_head(torch.randn(4, 256, 7, 7))
        detector.roi_heads.box_predictor.cls_score.weight.mul_(5)
        detector.rpn.head.cls_logits.weight.mul_(20)
    save_checkpoint(path, detector, params.model, CLASSES, spec, {"epoch": 3})
    return path


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    (folder / "run.json").write_text('{"run_id": "r1"}')
    return write_checkpoint(folder / "best.ckpt")


@pytest.fixture(scope="module", params=RUNTIMES)
def exported(request, checkpoint):
    folder = checkpoint.parent / request.param
    folder.mkdir()
    (folder / "exported_model.json").write_text(f'{{"format": "{FORMAT}"}}')  # an earlier one
    export_model(checkpoint, folder, request.param, "float32", NO_DATA)
    return folder


@pytest.fixture
def copy(exported, tmp_path):
    """An exported model to spoil."""
    return shutil.copytree(exported, tmp_path / "copy")


def noise_tiles(count):
    return list(np.random.default_rng(0).random((count, TILE_PX, TILE_PX), dtype=np.float32))


def assert_same(found, expected):
    assert len(found) == len(expected)
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours["scores"]) == len(theirs["scores"])
        assert {name: values.dtype for name, values in ours.items()} == {
            name: values.dtype for name, values in theirs.items()
        }
        # Boxes of nearly the same score may change places.
        box = (ours["boxes"][:, None] - theirs["boxes"][None]).abs().amax(dim=2)
        score = (ours["scores"][:, None] - theirs["scores"][None]).abs()
        is_same = (box < MOST_BOX_DIFFERENCE_PX) & (score < MOST_SCORE_DIFFERENCE)
        is_same &= ours["labels"][:, None] == theirs["labels"][None]
        assert is_same.any(dim=0).all()
        assert is_same.any(dim=1).all()


@pytest.mark.parametrize("tiles", [1, 3])
def test_boxes_and_scores_are_those_of_the_checkpoint(tiles, exported, checkpoint):
    given = noise_tiles(tiles)
    expected = Predictor.from_checkpoint(checkpoint)._predict_tiles(given)
    assert all(len(tile["scores"]) > 3 for tile in expected)
    assert_same(Predictor.from_exported_model(exported)._predict_tiles(given), expected)


def test_batches_at_once_find_what_they_find_in_turn(exported):
    predictor = Predictor.from_exported_model(exported)
    tiles = noise_tiles(16)
    batches = [tiles[start : start + 2] for start in range(0, 16, 2)]
    in_turn = [found for batch in batches for found in predictor._predict_tiles(batch)]
    predictor._batches_at_once = 3
    at_once = [found for batch in predictor._predict_batches(iter(batches), 8) for found in batch]
    assert len(at_once) == 16
    for one, other in zip(at_once, in_turn, strict=True):
        assert_same([one], [other])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("architecture", "runtime"), [("fasterrcnn_resnet50_fpn", "onnx"), ("fasterrcnn_resnet50_fpn_v2", "openvino")]
)
def test_every_architecture_can_be_exported(architecture, runtime, tmp_path):
    path = write_checkpoint(tmp_path / "best.ckpt", architecture, proposals=20)
    export_model(path, tmp_path / "out", runtime, "float32", NO_DATA)
    tiles = noise_tiles(2)
    expected = Predictor.from_checkpoint(path)._predict_tiles(tiles)
    assert_same(Predictor.from_exported_model(tmp_path / "out")._predict_tiles(tiles), expected)


def test_nothing_found_is_the_same_nothing(exported, checkpoint):
    predictors = Predictor.from_checkpoint(checkpoint), Predictor.from_exported_model(exported)
    for predictor in predictors:
        predictor._detector.roi_heads.score_thresh = 1.0
    expected, found = (predictor._predict_tiles(noise_tiles(2)) for predictor in predictors)
    assert [len(tile["scores"]) for tile in expected] == [0, 0]
    assert_same(found, expected)


def test_a_tile_without_any_proposal_is_no_trouble(exported):
    predictor = Predictor.from_exported_model(exported)
    predictor._detector.rpn.min_size = 1000.0
    (found,) = predictor._predict_tiles(noise_tiles(1))
    assert found["boxes"].shape == (0, 4)


def test_predict_takes_the_folder_of_an_export(exported, checkpoint, tmp_path, params):
    params.prepare.overlap_px = 16
    cv2.imwrite(str(tmp_path / "film.png"), np.random.default_rng(0).integers(0, 256, (64, 150), dtype=np.uint8))
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation/operating_point.json").write_text('{"run_id": "r1", "min_score": 0.4}')
    contents = []
    for model, out in ((exported, "ours"), (checkpoint, "theirs")):
        predict_films(params, [tmp_path / "film.png"], model, tmp_path / "evaluation", tmp_path / out)
        contents.append(json.loads((tmp_path / out / "predictions.json").read_text()))
    ours, theirs = contents
    assert ours["info"]["model"] == str(exported)
    assert ours["info"]["min_score"] == theirs["info"]["min_score"] == 0.4
    assert len(ours["annotations"]) == len(theirs["annotations"]) > 0


@pytest.mark.parametrize(("asked", "warnings"), [(None, 1), (0.5, 0)])
def test_an_operating_point_of_another_precision_is_told(asked, warnings, copy, tmp_path, params, caplog):
    path = copy / "exported_model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"precision": "int8"}))
    params.prepare.overlap_px = 16
    cv2.imwrite(str(tmp_path / "film.png"), np.zeros((64, 64), dtype=np.uint8))
    predict_films(params, [tmp_path / "film.png"], copy, tmp_path, tmp_path / "out", min_score=asked)
    assert caplog.text.count("computes in int8, where scores differ from those that this was chosen by") == warnings
    assert json.loads((tmp_path / "out/predictions.json").read_text())["info"]["precision"] == "int8"


@pytest.mark.parametrize(("capabilities", "hint"), [(["FP32", "BF16"], "bf16"), (["FP32"], "f32")])
def test_bfloat16_is_told_where_the_processor_has_none(capabilities, hint, monkeypatch, caplog):
    core = MagicMock()
    core.get_property.return_value = capabilities
    monkeypatch.setattr("defects_in_welds.inference.graph_runtimes.openvino_core", lambda: core)
    open_graph(Path("first_stage.xml"), "openvino", "bfloat16")
    assert core.compile_model.call_args.args[2]["INFERENCE_PRECISION_HINT"] == hint
    assert ("this processor has no bfloat16: first_stage.xml is computed in float32" in caplog.text) == (hint == "f32")


def test_the_description_says_where_the_model_comes_from(exported):
    described = json.loads((exported / "exported_model.json").read_text())
    assert described["source"].keys() == {"checkpoint_sha256", "epoch"}
    assert described["defect_classes"] == list(CLASSES)
    assert described["precision"] == "float32"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "something"}, r"exported_model.json: no exported model of ours; export it anew with `python -m"),
        ({"format_version": 9}, r"exported_model.json: written by another version \(format 9, not 1\); export it"),
        ({"runtime": "tensorrt"}, r"exported_model.json: broken \(KeyError: 'tensorrt'\); export it"),
        ({"precision": "int4"}, r"exported_model.json: broken \(KeyError: 'int4'\); export it"),
        ({"model": {"depth": 3}}, r"exported_model.json: broken \(TypeError: .*\); export it"),
        (
            {"defect_classes": [1, 2]},
            r"exported_model.json: broken \(TypeError: not all of \[1, 2\] are names\); export",
        ),
        (
            {"input_spec": {"img_size": "a", "grey_mean": 0.5, "grey_std": 0.2}},
            r"broken \(TypeError: input_spec is .*; ex",
        ),
        ({"files": {}}, r"/copy/first_stage.(onnx|xml): missing or not as it was written; export it anew"),
    ],
)
def test_a_description_that_is_wrong_is_refused(changes, message, copy):
    path = copy / "exported_model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ExportedModelError, match=message):
        Predictor.from_exported_model(copy)


@pytest.mark.parametrize("changes", [{"defect_classes": ["crack"]}, {"feature_levels": ["0"]}])
def test_a_description_that_the_graphs_do_not_fit_is_refused(changes, copy):
    path = copy / "exported_model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    predictor = Predictor.from_exported_model(copy)
    with pytest.raises(
        ExportedModelError, match=r"exported_model.json: the graphs are of another model; export it anew"
    ):
        predictor._predict_tiles(noise_tiles(1))


def test_a_description_that_is_no_json_is_refused(copy):
    (copy / "exported_model.json").write_text("{")
    with pytest.raises(ExportedModelError, match=r"exported_model.json: cannot be read \(JSONDecodeError\); export it"):
        Predictor.from_exported_model(copy)


def graph_of(folder):
    return next(path for path in sorted(folder.iterdir(), reverse=True) if path.suffix in {".onnx", ".bin"})


@pytest.mark.parametrize("spoil", [Path.unlink, lambda path: path.write_bytes(path.read_bytes()[:-1])])
def test_a_graph_that_is_missing_or_cut_is_named(spoil, copy):
    path = graph_of(copy)
    spoil(path)
    with pytest.raises(ExportedModelError, match=rf"/copy/{path.name}: missing or not as it was written; export it"):
        Predictor.from_exported_model(copy)


def test_a_graph_that_is_none_is_named(copy, monkeypatch):
    path = next(path for path in copy.iterdir() if path.name in {"first_stage.onnx", "first_stage.xml"})
    path.write_bytes(b"no graph")
    monkeypatch.setattr("defects_in_welds.inference.exported_model._require_unchanged", lambda *_: None)
    with pytest.raises(ExportedModelError, match=rf"/copy/{path.name}: .*; export it anew"):
        Predictor.from_exported_model(copy)


def test_a_package_that_is_missing_is_named(exported, checkpoint, tmp_path, monkeypatch):
    package = PACKAGE_OF[exported.name]
    message = (
        rf"^the package {package} is not installed; run `pip install -e '.\[runtimes\]'` in the folder of the project"
    )
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=message):
        Predictor.from_exported_model(exported)
    with pytest.raises(UserError, match=message):
        export_model(checkpoint, tmp_path / "out", exported.name, "float32", NO_DATA)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("runtime", "precision", "message"),
    [
        ("tensorrt", "float32", r"^--runtime is 'tensorrt'; allowed: onnx, openvino$"),
        ("onnx", "bfloat16", r"^--precision is 'bfloat16'; allowed with --runtime onnx: float32"),
        (["onnx"], "float32", r"^--runtime is \['onnx'\]; allowed: onnx, openvino$"),
        ("openvino", 8, r"^--precision is 8; allowed with --runtime openvino: float32"),
    ],
)
def test_a_runtime_or_precision_that_is_unknown_is_refused(runtime, precision, message, checkpoint, tmp_path):
    with pytest.raises(UserError, match=message):
        export_model(checkpoint, tmp_path / "out", runtime, precision, NO_DATA)


def test_a_full_disk_is_told(exported, checkpoint, tmp_path):
    with largest_file(10_000), pytest.raises(UserError, match=rf"{tmp_path}.*(No space|too large|free space)"):
        export_model(checkpoint, tmp_path / "out", exported.name, "float32", NO_DATA)
    assert list(tmp_path.iterdir()) == []


def test_what_openvino_cannot_write_is_told(checkpoint, tmp_path, monkeypatch):
    def save(*_, **__):
        raise RuntimeError("basic_ios::clear: iostream error")

    monkeypatch.setattr("openvino.save_model", save)
    with pytest.raises(
        UserError, match=r"OpenVINO cannot write there \(basic_ios::clear: .*\); free space, or see its"
    ):
        export_model(checkpoint, tmp_path / "out", "openvino", "float32", NO_DATA)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("precision", "package"), [("float32", "onnx"), ("int8", "onnxruntime")])
def test_what_an_export_needs_besides_its_runtime_is_named(precision, package, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UserError, match=rf"^the package {package} is not installed; run"):
        export_model(checkpoint, tmp_path / "out", "openvino", precision, NO_DATA)
    assert not (tmp_path / "out").exists()


def test_only_an_earlier_export_is_replaced(checkpoint, tmp_path):
    (tmp_path / "mine.txt").write_text("precious")
    with pytest.raises(UserError, match=r"holds no earlier export; move it away or name another folder with --out$"):
        export_model(checkpoint, tmp_path, "onnx", "float32", NO_DATA)
    assert {path.name for path in tmp_path.iterdir()} == {"mine.txt"}


def test_without_a_checkpoint_nothing_is_written(tmp_path):
    with pytest.raises(CheckpointError, match=r"best.ckpt: there is no checkpoint"):
        export_model(tmp_path / "model", tmp_path / "out", "onnx", "float32", NO_DATA)
    assert not (tmp_path / "out").exists()


def test_no_runtime_reports_to_its_makers(exported, tmp_path):
    """Both would, and leave an id of the machine in the home folder; but not on what calls itself a CI machine."""
    script = (
        "import sys\n"
        "from defects_in_welds.inference.predictor import Predictor\n"
        "import torch, numpy\n"
        "Predictor.from_exported_model(sys.argv[1])._predict_tiles([numpy.zeros((64, 64), 'float32')])\n"
        "print(sys.modules.get('openvino_telemetry'))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name in {"PATH", "OMP_NUM_THREADS"}}
    command = [sys.executable, "-c", script, exported]
    run = subprocess.run(command, env=environment | {"HOME": str(tmp_path)}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == "None"
    assert [str(path) for path in tmp_path.rglob("*") if re.search("onnx|intel|openvino", str(path), re.I)] == []


def test_a_signal_after_models_have_come_and_gone_ends_nothing(exported):
    script = (
        "import os, signal, sys\n"
        "from defects_in_welds.inference.predictor import Predictor\n"
        "signal.signal(signal.SIGUSR1, lambda *_: print('handled'))\n"
        "first, second = (Predictor.from_exported_model(sys.argv[1]) for _ in range(2))\n"
        "del first\n"
        "del second\n"
        "os.kill(os.getpid(), signal.SIGUSR1)\n"
        "print('alive')\n"
    )
    run = subprocess.run([sys.executable, "-c", script, exported], capture_output=True, text=True)
    assert (run.returncode, run.stdout.split()) == (0, ["handled", "alive"]), run.stderr


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "prepared"
    no_boxes, no_labels = np.zeros((0, 4), dtype=np.float32), np.zeros(0, dtype=np.int64)
    size = TILE_PX, TILE_PX
    film = FilmRecord("film.png", "00", Split.TRAIN, "film", *size, 16, None, (), *size, None)
    with StoreWriter(folder, TILE_PX) as writer:
        tiles = [
            TileRecord(
                0,
                (0, 0, TILE_PX, TILE_PX),
                *writer.append((tile * 65535).astype(np.uint16)),
                *(no_boxes, no_labels, no_labels > 0),
            )
            for tile in noise_tiles(6)
        ]
        writer.complete(Manifest(TILE_PX, 16, 0.3, False, CLASSES, 0.5, 0.2, (film,), tuple(tiles)))
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_eight_bits_are_near_the_networks_in_float32(runtime, checkpoint, prepared, tmp_path):
    """Of the first stage, for one tile: which boxes a random detector finds hangs on the last bits."""
    of_precision = {}
    for precision in ("float32", "int8"):
        export_model(checkpoint, tmp_path / precision, runtime, precision, prepared)
        detector, _ = load_exported_model(tmp_path / precision)
        tiles, _ = detector.transform([torch.from_numpy(tile)[None] for tile in noise_tiles(1)])
        detector.backbone(tiles.tensors)
        of_precision[precision] = detector.backbone.of_thread.anchors[0]
    for ours, theirs in zip(of_precision["int8"], of_precision["float32"], strict=True):
        assert np.corrcoef(ours.flatten(), theirs.flatten())[0, 1] > 0.7
    sizes = [sum(path.stat().st_size for path in (tmp_path / name).iterdir()) for name in ("int8", "float32")]
    assert sizes[0] < sizes[1] / 3
    assert len(Predictor.from_exported_model(tmp_path / "int8")._predict_tiles(noise_tiles(1))[0]["scores"]) > 0


def test_eight_bits_need_the_prepared_data_of_the_model(checkpoint, tmp_path):
    with pytest.raises(DataError, match=r"nowhere: there is no prepared data; run"):
        export_model(checkpoint, tmp_path / "out", "onnx", "int8", NO_DATA)
    assert not (tmp_path / "out").exists()

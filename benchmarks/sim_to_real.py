"""Does simulation help on real films? The same detector from three starts, measured on films that it has not seen.

    python benchmarks/sim_to_real.py --real GDXray/W0001 --work /tmp/sim_to_real

The starts: real films alone; weights that were trained on simulated films first, the same for all seeds; virtual flaws
implanted into the real training films. All have the same network, the same number of steps on real films, and the same
test films; the pretrained one goes on at a fifth of the learning rate. One class, films at half resolution with the
slow background taken away, on a CPU. The films are split by hand, since six are few.

The network is the baseline's: the finest features of MobileNet stand for 32 px, more than most flaws of these films
have. A step takes about a second on 2 cores.
"""

import argparse
import json
import os
import shutil
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
from records import record

from defects_in_welds.data.annotation import Split
from defects_in_welds.data.annotation_formats import read_dataset
from defects_in_welds.data.data_module import WeldDataModule
from defects_in_welds.data.preparation import prepare_dataset
from defects_in_welds.data.tensor_store import TensorStore
from defects_in_welds.evaluation.coco_map import measure_coco
from defects_in_welds.evaluation.film_results import film_result, to_coco
from defects_in_welds.inference.predictor import Predictor
from defects_in_welds.params import load_params
from defects_in_welds.simulation.dataset import simulate_dataset
from defects_in_welds.simulation.implant import implant_dataset
from defects_in_welds.training.run_training import train

PIXEL_PITCH_MM = 0.0403
SPLIT_OF_FILM = {"0001": "train", "0005": "train", "0007": "train", "0006": "val", "0002": "test", "0009": "test"}
CLASS = "defect"
LATER_SHARE = 0.2
"""Of the learning rate, where trained weights are given: the full one would undo them."""
OVERRIDES = [
    "prepare.resample_pitch_mm=0.08",
    "prepare.img_size=192",
    "prepare.overlap_px=48",
    "prepare.background_mm=3",
    "prepare.on_finding=keep",
    "prepare.test_share=0",
    "augmentation.brightness_limit=0",
    "train.batch_size=4",
    "train.validate_on=val",
    "train.early_stopping_epochs=1000",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="GDXray's folder W0001")
    parser.add_argument("--work", type=Path, required=True, help="folder for data and models; what is there is used")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=600, help="training steps on real films")
    parser.add_argument("--simulated-steps", type=int, default=1200, help="training steps on simulated films before")
    parser.add_argument("--films", type=int, default=24, help="simulated films")
    arguments = parser.parse_args()

    work = arguments.work.resolve()
    names = ("real", "simulated", "implanted")
    prepared = {name: work / f"{name}_prepared" for name in names}
    if not all(path.is_dir() for path in prepared.values()):
        shutil.rmtree(work, ignore_errors=True)
        work.mkdir(parents=True)
        for source in make_sources(arguments.real.resolve(), work, arguments.films).values():
            prepare(source)
    os.chdir(work)  # MLflow's records stay there

    simulated = fit(prepared["simulated"], "simulated", arguments.seeds[0], arguments.simulated_steps)
    ap50: dict[str, list[float]] = {"simulated only": [measure(prepared["real"], simulated)]}
    print(f"simulated only: AP50 {ap50['simulated only'][0]:.3f}", flush=True)
    for seed in arguments.seeds:
        runs = {
            "real alone": fit(prepared["real"], f"real_{seed}", seed, arguments.steps),
            "pretrained": fit(prepared["real"], f"pretrained_{seed}", seed, arguments.steps, simulated / "best.ckpt"),
            "implanted": fit(prepared["implanted"], f"implanted_{seed}", seed, arguments.steps),
        }
        for name, model_dir in runs.items():
            ap50.setdefault(name, []).append(measure(prepared["real"], model_dir))
            print(f"seed {seed}, {name}: AP50 {ap50[name][-1]:.3f}", flush=True)
    result = {
        name: {
            "runs": values,
            "mean": statistics.fmean(values),
            "standard deviation": statistics.stdev(values) if len(values) > 1 else None,
        }
        for name, values in ap50.items()
    }
    settings = {"steps": arguments.steps, "simulated_steps": arguments.simulated_steps, "films": arguments.films}
    record("sim_to_real", {**settings, "AP50 on two test films": result})


def make_sources(real_dir: Path, work_dir: Path, films: int) -> dict[str, Path]:
    """Write three data sets of one class with the same validation and test films."""
    real, simulated, implanted = (work_dir / f"{name}_data" for name in ("real", "simulated", "implanted"))
    _write_coco(real_dir, real, list(SPLIT_OF_FILM))
    params = load_params(["experiment=gdxray", f"simulate.films={films}"]).simulate
    simulate_dataset(params, simulated, workers=os.cpu_count() or 1)
    _name_one_class(simulated)
    training_films = work_dir / "training_films"
    _write_coco(real_dir, training_films, [film for film, split in SPLIT_OF_FILM.items() if split == "train"])
    shutil.copytree(real, implanted / "real")
    implant_dataset(params, training_films, implanted / "virtual", PIXEL_PITCH_MM, copies=3, single_class=CLASS)
    return {"real": real, "simulated": simulated, "implanted": implanted}


def _write_coco(real_dir: Path, out_dir: Path, films: Sequence[str]) -> None:
    """Copy some of the real films, with their boxes and splits as COCO."""
    (out_dir / "images").mkdir(parents=True)
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for film in read_dataset(real_dir, "gdxray").radiographs:
        number = film.image_path.stem.rpartition("_")[2]
        if number not in films:
            continue
        height, width = cv2.imread(str(film.image_path), cv2.IMREAD_UNCHANGED).shape
        shutil.copy(film.image_path, out_dir / "images")
        images.append(
            {
                "id": int(number),
                "file_name": f"images/{film.image_path.name}",
                "height": height,
                "width": width,
                "pixel_pitch_mm": PIXEL_PITCH_MM,
                "split": SPLIT_OF_FILM[number],
                "weld": number,
            }
        )
        for annotation in film.annotations:
            x0, y0, x1, y1 = annotation.box_xyxy
            box = [x0, y0, x1 - x0, y1 - y0]
            annotations.append({"id": len(annotations), "image_id": int(number), "category_id": 1, "bbox": box})
    content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": CLASS}]}
    (out_dir / "annotations.json").write_text(json.dumps(content), encoding="utf-8")


def _name_one_class(data_dir: Path) -> None:
    """Give all flaws of a simulated data set the one class that the real films know."""
    path = data_dir / "annotations.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    content["categories"] = [{"id": 1, "name": CLASS}]
    for annotation in content["annotations"]:
        annotation["category_id"] = 1
    path.write_text(json.dumps(content), encoding="utf-8")


def prepare(data_dir: Path, overrides: Sequence[str] = OVERRIDES) -> Path:
    out_dir = data_dir.with_name(data_dir.name.replace("data", "prepared"))
    prepare_dataset(load_params(overrides), data_dir, out_dir)
    return out_dir


def fit(prepared_dir: Path, name: str, seed: int, steps: int, weights: Path | None = None) -> Path:
    """Train for about a number of steps, in whole epochs, unless that was done before.

    Returns:
        The folder of the model.
    """
    params = load_params(OVERRIDES)
    learning_rate = params.train.learning_rate * (LATER_SHARE if weights else 1)
    data = WeldDataModule(prepared_dir, params.train, params.augmentation)
    data.setup("fit")
    epochs = max(1, round(steps / len(data.train_dataloader())))
    given = [f"train.seed={seed}", f"train.max_epochs={epochs}", f"train.learning_rate={learning_rate}"]
    given.append(f"model.weights={weights or 'none'}")
    # Three looks at the validation film choose the best of the last states.
    given.append(f"trainer.check_val_every_n_epoch={max(1, epochs // 3)}")
    model_dir = Path("models") / f"{name}_{steps}"
    if (model_dir / "best.ckpt").is_file():
        return model_dir
    train(load_params([*OVERRIDES, *given]), prepared_dir, model_dir, Path("training") / name)
    return model_dir


def measure(prepared_dir: Path, model_dir: Path) -> float:
    """Measure AP50 on whole test films."""
    settings = load_params(OVERRIDES).evaluate
    store = TensorStore.open(prepared_dir)
    predictor = Predictor.from_checkpoint(model_dir / "best.ckpt")
    classes = store.manifest.defect_classes
    results = [
        film_result(record, classes, predictor.predict_store_film(store, film, settings.batch_size, settings.merge_iou))
        for film, record in enumerate(store.manifest.films)
        if record.split is Split.TEST
    ]
    ap50 = measure_coco(*to_coco(results, classes), settings.max_detections_per_film).mean_average_precision_50
    assert ap50 is not None
    return ap50


if __name__ == "__main__":
    main()

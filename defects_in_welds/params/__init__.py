"""The schema of ``configs/params.yaml`` and the way to read it.

The dataclasses hold no defaults: every value lives in the YAML file alone. Hydra checks names and types against them,
``__post_init__`` checks the values.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from defects_in_welds.params.checks import (
    ParamsError,
    UserError,
    is_count,
    report_user_errors,
    require,
    require_choice,
    require_count,
    require_positive,
    require_seed,
    require_share,
)
from defects_in_welds.params.simulate import SimulateParams

__all__ = [
    "Params",
    "ParamsError",
    "SimulateParams",
    "UserError",
    "load_params",
    "report_user_errors",
    "require_count",
]

_DATABASES = ("postgresql", "mysql", "mssql")

# Where the stages read and write, below the current directory; dvc.yaml names the same.
DATA_DIR = Path("data")
PREPARED_DIR = Path("artifacts/prepared")
TRAINING_DIR = Path("artifacts/training")
MODEL_DIR = Path("artifacts/model")
EVALUATION_DIR = Path("artifacts/evaluation")
FOLDS_DIR = Path("artifacts/cross_validation")
REPORT_DIR = Path("artifacts/report")

# What commands write that are no stages.
IMPLANTED_DIR = Path("artifacts/implanted")
FLAW_SHEET = Path("artifacts/simulated_flaws.png")
PREDICTIONS_DIR = Path("artifacts/predictions")


def without_credentials(uri: str) -> str:
    """Leave user, password and query out of a URI, so that it can be written down; a path or a plain name stays."""
    scheme, separator, rest = uri.partition("://")
    if not separator:
        return uri
    if scheme.partition("+")[0] in _DATABASES:  # their passwords may hold any character
        rest = rest.rpartition("@")[2]
    host, slash, path = re.split("[?#]", rest)[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


@dataclass
class PrepareParams:
    """From radiographs and annotations to tiles.

    Attributes:
        annotation_format: ``auto``, or the name of one of ``data/annotation_formats``.
        classes: Defect classes in order of their ids; null takes those of the data set.
        img_size: Tile side, in pixels.
        overlap_px: Least border that neighbouring tiles share, in pixels.
        min_visible_share: Share of a flaw that a tile must show for the flaw to count in it (see ``tiling.py``).
        augmentations: Whether training augments the tiles.
        on_finding: What a finding that corrupts training does: ``fail`` the stage, ``drop`` what it concerns, or
            ``keep`` what can be kept.
        near_duplicate_correlation: Correlation of two films' fingerprints from which they count as near-duplicates.
        weld_pattern: Regular expression on the file stem whose first group names the weld; null: each film is its own.
        val_share: Share of the welds for validation, where the data set names no split.
        test_share: Share of the welds for the test, where the data set names no split.
        seed: Seed of the split.
        bit_depth: True bit depth of the grey levels where the files hide it (12-bit values in 16-bit files); null:
            what each file says.
        pixel_pitch_mm: Pixel pitch for all films, in mm; null: what each file says.
        invert_polarity: Whether light and dark are exchanged, to bring sources of either polarity together.
        resample_pitch_mm: Pixel pitch that every film is brought to, in mm, before all else that counts in pixels;
            null: each keeps its own.
        background_mm: Side of the squares over which the background of a film is the median, in mm; it is subtracted,
            and the rest divided by its spread (see ``standardisation.py``). Flaws that fill more than half of a square
            fade. null: grey levels stay those of the file.
    """

    annotation_format: str
    classes: list[str] | None
    img_size: int
    overlap_px: int
    min_visible_share: float
    augmentations: bool
    on_finding: str
    near_duplicate_correlation: float
    weld_pattern: str | None
    val_share: float
    test_share: float
    seed: int
    bit_depth: int | None
    pixel_pitch_mm: float | None
    invert_polarity: bool
    resample_pitch_mm: float | None
    background_mm: float | None

    def __post_init__(self) -> None:
        """Check the values."""
        require_seed(self.seed, "prepare")
        require_choice(self, "prepare", "annotation_format", ("auto", "yolo", "coco", "voc", "gdxray"))
        require_choice(self, "prepare", "on_finding", ("fail", "drop", "keep"))
        require(self.img_size >= 32, "prepare.img_size", self.img_size, "at least 32 pixels")
        require(0 <= self.overlap_px < self.img_size, "prepare.overlap_px", self.overlap_px, "0 to below img_size")
        require_share(self, "prepare", "min_visible_share", "near_duplicate_correlation", "val_share", "test_share")
        require(
            self.val_share + self.test_share < 1,
            "prepare.val_share + prepare.test_share",
            self.val_share + self.test_share,
            "below 1, so that training keeps some welds",
        )
        if self.classes is not None:
            require(0 < len(self.classes) == len(set(self.classes)), "prepare.classes", self.classes, "distinct names")
        if self.bit_depth is not None:
            require(1 <= self.bit_depth <= 16, "prepare.bit_depth", self.bit_depth, "1 to 16, or null")
        for key in ("pixel_pitch_mm", "resample_pitch_mm", "background_mm"):
            if getattr(self, key) is not None:
                require_positive(self, "prepare", key)
        if self.weld_pattern is not None:
            try:
                groups = re.compile(self.weld_pattern).groups
            except re.error as error:
                raise ParamsError(f"params: prepare.weld_pattern is {self.weld_pattern!r}: {error}") from None
            require(groups >= 1, "prepare.weld_pattern", self.weld_pattern, "a pattern with a (group) for the weld")


@dataclass
class AugmentationParams:
    """Random changes of the training tiles.

    Attributes:
        horizontal_flip: Probability.
        vertical_flip: Probability.
        quarter_turns: Probability of a turn by a random multiple of 90 degrees.
        scale_limit: Largest relative change of scale.
        brightness_limit: Largest shift of grey level, as a share of full scale.
        contrast_limit: Largest relative change of contrast.
        noise_std_max: Largest standard deviation of added Gaussian noise, as a share of full scale.
    """

    horizontal_flip: float
    vertical_flip: float
    quarter_turns: float
    scale_limit: float
    brightness_limit: float
    contrast_limit: float
    noise_std_max: float

    def __post_init__(self) -> None:
        """Check the values."""
        require_share(
            self,
            "augmentation",
            "horizontal_flip",
            "vertical_flip",
            "quarter_turns",
            "brightness_limit",
            "contrast_limit",
            "noise_std_max",
        )
        require(0 <= self.scale_limit < 1, "augmentation.scale_limit", self.scale_limit, "0 to below 1")


@dataclass
class ModelParams:
    """The detector.

    Attributes:
        architecture: A torchvision Faster R-CNN.
        weights: ``coco``, ``imagenet_backbone``, ``none``, or the path or URL of a weights file.
        weights_sha256: Expected SHA-256 of a weights file or URL; null: not checked.
        trainable_backbone_layers: 0 (all frozen) to 5 (none frozen) for ResNet, to 6 for MobileNet.
        frozen_batch_norm: Whether the backbone's batch statistics stay as loaded; needs loaded weights.
        anchor_sizes_px: One anchor size per feature level, in pixels, finest first.
        anchor_aspect_ratios: Height over width.
        proposals: Regions that the first stage passes on, per tile.
        box_samples: Regions per tile that the second stage learns from; most of its time on a CPU goes with them.
        detections_per_tile: Most detections per tile.
        score_threshold: Least score of a detection.
        nms_iou: IoU above which the weaker of two detections of a class is dropped.
        channels_last: Memory layout of the network: faster on CPUs with bf16 and on GPUs.
    """

    architecture: str
    weights: str
    weights_sha256: str | None
    trainable_backbone_layers: int
    frozen_batch_norm: bool
    anchor_sizes_px: list[int]
    anchor_aspect_ratios: list[float]
    proposals: int
    box_samples: int
    detections_per_tile: int
    score_threshold: float
    nms_iou: float
    channels_last: bool

    def __post_init__(self) -> None:
        """Check the values."""
        require_choice(
            self,
            "model",
            "architecture",
            ("fasterrcnn_resnet50_fpn", "fasterrcnn_resnet50_fpn_v2", "fasterrcnn_mobilenet_v3_large_320_fpn"),
        )
        layers = 6 if "mobilenet" in self.architecture else 5
        require(
            0 <= self.trainable_backbone_layers <= layers,
            "model.trainable_backbone_layers",
            self.trainable_backbone_layers,
            f"0 to {layers}",
        )
        require(
            not (self.frozen_batch_norm and self.weights == "none"),
            "model.frozen_batch_norm",
            self.frozen_batch_norm,
            "false where model.weights is none: there are no statistics to keep",
        )
        for key in ("anchor_sizes_px", "anchor_aspect_ratios"):
            values = getattr(self, key)
            require(len(values) > 0 and min(values) > 0, f"model.{key}", values, "numbers above 0")
        require_positive(self, "model", "proposals", "box_samples", "detections_per_tile")
        require_share(self, "model", "score_threshold", "nms_iou")


@dataclass
class TrainParams:
    """Optimisation and its records.

    Attributes:
        batch_size: Tiles per step and process.
        learning_rate: Peak rate of AdamW.
        weight_decay: Of AdamW.
        warmup_steps: Steps of linear warm-up; a cosine to zero follows.
        max_epochs: Passes over the training tiles.
        gradient_clip_norm: Largest norm of the gradient.
        empty_tile_share: Largest share of tiles without annotation in an epoch; the others are redrawn each epoch.
        tile_limit: Train on the first so many annotated tiles only; null: on all.
        validate_on: ``val``, or ``train`` to see whether the model can learn its tiles by heart.
        early_stopping_epochs: Validations without a better mAP after which training stops.
        num_workers: Processes that load tiles; 0 loads in the training process.
        seed: Seed of weights, order and augmentation.
        resume: Continue an interrupted run.
        experiment_name: MLflow experiment.
        tracking_uri: MLflow store; the environment's ``MLFLOW_TRACKING_URI`` goes first.
    """

    batch_size: int
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    max_epochs: int
    gradient_clip_norm: float
    empty_tile_share: float
    tile_limit: int | None
    validate_on: str
    early_stopping_epochs: int
    num_workers: int
    seed: int
    resume: bool
    experiment_name: str
    tracking_uri: str

    def __post_init__(self) -> None:
        """Check the values."""
        require_positive(
            self, "train", "batch_size", "learning_rate", "max_epochs", "gradient_clip_norm", "early_stopping_epochs"
        )
        require_choice(self, "train", "validate_on", ("val", "train"))
        require(0 <= self.empty_tile_share < 1, "train.empty_tile_share", self.empty_tile_share, "0 to below 1")
        if self.tile_limit is not None:
            require_positive(self, "train", "tile_limit")
        require_seed(self.seed, "train")
        require(self.experiment_name.strip() != "", "train.experiment_name", self.experiment_name, "a name")
        for key in ("weight_decay", "warmup_steps", "num_workers"):
            require(getattr(self, key) >= 0, f"train.{key}", getattr(self, key), "0 or more")


@dataclass
class TrainerParams:
    """Passed to Lightning's ``Trainer`` under the same names.

    ``devices`` and the limits take several types, which OmegaConf cannot merge as a union: they are checked here.
    """

    accelerator: str
    devices: Any
    strategy: str
    precision: str
    deterministic: bool
    check_val_every_n_epoch: int
    limit_train_batches: Any
    limit_val_batches: Any
    log_every_n_steps: int
    enable_progress_bar: bool

    def __post_init__(self) -> None:
        """Check the values."""
        require_choice(self, "trainer", "precision", ("32-true", "16-mixed", "bf16-mixed"))
        require_choice(self, "trainer", "accelerator", ("auto", "cpu", "gpu", "mps"))
        require_choice(self, "trainer", "strategy", ("auto", "ddp"))
        devices = self.devices
        require(devices == "auto" or is_count(devices), "trainer.devices", devices, "auto, or a number above 0")
        for key in ("limit_train_batches", "limit_val_batches"):
            value = getattr(self, key)
            is_share = isinstance(value, float) and 0 < value <= 1
            require(
                is_share or is_count(value), f"trainer.{key}", value, "a share as 0.5, or a whole number of batches"
            )
        require_positive(self, "trainer", "check_val_every_n_epoch", "log_every_n_steps")


@dataclass
class EvaluateParams:
    """Whole-film evaluation.

    Attributes:
        batch_size: Tiles per prediction step.
        max_detections_per_film: Most detections of a film that count, best first.
        merge_iou: IoU from which two detections of a class on a film are one.
        match_rule: When a detection has found a flaw: ``iou``, ``overlap`` or ``centre`` (see ``matching.py``). COCO's
            measures always go by IoU.
        match_overlap: Least share of area for the first two rules.
        false_calls_per_metre: Most false calls per metre of weld on the validation films: the lowest score threshold
            that keeps to it is applied to the test films.
        fallback_score_threshold: The threshold where none can be chosen: without validation films, or where the pixel
            pitch is unknown.
        size_edges_mm: Lengths of flaws, in mm, between which mean average precision is told apart.
        pod_size: Size of a flaw for the probability of detection: ``length_mm``, ``width_mm``, ``height_mm``,
            ``contrast`` or ``cnr``. What the truth does not know is left out; length and width are then those of the
            box.
        pod_link: ``logit`` or ``probit``.
        cell_mm: Length of the cells of weld that are scored as human inspectors were, in mm.
        bootstrap_samples: Resamples of the films for 95 % intervals.
        seed: Of the resamples, and of the folds.
        folds: Parts of the welds for ``evaluate folds``; each is tested once.
    """

    batch_size: int
    max_detections_per_film: int
    merge_iou: float
    match_rule: str
    match_overlap: float
    false_calls_per_metre: float
    fallback_score_threshold: float
    size_edges_mm: list[float]
    pod_size: str
    pod_link: str
    cell_mm: float
    bootstrap_samples: int
    seed: int
    folds: int

    def __post_init__(self) -> None:
        """Check the values."""
        require_positive(
            self,
            "evaluate",
            "batch_size",
            "max_detections_per_film",
            "match_overlap",
            "false_calls_per_metre",
            "cell_mm",
            "bootstrap_samples",
        )
        require_share(self, "evaluate", "merge_iou", "match_overlap", "fallback_score_threshold")
        require_choice(self, "evaluate", "match_rule", ("iou", "overlap", "centre"))
        require_choice(self, "evaluate", "pod_size", ("length_mm", "width_mm", "height_mm", "contrast", "cnr"))
        require_choice(self, "evaluate", "pod_link", ("logit", "probit"))
        edges = self.size_edges_mm
        is_rising = all(low < high < math.inf for low, high in zip([0.0, *edges], edges, strict=False))
        require(is_rising, "evaluate.size_edges_mm", edges, "rising lengths above 0")
        require_seed(self.seed, "evaluate")
        require(self.folds >= 3, "evaluate.folds", self.folds, "at least 3: to test, to choose the model, to train")


@dataclass
class ReportParams:
    """The report page.

    Attributes:
        title: Heading.
        worst_films: How many films with the most misses and false calls are drawn.
        gallery_items: Most pictures of single misses, false calls and hits.
        acceptance: YAML file with the largest allowed length of each class by quality level; null: nothing is judged.
            DVC does not watch it: once it has changed, ``dvc repro --single-item --force report`` writes the page anew.
    """

    title: str
    worst_films: int
    gallery_items: int
    acceptance: str | None

    def __post_init__(self) -> None:
        """Check the values."""
        require(self.gallery_items >= 0, "report.gallery_items", self.gallery_items, "0 or more")
        require(self.worst_films >= 0, "report.worst_films", self.worst_films, "0 or more")


@dataclass
class Params:
    """All sections of ``configs/params.yaml``."""

    simulate: SimulateParams
    prepare: PrepareParams
    augmentation: AugmentationParams
    model: ModelParams
    train: TrainParams
    trainer: TrainerParams
    evaluate: EvaluateParams
    report: ReportParams


def load_params(overrides: Sequence[str] = ()) -> Params:
    """Read ``configs/params.yaml``.

    Args:
        overrides: Hydra overrides, as ``train.batch_size=8`` or ``experiment=smoke``.

    Raises:
        ParamsError: If a key is unknown, or a value is missing, of the wrong type or impossible.
    """
    from defects_in_welds.params import composition  # Hydra takes longer to import than all else that --help needs

    return composition.compose_params(overrides)

"""How far are simulated films from real ones? A comparison with the films of GDXray (BAM round robin test).

    python -m defects_in_welds simulate --out /tmp/simulated experiment=gdxray
    python benchmarks/simulation_realism.py --real GDXray --simulated /tmp/simulated

Both sides are brought to the same form first: 8 bits (16-bit simulated levels are rounded to the nearest of 256, as by
the 8-bit file of the film's scan) and one pixel pitch, 0.0403 mm. The same functions then measure both:

1. grey levels of plate and weld, their distance and contrast, and how unevenly the weld shines along the film;
2. the noise power spectrum of flat areas;
3. the contrast of the flaws: mean grey level on the flaw's mask minus that of the ring around it;
4. the sizes of the flaws' boxes;
5. how well a small convolutional network tells simulated from real patches of 64 px, and how well a logistic regression
   on a few features does, whose weights say what gives the simulation away. Films that are tested on are not trained
   on; the films of a simulated weld stay together; both sides have the same share, so that 0.5 is chance. Harder to
   pass is the same network when it has seen the other half of each film ("on films seen"): it may learn the films by
   their grain, so that it comes near 1 even for two sets of real films.

Figures go to --out, the numbers also to benchmarks/results.json. No pixel of a real film is written elsewhere.

References:
    Mery et al. 2015, GDXray: The Database of X-ray Images for Nondestructive Testing, Journal of Nondestructive
    Evaluation 34:42. The films: BAM Berlin, Dr. Uwe Zscherpel.
"""

import argparse
import json
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib import pyplot as plt
from numpy.typing import NDArray
from records import record
from scipy.stats import wasserstein_distance
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from defects_in_welds.data.annotation_formats import read_dataset
from defects_in_welds.data.image_reading import read_radiograph

mpl.use("agg")

Grey = NDArray[np.uint8]
Reals = NDArray[np.floating]
Mask = NDArray[np.bool_]

PITCH_MM = 0.0403
PATCH_PX = 64
END_PX = 100
"""Left out at the film's left and right end: cuts, plate ends, the scanner's border."""
SIDE_PX = 16
"""Left out at the upper and lower side."""
PLATE_MM = 6.0
"""How far beside the weld the plate is looked at: farther away lie lead letters."""
BLOCK_PX = 96
"""Side of the areas of which noise spectra are taken."""
FOLDS = 5
PATCHES_PER_FILM = 150
EPOCHS = 10
SCALES_MM = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0)


# --- Films ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Flaw:
    """A marked flaw: its half-open box on the film in pixels, and the flaw's pixels in that box."""

    box_xyxy: tuple[int, int, int, int]
    mask: Mask


@dataclass(frozen=True)
class WeldBand:
    """The straight band that fits the weld best: rows of its edges at column 0, and rows per column."""

    top_px: float
    bottom_px: float
    slope: float

    def rows(self, columns: NDArray[np.int64]) -> tuple[Reals, Reals]:
        """Rows of the upper and lower edge at some columns."""
        return self.top_px + self.slope * columns, self.bottom_px + self.slope * columns


@dataclass(frozen=True)
class Film:
    """A film in 8 bits. Films of one group show one weld."""

    name: str
    group: str
    grey: Grey
    flaws: tuple[Flaw, ...]
    band: WeldBand


def read_real(root: Path) -> list[Film]:
    """The cut films of series W0001 with the masks of W0002, and the whole films of W0003 without flaws marked."""
    films = []
    for listed in read_dataset(root / "W0001", "gdxray").radiographs:
        grey = read_radiograph(listed.image_path).pixels.astype(np.uint8)
        mask = read_radiograph(root / "W0002" / listed.image_path.name.replace("W0001", "W0002")).pixels > 0
        flaws = []
        for annotation in listed.annotations:
            x0, y0, x1, y1 = (round(edge) for edge in annotation.box_xyxy)
            flaws.append(Flaw((x0, y0, x1, y1), mask[y0:y1, x0:x1]))
        films.append(Film(listed.name, listed.name, grey, tuple(flaws), find_weld(grey)))
    for path in sorted((root / "W0003").glob("*.png")):
        grey = read_radiograph(path).pixels.astype(np.uint8)
        films.append(Film(path.name, path.name, grey, (), find_weld(grey)))
    return films


def read_simulated(root: Path) -> list[Film]:
    """Films of ``defects_in_welds simulate``. Flaws too faint to be seen are left out, as on real films."""
    films = []
    masks = {
        (image["file_name"], tuple(entry["bbox"])): entry["segmentation"]
        for content in (json.loads((root / "annotations.json").read_text()),)
        for by_id in ({image["id"]: image for image in content["images"]},)
        for entry in content["annotations"]
        for image in (by_id[entry["image_id"]],)
    }
    names = {Path(file_name).name: file_name for file_name, _ in masks}
    for listed in read_dataset(root, "coco").radiographs:
        film = read_radiograph(listed.image_path, pixel_pitch_mm=listed.pixel_pitch_mm)
        if film.pixel_pitch_mm is None or abs(film.pixel_pitch_mm / PITCH_MM - 1) > 0.01:
            raise SystemExit(f"{film.source}: pixel pitch {film.pixel_pitch_mm} mm; simulate with {PITCH_MM} mm")
        grey = np.rint(film.pixels * (255.0 / (2**film.bit_depth - 1))).astype(np.uint8)
        flaws = []
        for annotation in listed.annotations:
            if not annotation.difficult:
                x0, y0, x1, y1 = (int(edge) for edge in annotation.box_xyxy)
                lengths = masks[names[listed.image_path.name], (x0, y0, x1 - x0, y1 - y0)]
                flaws.append(Flaw((x0, y0, x1, y1), unpack(lengths["counts"], film.image_hw)[y0:y1, x0:x1].copy()))
        films.append(Film(listed.name, listed.weld or listed.name, grey, tuple(flaws), find_weld(grey)))
    return films


def unpack(counts: Sequence[int], image_hw: tuple[int, int]) -> Mask:
    """Decode COCO's run lengths, which go down the columns and start outside the mask."""
    values = np.arange(len(counts)) % 2 == 1
    return np.repeat(values, counts).reshape(image_hw[1], image_hw[0]).T


def find_weld(grey: Grey) -> WeldBand:
    """Fit a straight band, 6 to 30 mm wide, to the weld.

    The level across the film is the median of 10 mm of columns, one after the other, so that letters and flaws hardly
    count. An edge's step is the difference of the means of strips of 2 mm on its two sides. The band is the one at
    whose edges the level rises and falls the most: the smaller of the two steps counts, under a square root, so that no
    part of the film outweighs the others, summed along the film.
    """
    cell = 8
    strip, least, most, chunk = (round(mm / (cell * PITCH_MM)) for mm in (2.0, 6.0, 30.0, 10.0))
    height, width = (side // cell for side in grey.shape)
    small = grey[: height * cell, : width * cell].reshape(height, cell, width, cell).mean(axis=(1, 3))
    chunks = width // chunk
    profiles = np.median(small[:, : chunks * chunk].reshape(height, chunks, chunk), axis=2)
    total = np.pad(np.cumsum(profiles, axis=0), ((1, 0), (0, 0)))
    steps = np.zeros((height + 1, chunks))  # of the edge above each row; 0 where a strip would leave the film
    middle = slice(strip, height - strip + 1)
    steps[middle] = (total[2 * strip :] - 2 * total[strip:-strip] + total[: -2 * strip]) / strip
    best, band = -np.inf, WeldBand(0.0, float(grey.shape[0]), 0.0)
    columns = (np.arange(chunks) + 0.5) * chunk
    for slope in np.arange(-0.06, 0.0601, 0.005):
        rows = np.rint(np.arange(height + 1)[:, None] + slope * (columns - width / 2)[None, :]).astype(int)
        along = np.where(
            (rows >= 0) & (rows <= height), steps[np.clip(rows, 0, height), np.arange(chunks)[None, :]], 0.0
        )
        for side in range(least, min(most, height) + 1):
            weaker = np.minimum(along[:-side], -along[side:])
            scores = np.sum(np.sign(weaker) * np.sqrt(np.abs(weaker)), axis=1)
            top = int(np.argmax(scores))
            if scores[top] > best:
                first = (top - slope * width / 2) * cell
                best, band = scores[top], WeldBand(float(first), float(first + side * cell), float(slope))
    return band


def areas(film: Film) -> tuple[Mask, Mask]:
    """The pixels of the weld and of the plate beside it, 1 mm away from the weld's edges and away from the film's."""
    height, width = film.grey.shape
    guard, reach = 1.0 / PITCH_MM, PLATE_MM / PITCH_MM
    top, bottom = film.band.rows(np.arange(width)[None, :])
    row = np.arange(height)[:, None]
    inner = np.zeros((height, width), dtype=np.bool_)
    inner[SIDE_PX : height - SIDE_PX, END_PX : width - END_PX] = True
    weld = inner & (row > top + guard) & (row < bottom - guard)
    plate = inner & (((row < top - guard) & (row > top - reach)) | ((row > bottom + guard) & (row < bottom + reach)))
    return weld, plate


# --- Measures -------------------------------------------------------------------------------------------------------


def grey_levels(films: Sequence[Film]) -> dict[str, Reals]:
    """Histograms of weld and plate, each film counting the same, and per film their medians and unevenness."""
    histograms: dict[str, list[Reals]] = {"weld": [], "plate": []}
    medians: dict[str, list[float]] = {"weld": [], "plate": []}
    uneven = []
    for film in films:
        for name, area in zip(("weld", "plate"), areas(film), strict=True):
            levels = film.grey[area]
            counts = np.bincount(levels, minlength=256) / max(1, levels.size)
            histograms[name].append(counts)
            medians[name].append(float(np.searchsorted(np.cumsum(counts), 0.5)))
        uneven.append(unevenness(film))
    weld, plate = np.array(medians["weld"]), np.array(medians["plate"])
    return {
        "weld histogram": np.mean(histograms["weld"], axis=0),
        "plate histogram": np.mean(histograms["plate"], axis=0),
        "weld level": weld,
        "plate level": plate,
        "weld - plate": weld - plate,
        "unevenness": np.array(uneven),
    }


def unevenness(film: Film) -> Reals:
    """Standard deviation of the weld's middle line along the film, by octave of length (`SCALES_MM`), in grey levels.

    The line is the mean of 3 mm of rows; an octave is the difference of its running means over one and two lengths.
    """
    half = int(1.5 / PITCH_MM)
    columns = np.arange(END_PX, film.grey.shape[1] - END_PX)
    top, bottom = film.band.rows(columns)
    rows = np.rint((top + bottom) / 2).astype(int)[None, :] + np.arange(-half, half)[:, None]
    line = film.grey[np.clip(rows, 0, film.grey.shape[0] - 1), columns[None, :]].mean(axis=0)
    total = np.concatenate([[0.0], np.cumsum(line)])
    stds = []
    for scale_mm in SCALES_MM:
        short, long = (round(mm / PITCH_MM) for mm in (scale_mm, 2 * scale_mm))
        means = [(total[side:] - total[:-side]) / side for side in (short, long)]
        trimmed = means[0][(long - short) // 2 :][: len(means[1])]
        stds.append(float(np.std(trimmed - means[1])))
    return np.array(stds)


def noise_spectra(films: Sequence[Film]) -> tuple[Reals, dict[str, Reals]]:
    """Radial noise power spectra of flat areas, in grey levels squared times mm squared, each film's median area.

    Blocks of weld or plate without a marked flaw; a polynomial of third degree in both directions is taken off each,
    and the half of a film's blocks with the least remaining variance are taken as flat.

    Returns:
        Frequencies, in 1/mm, and per film the spectra (``weld``, ``plate``) and the standard deviation ``std``.
    """
    edges = np.geomspace(0.8, 0.5 / PITCH_MM, 19)
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(BLOCK_PX, PITCH_MM)] * 2))
    ring = np.digitize(frequency, edges)
    window = np.outer(*[np.hanning(BLOCK_PX)] * 2)
    scale = PITCH_MM**2 / np.sum(window**2)
    spectra: dict[str, list[Reals]] = {"weld": [], "plate": [], "std": []}
    for film in films:
        stds = []
        for name, area in zip(("weld", "plate"), areas(film), strict=True):
            residuals = sorted(flat_blocks(film, area), key=lambda block: float(block.std()))
            flat = residuals[: max(1, len(residuals) // 2)]
            powers = []
            for block in flat:
                power = scale * np.abs(np.fft.fft2(block * window)) ** 2
                powers.append([power[ring == number].mean() for number in range(1, len(edges))])
            if powers:
                spectra[name].append(np.median(powers, axis=0))
                stds.append(float(np.median([block.std() for block in flat])))
        if stds:
            spectra["std"].append(np.array(np.mean(stds)))
    return np.sqrt(edges[1:] * edges[:-1]), {name: np.array(values) for name, values in spectra.items()}


def flat_blocks(film: Film, area: Mask) -> list[Reals]:
    """What is left of each block, wholly in an area and without flaw, after the slow change is taken off."""
    free = area.copy()
    for flaw in film.flaws:
        x0, y0, x1, y1 = flaw.box_xyxy
        free[max(0, y0 - 5) : y1 + 5, max(0, x0 - 5) : x1 + 5] = False
    t = np.linspace(-1, 1, BLOCK_PX)
    terms = [np.outer(t**i, t**j).ravel() for i in range(4) for j in range(4 - i)]
    basis = np.linalg.qr(np.stack(terms, axis=1))[0]
    inside = np.pad(np.cumsum(np.cumsum(free, axis=0), axis=1), ((1, 0), (1, 0)))
    blocks: list[Reals] = []
    for x in range(END_PX, film.grey.shape[1] - END_PX - BLOCK_PX, BLOCK_PX):
        y = 0
        while y + BLOCK_PX <= film.grey.shape[0]:
            count = (
                inside[y + BLOCK_PX, x + BLOCK_PX] - inside[y, x + BLOCK_PX] - inside[y + BLOCK_PX, x] + inside[y, x]
            )
            if count >= 0.98 * BLOCK_PX**2:  # the band's rounded edge may cut a corner
                block = film.grey[y : y + BLOCK_PX, x : x + BLOCK_PX].astype(np.float64).ravel()
                blocks.append((block - basis @ (basis.T @ block)).reshape(BLOCK_PX, BLOCK_PX))
                y += BLOCK_PX
            else:
                y += 8
    return blocks


def flaw_contrasts(films: Sequence[Film]) -> Reals:
    """Mean grey level on each flaw minus that of a ring around its box, in which no other flaw counts."""
    contrasts = []
    for film in films:
        marked = np.zeros(film.grey.shape, dtype=np.bool_)
        for flaw in film.flaws:
            x0, y0, x1, y1 = flaw.box_xyxy
            marked[y0:y1, x0:x1] |= flaw.mask
        for flaw in film.flaws:
            x0, y0, x1, y1 = flaw.box_xyxy
            around = slice(max(0, y0 - 6), y1 + 6), slice(max(0, x0 - 6), x1 + 6)
            ring = ~marked[around]
            if ring.any() and flaw.mask.any():
                inside = film.grey[y0:y1, x0:x1][flaw.mask].mean()
                contrasts.append(float(inside - film.grey[around][ring].mean()))
    return np.array(contrasts)


def box_sizes_mm(films: Sequence[Film]) -> Reals:
    """Length along the film and width across it of each flaw's box, in mm."""
    boxes = np.array([flaw.box_xyxy for film in films for flaw in film.flaws], dtype=np.float64).reshape(-1, 4)
    return (boxes[:, 2:] - boxes[:, :2]) * PITCH_MM


# --- Telling real from simulated ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Patches:
    """Patches with the side they are of (1: simulated), the fold of their film, and their half of it (0: left)."""

    grey: NDArray[np.uint8]
    simulated: NDArray[np.int64]
    fold: NDArray[np.int64]
    half: NDArray[np.int64]


def draw_patches(films: Sequence[Film], per_side: int, is_simulated: bool, seed: int) -> Patches:
    """Draw as many patches of each film: half with their middle in the weld, half in the plate close to it."""
    groups = sorted({film.group for film in films})
    rng = np.random.default_rng(seed)
    grey, folds, halves = [], [], []
    in_fold = [sum(groups.index(film.group) % FOLDS == fold for film in films) for fold in range(FOLDS)]
    for film in films:
        fold = groups.index(film.group) % FOLDS
        count = per_side // FOLDS // in_fold[fold]
        for number in range(count):
            x, y = place_patch(film, number % 2 == 0, rng)
            grey.append(film.grey[y : y + PATCH_PX, x : x + PATCH_PX])
            folds.append(fold)
            halves.append(int(x + PATCH_PX / 2 > film.grey.shape[1] / 2))
    return Patches(np.stack(grey), np.full(len(folds), int(is_simulated)), np.array(folds), np.array(halves))


def place_patch(film: Film, in_weld: bool, rng: np.random.Generator) -> tuple[int, int]:
    """Find a random place, the left and top pixel, of a patch with its middle in the weld or in the plate."""
    height, width = film.grey.shape
    half = PATCH_PX // 2
    lowest, highest = SIDE_PX + half, height - SIDE_PX - half
    while True:
        x = int(rng.integers(END_PX + half, width - END_PX - half))
        top, bottom = film.band.rows(np.array(x))
        y = rng.uniform(top - PLATE_MM / PITCH_MM, bottom + PLATE_MM / PITCH_MM)
        if lowest <= y <= highest and (top <= y <= bottom) == in_weld:
            return x - half, int(y) - half


def join(one: Patches, other: Patches) -> Patches:
    """Put the patches of two sides together."""
    return Patches(
        np.concatenate([one.grey, other.grey]),
        np.concatenate([one.simulated, other.simulated]),
        np.concatenate([one.fold, other.fold]),
        np.concatenate([one.half, other.half]),
    )


class Network(nn.Module):
    """Four convolutions, each halving the patch, and the mean over what is left.

    Grey levels go in as they are. Beside them the network is given their difference from the mean of 5x5 pixels, in
    steps of 4 levels: noise of one or two levels is lost at first among levels that differ by a hundred, and a network
    that has to find the difference itself is a much weaker test.
    """

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 2
        for more, kernel in ((24, 5), (48, 3), (64, 3), (64, 3)):
            layers += [nn.Conv2d(channels, more, kernel, stride=2, padding=kernel // 2, bias=False)]
            layers += [nn.BatchNorm2d(more), nn.ReLU()]
            channels = more
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 1))

    def forward(self, grey: torch.Tensor) -> torch.Tensor:
        rest = grey - nn.functional.avg_pool2d(grey, 5, stride=1, padding=2, count_include_pad=False)
        score: torch.Tensor = self.layers(torch.cat([grey / 64.0 - 2.0, rest / 4.0], dim=1))
        return score


def network_scores(patches: Patches, folds: NDArray[np.int64], seed: int) -> Reals:
    """Score each patch by a network that was trained on the other folds; above 0 it takes it for simulated."""
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)  # the order of sums, and so the result, would follow the number of threads
    images = torch.from_numpy(patches.grey).unsqueeze(1).float()
    targets = torch.from_numpy(patches.simulated).float()
    scores = np.zeros(len(targets))
    for fold in np.unique(folds):
        train = torch.from_numpy(np.flatnonzero(folds != fold))
        test = np.flatnonzero(folds == fold)
        model = Network()
        fit(model, images[train], targets[train])
        model.eval()
        with torch.no_grad():
            scores[test] = model(images[torch.from_numpy(test)]).squeeze(1).double().numpy()
    return scores


def fit(model: nn.Module, images: torch.Tensor, targets: torch.Tensor, batch: int = 64) -> None:
    """Train with patches turned over at random."""
    steps = EPOCHS * (len(images) // batch)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=4e-3, total_steps=steps)
    model.train()
    for _ in range(EPOCHS):
        order = torch.randperm(len(images))
        for start in range(0, len(images) - batch + 1, batch):
            chosen = order[start : start + batch]
            inputs = images[chosen]
            for axis in (2, 3):
                flipped = torch.rand(batch) < 0.5
                inputs = torch.where(flipped[:, None, None, None], inputs.flip(axis), inputs)
            loss = nn.functional.binary_cross_entropy_with_logits(model(inputs).squeeze(1), targets[chosen])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()


FEATURE_BANDS = (0.3, 0.8, 1.6, 3.1, 6.2, 12.4)
"""Edges of the octaves of the patches' spectra, in 1/mm."""


def features(grey: NDArray[np.uint8]) -> dict[str, Reals]:
    """What a person would measure on a patch; powers and deviations as logarithms."""
    level = grey.astype(np.float64)
    along, across = np.diff(level, axis=2), np.diff(level, axis=1)
    window = np.outer(*[np.hanning(PATCH_PX)] * 2)
    flat = level - level.mean(axis=(1, 2), keepdims=True)
    power = np.abs(np.fft.fft2(flat * window)) ** 2
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(PATCH_PX, PITCH_MM)] * 2))
    values = {
        "mean": level.mean(axis=(1, 2)),
        "log std": np.log(level.std(axis=(1, 2)) + 0.1),
        "log gradient along": np.log(along.std(axis=(1, 2)) + 0.1),
        "log gradient across": np.log(across.std(axis=(1, 2)) + 0.1),
    }
    for low, high in pairwise(FEATURE_BANDS):
        inside = (frequency >= low) & (frequency < high)
        values[f"log power {low:g}-{high:g}/mm"] = np.log(power[:, inside].mean(axis=1) + 1e-3)
    return values


def regression_scores(patches: Patches) -> tuple[Reals, dict[str, float]]:
    """Score each patch by a logistic regression on features, trained on the other folds; and its mean weights."""
    named = features(patches.grey)
    table = np.stack(list(named.values()), axis=1)
    scores, weights = np.zeros(len(table)), []
    for fold in range(FOLDS):
        train = patches.fold != fold
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=1000))
        model.fit(table[train], patches.simulated[train])
        scores[~train] = model.decision_function(table[~train])
        weights.append(model[-1].coef_[0])
    return scores, dict(zip(named, np.mean(weights, axis=0).tolist(), strict=True))


def accuracy(scores: Reals, patches: Patches) -> float:
    """Mean of the shares of real and of simulated patches that are recognised."""
    right = (scores > 0) == (patches.simulated == 1)
    return float(np.mean([right[patches.simulated == side].mean() for side in (0, 1)]))


def quality(scores: Reals, patches: Patches) -> tuple[float, float]:
    """Accuracy and area under the ROC curve."""
    return accuracy(scores, patches), float(roc_auc_score(patches.simulated, scores))


# --- Table, figures, record -----------------------------------------------------------------------------------------


def spread(values: Reals) -> str:
    """Median and the range from the 10th to the 90th percentile."""
    if values.size == 0:
        return "none"
    low, middle, high = np.percentile(values, [10, 50, 90])
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def compare(real: Sequence[Film], simulated: Sequence[Film], seeds: int, out: Path) -> dict[str, object]:
    """Measure both sides, print the table, draw the figures."""
    sides = (real, simulated)
    levels = [grey_levels(side) for side in sides]
    frequencies, spectra = noise_spectra(real)[0], [noise_spectra(side)[1] for side in sides]
    contrasts, sizes = [flaw_contrasts(side) for side in sides], [box_sizes_mm(side) for side in sides]
    rows: list[tuple[str, ...]] = [("films", str(len(real)), str(len(simulated)))]
    rows += [(f"{key}, grey levels", *(spread(side[key]) for side in levels)) for key in ("weld level", "plate level")]
    rows += [("weld - plate, grey levels", *(spread(side["weld - plate"]) for side in levels))]
    for number, scale in enumerate(SCALES_MM):
        rows += [(f"unevenness at {scale:g} mm", *(spread(side["unevenness"][:, number]) for side in levels))]
    rows += [("noise std, grey levels", *(spread(side["std"]) for side in spectra))]
    rows += [("flaw contrast, grey levels", *(spread(side) for side in contrasts))]
    rows += [
        (f"box {name}, mm", *(spread(side[:, axis]) for side in sizes)) for axis, name in enumerate(("length", "width"))
    ]
    rows += [("box length / width", *(spread(side[:, 0] / side[:, 1]) for side in sizes))]
    rows += [("flaws per film with any", *(spread(flaws_per_film(side)) for side in sides))]
    wasserstein = {
        name: float(
            wasserstein_distance(np.arange(256), np.arange(256), *(side[f"{name} histogram"] for side in levels))
        )
        for name in ("weld", "plate")
    }

    per_side = PATCHES_PER_FILM * len(real)
    drawn = [
        join(draw_patches(real, per_side, False, seed), draw_patches(simulated, per_side, True, seed))
        for seed in range(seeds)
    ]
    folds = [*((patches, patches.fold, seed) for seed, patches in enumerate(drawn)), (drawn[0], drawn[0].half, 0)]
    with multiprocessing.get_context("spawn").Pool(min(len(folds), os.cpu_count() or 1)) as pool:
        *network, seen = pool.starmap(network_scores, folds, chunksize=1)
    regression = [regression_scores(patches) for patches in drawn]
    weights = regression[-1][1]

    print(f"\n{'':28}{'real':>26}{'simulated':>26}")
    for name, *values in rows:
        print(f"{name:28}{values[0]:>26}{values[1]:>26}")
    print(f"\nWasserstein distance, grey levels: weld {wasserstein['weld']:.1f}, plate {wasserstein['plate']:.1f}")
    result: dict[str, object] = {"table": {name: values for name, *values in rows}, "wasserstein_grey": wasserstein}
    for name, scores_by_seed in (
        ("network", network),
        ("network_on_films_seen", [seen]),
        ("regression", [scores for scores, _ in regression]),
    ):
        table = np.array([quality(scores, patches) for scores, patches in zip(scores_by_seed, drawn, strict=False)])
        mean, std = table.mean(axis=0), table.std(axis=0)
        print(f"{name}: accuracy {mean[0]:.3f} (std of {len(table)} seeds {std[0]:.3f}), area under ROC {mean[1]:.3f}")
        result[f"{name}_accuracy"] = [round(float(value), 4) for value in table[:, 0]]
        result[f"{name}_roc_auc"] = [round(float(value), 4) for value in table[:, 1]]
    print("regression's weights, per standard deviation (above 0 speaks for simulated):")
    for name, weight in sorted(weights.items(), key=lambda item: -abs(item[1])):
        print(f"  {name:28}{weight:+.2f}")
    result["regression_weights"] = {name: round(weight, 3) for name, weight in weights.items()}
    print("recognised share by film (seed 0):")
    print_by_film(real, simulated, drawn[0], network[0])

    out.mkdir(parents=True, exist_ok=True)
    draw_curves(out / "curves.png", levels, frequencies, spectra, sizes, contrasts)
    draw_films(out / "films.png", sides)
    draw_patch_sheet(out / "patches.png", drawn[0], network[0])
    return result


def flaws_per_film(films: Sequence[Film]) -> Reals:
    """Numbers of flaws of the films that have any."""
    return np.array([len(film.flaws) for film in films if film.flaws], dtype=np.float64)


def print_by_film(real: Sequence[Film], simulated: Sequence[Film], patches: Patches, scores: Reals) -> None:
    """Print which films were recognised for what they are."""
    right = (scores > 0) == (patches.simulated == 1)
    start = 0
    for films in (real, simulated):
        groups = sorted({film.group for film in films})
        in_fold = [sum(groups.index(film.group) % FOLDS == fold for film in films) for fold in range(FOLDS)]
        for film in films:
            count = PATCHES_PER_FILM * len(real) // FOLDS // in_fold[groups.index(film.group) % FOLDS]
            print(f"  {film.name:24}{right[start : start + count].mean():.2f}")
            start += count


def draw_curves(
    path: Path,
    levels: Sequence[dict[str, Reals]],
    frequencies: Reals,
    spectra: Sequence[dict[str, Reals]],
    sizes: Sequence[Reals],
    contrasts: Sequence[Reals],
) -> None:
    """Draw histograms, spectra and flaws; orange is simulated."""
    figure, axes = plt.subplots(2, 4, figsize=(22, 10))
    for side, (colour, label) in enumerate((("tab:blue", "real"), ("tab:orange", "simulated"))):
        for axis, area in zip(axes[0, :2], ("weld", "plate"), strict=True):
            axis.plot(levels[side][f"{area} histogram"], color=colour, label=label)
            axis.set(title=f"{area}: grey levels, all films", xlabel="grey level")
        for axis, area in zip(axes[0, 2:], ("weld", "plate"), strict=True):
            for spectrum in spectra[side][area]:
                axis.loglog(frequencies, spectrum, color=colour, alpha=0.5)
            axis.set(title=f"{area}: noise power", xlabel="1/mm", ylabel="grey levels² mm²")
        for film in levels[side]["unevenness"]:
            axes[1, 0].loglog(SCALES_MM, film + 1e-2, color=colour, alpha=0.5)
        axes[1, 0].set(title="unevenness along the weld", xlabel="mm", ylabel="grey levels")
        if len(sizes[side]):
            axes[1, 1].loglog(*sizes[side].T, ".", color=colour, alpha=0.5, label=label)
            axes[1, 2].hist(contrasts[side], np.arange(-100, 41, 4), density=True, color=colour, alpha=0.5)
        axes[1, 3].plot(levels[side]["plate level"], levels[side]["weld level"], "o", color=colour, label=label)
    axes[1, 1].set(title="flaws' boxes", xlabel="length, mm", ylabel="width, mm")
    axes[1, 2].set(title="flaws' contrast", xlabel="grey levels")
    axes[1, 3].set(title="medians of the films", xlabel="plate", ylabel="weld")
    axes[0, 0].legend()
    figure.tight_layout()
    figure.savefig(path, dpi=80)
    plt.close(figure)


def draw_films(path: Path, sides: Sequence[Sequence[Film]]) -> None:
    """Draw up to ten films of each side, the weld band's edges in red."""
    count = min(10, max(map(len, sides)))
    figure, axes = plt.subplots(count, 2, figsize=(22, 2.9 * count), squeeze=False)
    for column, films in zip(axes.T, sides, strict=True):
        for axis, film in zip(column, films, strict=False):
            axis.imshow(film.grey[::4, ::4], cmap="gray", vmin=0, vmax=255)
            ends = np.array([0, film.grey.shape[1]])
            for edge in (0, 1):
                axis.plot(ends / 4, film.band.rows(ends)[edge] / 4, "r", linewidth=0.5)
            axis.set_title(film.name, fontsize=8)
        for axis in column:
            axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=70)
    plt.close(figure)


def draw_patch_sheet(path: Path, patches: Patches, scores: Reals) -> None:
    """Draw patches of both sides, each stretched to its own range: at random, and those told best and worst."""
    rng = np.random.default_rng(0)
    figure, axes = plt.subplots(8, 16, figsize=(22, 11.5))
    for side, name in enumerate(("real", "simulated")):
        own = rng.permutation(np.flatnonzero(patches.simulated == side))
        ranked = own[np.argsort(scores[own] if side == 0 else -scores[own], kind="stable")]
        sheets = (("at random", own[:32]), ("told best", ranked[:16]), ("taken for the other", ranked[-16:]))
        cells = iter(axes[4 * side : 4 * side + 4].ravel())
        for title, chosen in sheets:
            for number, patch in enumerate(chosen):
                axis = next(cells)
                axis.imshow(patches.grey[patch], cmap="gray")
                axis.set_title(f"{name}, {title}" if number == 0 else "", fontsize=8, loc="left")
                axis.axis("off")
    figure.tight_layout()
    figure.savefig(path, dpi=75)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--real", type=Path, required=True, help="folder with W0001, W0002 and W0003 of GDXray")
    parser.add_argument("--simulated", type=Path, required=True, help="folder that `simulate` wrote")
    parser.add_argument("--out", type=Path, default=Path("artifacts/simulation_realism"), help="folder for the figures")
    parser.add_argument("--seeds", type=int, default=3, help="number of repetitions with other patches and networks")
    parser.add_argument("--no-record", action="store_true", help="leave benchmarks/results.json as it is")
    options = parser.parse_args()
    result = compare(read_real(options.real), read_simulated(options.simulated), options.seeds, options.out)
    if not options.no_record:
        record("simulation_realism", result)


if __name__ == "__main__":
    main()

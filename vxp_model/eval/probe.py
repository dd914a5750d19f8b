"""`vxp-model probe`: SigLIP's tokens, and each compressor's, under a two-layer classifier.

Source: the paper's Table 4, frozen features and a two-layer MLP, top-1.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from vxp_model.data.frames import BrokenSampleError, FrameOptions, UniformReader
from vxp_model.errors import UserError, require
from vxp_model.eval.labelled_media import LabelledMedia, draw_per_class, find_media, split_media
from vxp_model.eval.mlp_probe import probe_accuracy
from vxp_model.eval.probe_features import Rebuilt, add_rebuilt, average, compressed
from vxp_model.models.artefacts import load_recot
from vxp_model.models.presets import recot_preset
from vxp_model.models.recot import ReCoTModel
from vxp_model.models.siglip import load_tower, random_tower
from vxp_model.modules.grid import GridResampler
from vxp_model.modules.siglip import SiglipVisionTower, normalise_frames
from vxp_model.settings.probe import LabelledSettings, ProbeRecipe

Say = Callable[[str], None]
_TOWER = "SigLIP"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeRow:
    """One kind of features."""

    features: str
    """'SigLIP', or a model's folder."""
    temporal_factor: int
    """Frames that became one; 1 for the tower."""
    tokens: int
    """Of a media."""
    accuracy: list[float]
    """Top-1 on the test media, for each seed."""
    mse: float | None
    """Of hidden tokens, rebuilt under the fixed random mask; None for the tower."""
    cosine: float | None

    @property
    def mean_accuracy(self) -> float:
        """Over the seeds."""
        return statistics.fmean(self.accuracy)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeResult:
    """What a probe gave."""

    rows: list[ProbeRow]
    classes: list[str]
    num_train: int
    num_test: int
    broken: list[str]
    """Media that could not be used, and why: left out."""


@dataclass(slots=True)
class _Seen:
    """What was computed of a list of media."""

    labels: list[str] = field(default_factory=list)
    features: dict[str, list[Tensor]] = field(default_factory=dict)
    tokens: dict[str, int] = field(default_factory=dict)


def run_probe(recipe: ProbeRecipe, say: Say) -> ProbeResult:
    """Probe the tower and every model of a recipe, and write probe.json.

    Args:
        recipe: the settings.
        say: prints a line.

    Raises:
        UserError: media, weights or models are missing, or do not go together.
    """
    train, test = _media(recipe.data, recipe.seed)
    classes = sorted({one.label for one in train})
    if unknown := sorted({one.label for one in test} - set(classes)):
        raise UserError(f"classes {', '.join(unknown)} of the test media have none to train on.")
    require(len(classes) >= 2, f"a probe needs two classes or more, got {classes}.")
    device = _device(recipe.device)
    models = {name: load_recot(name).eval().to(device) for name in recipe.models}
    features = _Features(recipe, models, device)
    say(f"{len(train)} media to train on, {len(test)} to test, {len(classes)} classes")
    try:
        seen_train, seen_test = features.of(train, None), features.of(test, features.rebuilt)
    finally:
        features.close()
    for line in features.broken:
        say(f"left out: {line}")
    if not seen_train.labels or not seen_test.labels:
        raise UserError(f"no media could be used, for example {features.broken[0]}.")
    rows = [
        _row(name, recipe, features, classes, seen_train, seen_test) for name in [_TOWER, *models]
    ]
    result = ProbeResult(
        rows=rows,
        classes=classes,
        num_train=len(seen_train.labels),
        num_test=len(seen_test.labels),
        broken=features.broken,
    )
    _write(result, recipe)
    return result


def describe(result: ProbeResult) -> str:
    """Return the result as a table."""
    chance = 1 / len(result.classes)
    lines = [f"{'features':<40} {'frames':>6} {'tokens':>6} {'top-1':>14} {'mse':>9} {'cosine':>7}"]
    for row in result.rows:
        spread = statistics.pstdev(row.accuracy)
        rebuilt = "" if row.mse is None else f"{row.mse:9.4f} {row.cosine:7.4f}"
        lines.append(
            f"{row.features[-40:]:<40} {row.temporal_factor:>4}:1 {row.tokens:>6} "
            f"{row.mean_accuracy:7.2%} ±{spread:5.2%} {rebuilt}".rstrip()
        )
    lines.append(
        f"{result.num_train} media to train on, {result.num_test} to test, "
        f"{len(result.classes)} classes: {chance:.2%} by chance"
    )
    return "\n".join(lines)


class _Features:
    """Media to vectors, by the tower and each model.

    Attributes:
        broken: media that could not be used.
        rebuilt: how well each model rebuilt hidden tokens.
    """

    def __init__(
        self, recipe: ProbeRecipe, models: dict[str, ReCoTModel], device: torch.device
    ) -> None:
        config = recot_preset(recipe.preset)
        for name, model in models.items():
            require(
                (model.config.vision, model.config.grid) == (config.vision, config.grid),
                f"{name!r} was trained for another tower than that of preset {recipe.preset!r}.",
            )
        self.broken: list[str] = []
        self.rebuilt = {name: Rebuilt() for name in models}
        self._recipe, self._models, self._device = recipe, models, device
        self._tower = _tower(recipe, device)
        self._resampler = GridResampler(config.grid)
        self._reader = UniformReader(FrameOptions(frame_px=config.vision.image_px))

    def factor(self, name: str) -> int:
        """Return a model's temporal factor."""
        return self._models[name].config.dts.temporal_factor

    def close(self) -> None:
        """Stop the decoding process."""
        self._reader.close()

    def of(self, media: Sequence[LabelledMedia], rebuilt: dict[str, Rebuilt] | None) -> _Seen:
        """Compute the features of media, some at once; with `rebuilt`, add to it as well."""
        seen = _Seen()
        for is_image in (True, False):
            own = [one for one in media if one.is_image == is_image]
            for labels, names, frames_BTHWC in self._batches(own, is_image):
                self._add(seen, names, frames_BTHWC, is_image, rebuilt)
                seen.labels += labels
        return seen

    def _batches(
        self, media: Sequence[LabelledMedia], is_image: bool
    ) -> Iterator[tuple[list[str], list[str], Tensor]]:
        labels: list[str] = []
        names: list[str] = []
        frames: list[Tensor] = []
        for one in media:
            try:
                frames.append(self._frames(one, is_image))
            except (BrokenSampleError, OSError) as error:
                self.broken.append(f"{one.name}: {error}")
                continue
            labels.append(one.label)
            names.append(one.name)
            if len(names) == self._recipe.batch_media:
                yield labels, names, torch.stack(frames)
                labels, names, frames = [], [], []
        if names:
            yield labels, names, torch.stack(frames)

    def _frames(self, one: LabelledMedia, is_image: bool) -> Tensor:
        wanted = 1 if is_image else self._recipe.data.num_frames
        frames_THWC = self._reader.read(one.name, one.read(), is_image=is_image, num_frames=wanted)
        last = np.arange(wanted).clip(max=len(frames_THWC) - 1)
        return torch.from_numpy(frames_THWC[last])

    @torch.no_grad()
    def _add(
        self,
        seen: _Seen,
        names: list[str],
        frames_BTHWC: Tensor,
        is_image: bool,
        rebuilt: dict[str, Rebuilt] | None,
    ) -> None:
        recipe = self._recipe
        frames_FHWC = frames_BTHWC.flatten(0, 1).to(self._device)
        tokens_FCHW: Tensor = self._resampler(self._tower(normalise_frames(frames_FHWC)))
        frames_BTCHW = tokens_FCHW.reshape(*frames_BTHWC.shape[:2], *tokens_FCHW.shape[1:])
        views = {_TOWER: frames_BTCHW}
        for name, model in self._models.items():
            views[name] = compressed(model, frames_BTCHW, is_image=is_image)
            if rebuilt is not None:
                add_rebuilt(
                    rebuilt[name], model, frames_BTCHW, names, is_image=is_image,
                    mask_ratio=recipe.mask_ratio, seed=recipe.seed,
                )  # fmt: skip
        for name, tokens_BTCHW in views.items():
            vectors_BD = average(tokens_BTCHW, cells=recipe.cells, over_time=recipe.over_time)
            seen.features.setdefault(name, []).append(vectors_BD)
            seen.tokens[name] = tokens_BTCHW[0, :, 0].numel()


def _media(data: LabelledSettings, seed: int) -> tuple[list[LabelledMedia], list[LabelledMedia]]:
    columns: dict[str, Any] = {
        "media_column": data.media_column, "label_column": data.label_column,
    }  # fmt: skip
    train = find_media(data.train, **columns)
    test = None if data.test is None else find_media(data.test, **columns)
    every = [*train, *(test or [])]
    require(
        data.num_frames == 1 or len({one.is_image for one in every}) == 1,
        "the media are images and videos: probe them one after the other.",
    )
    if data.max_per_class is not None:
        train = draw_per_class(train, most=data.max_per_class, seed=seed)
        test = test and draw_per_class(test, most=data.max_per_class, seed=seed)
    if test is None:
        return split_media(train, test_share=data.test_share, seed=seed)
    return train, test


def _tower(recipe: ProbeRecipe, device: torch.device) -> SiglipVisionTower:
    vision, tower = recot_preset(recipe.preset).vision, recipe.tower
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    built = (
        random_tower(vision, seed=recipe.seed, dtype=dtype, chunk_frames=tower.chunk_frames)
        if tower.init == "random"
        else load_tower(
            vision,
            source=tower.source,
            revision=tower.revision,
            dtype=dtype,
            chunk_frames=tower.chunk_frames,
        )
    )
    return built.to(device)


def _device(wanted: str) -> torch.device:
    on_cuda = torch.cuda.is_available() if wanted == "auto" else wanted == "cuda"
    require(
        not on_cuda or torch.cuda.is_available(),
        "device is cuda, and torch sees no CUDA device. Set device=auto.",
    )
    return torch.device("cuda" if on_cuda else "cpu")


def _row(
    name: str,
    recipe: ProbeRecipe,
    features: _Features,
    classes: list[str],
    train: _Seen,
    test: _Seen,
) -> ProbeRow:
    index = {label: number for number, label in enumerate(classes)}
    train_ND, test_ND = (torch.cat(seen.features[name]) for seen in (train, test))
    labels = [
        torch.tensor([index[label] for label in seen.labels], device=train_ND.device)
        for seen in (train, test)
    ]
    accuracy = [
        probe_accuracy(
            train_ND, labels[0], test_ND, labels[1],
            num_classes=len(classes), seed=seed, **recipe.mlp.model_dump(),
        )
        for seed in recipe.seeds
    ]  # fmt: skip
    rebuilt = features.rebuilt.get(name)
    return ProbeRow(
        features=name,
        temporal_factor=1 if rebuilt is None else features.factor(name),
        tokens=train.tokens[name],
        accuracy=accuracy,
        mse=None if rebuilt is None else rebuilt.mse,
        cosine=None if rebuilt is None else rebuilt.mean_cosine,
    )


def _write(result: ProbeResult, recipe: ProbeRecipe) -> None:
    out = Path(recipe.out)
    out.mkdir(parents=True, exist_ok=True)
    content = {"settings": recipe.model_dump(mode="json"), **asdict(result)}
    beside = out / ".probe.json.part"
    beside.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    beside.replace(out / "probe.json")

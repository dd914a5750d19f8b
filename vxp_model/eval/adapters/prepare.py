"""From settings to a model that can be asked; it is loaded when it is first needed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from vxp_model.errors import UserError
from vxp_model.eval.adapters.base import EvalModel
from vxp_model.settings.eval import EvalRecipe, FrameSettings

if TYPE_CHECKING:  # both bring torch: a file of answers needs neither
    from vxp_model.eval.adapters.ours import OurSettings
    from vxp_model.inference.placement import Placement

TRANSFORMERS: Final = "transformers:"
ANSWERS: Final = "answers:"


@dataclass(slots=True, kw_only=True)
class Prepared:
    """A model that is known, and not yet loaded."""

    identity: Mapping[str, Any]
    """See `EvalModel.identity`."""
    encoder: Any
    """What a watched video depends on: where it is equal, the video can be taken over."""
    load: Callable[[], EvalModel]
    _model: EvalModel | None = field(default=None, init=False)

    def model(self) -> EvalModel:
        """Return the model.

        Raises:
            UserError: it cannot be loaded.
        """
        if self._model is None:
            from vxp_model.eval.adapters.memory import WithinMemory

            self._model = WithinMemory(self.load())
        return self._model

    @classmethod
    def of_answers(cls, path: Path) -> Self:
        """Return what stands for the model behind a file of answers, which cannot be asked.

        Raises:
            UserError: there is no such file.
        """
        if not path.is_file():
            raise UserError(f"{path}: there is no such file of answers.")
        told = hashlib.sha256(path.read_bytes()).hexdigest()[:16]

        def load() -> EvalModel:
            raise TypeError(f"{path} holds answers and cannot be asked")

        return cls(identity={"adapter": "answers", "file": told}, encoder=None, load=load)


class Models:
    """The models of a run; settings that differ in the asking alone share one."""

    def __init__(self) -> None:
        self._loaded: dict[Any, Any] = {}

    def prepare(self, recipe: EvalRecipe, frames: FrameSettings) -> Prepared:
        """Look at a model's folder; weights are not read.

        Args:
            recipe: with the model and how it answers.
            frames: of the benchmark.

        Raises:
            UserError: there is no such model, or it cannot do what the settings say.
        """
        from vxp_model.inference.placement import Placement

        place = Placement.of(device=_device(recipe.device), dtype=recipe.dtype)
        if recipe.model.startswith(TRANSFORMERS):
            return self._of_transformers(recipe, frames, place)
        return self._of_ours(recipe, place)

    def _of_ours(self, recipe: EvalRecipe, place: Placement) -> Prepared:
        from vxp_model.eval.adapters.ours import OurModel, reading_identity, weights_identity
        from vxp_model.inference.session import LongVideoModel

        folder, settings = recipe.model, _our_settings(recipe)
        weights = weights_identity(folder, place)

        def load() -> EvalModel:
            key = ("ours", folder, place)
            if key not in self._loaded:
                self._loaded[key] = LongVideoModel.load(
                    folder, device=place.device, dtype=place.dtype, attention=place.attention
                )
            return OurModel(self._loaded[key], settings, weights=weights)

        identity = {**weights, **reading_identity(settings)}
        return Prepared(identity=identity, encoder=weights, load=load)

    def _of_transformers(
        self, recipe: EvalRecipe, frames: FrameSettings, place: Placement
    ) -> Prepared:
        from vxp_model.eval.adapters.transformers_model import (
            TransformersModel,
            transformers_identity,
        )

        own = ("keep_ratio", "context_limit", "window")
        if told := [key for key in own if getattr(recipe.answer, key) is not None]:
            raise UserError(
                f"answer.{told[0]}: models of transformers have no selector or window of ours. "
                "Leave it out, or evaluate one of our models."
            )
        folder, px = recipe.model.removeprefix(TRANSFORMERS), frames.frame_px
        identity = transformers_identity(folder, place, frame_px=px)

        def load() -> EvalModel:
            key = ("transformers", folder, place, px)
            if key not in self._loaded:
                self._loaded[key] = TransformersModel.load(
                    folder, device=place.device, dtype=place.dtype, frame_px=px
                )
            model: EvalModel = self._loaded[key]
            return model

        return Prepared(identity=identity, encoder=identity, load=load)


def _our_settings(recipe: EvalRecipe) -> OurSettings:
    from vxp_model.eval.adapters.ours import OurSettings

    answer = recipe.answer
    return OurSettings(
        keep_ratio=answer.keep_ratio,
        context_limit=answer.context_limit,
        chunk_positions=answer.chunk_positions,
        window=answer.window,
        batch=answer.batch,
    )


def _device(device: str) -> str:
    """Return the device of this process: of several on one machine, each has a GPU of its own."""
    rank = os.environ.get("LOCAL_RANK")
    if rank is None or device not in ("auto", "cuda"):
        return device
    import torch

    return f"cuda:{rank}" if torch.cuda.is_available() else device

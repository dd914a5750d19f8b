"""A model of `transformers` in a folder, in this process."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from asks import Answer, Ask, Failure, Keyed
from pictures import Pictures

from vxp_model.errors import UserError
from vxp_model.eval.text_model import TextModel


class LocalBackend:
    """Any causal language model; where images are shown, any image-text model. A `Backend`."""

    takes_images = True
    likelihood = frozenset({"letters", "texts"})

    def __init__(self, folder: Path, *, device: str, batch: int) -> None:
        """Name it; nothing is loaded yet.

        Args:
            folder: of model and tokenizer, or processor.
            device: 'cuda', 'cpu' or 'auto'.
            batch: requests that are answered together.

        Raises:
            UserError: it holds no model.
        """
        self._text = TextModel(folder, device=device)
        self._seeing: _ImageTextModel | None = None
        self._device = device
        self._batch = batch
        self.model = f"{folder.resolve().name}@{self._text.fingerprint[:8]}"
        self.identity: Mapping[str, Any] = {"weights": self._text.fingerprint}

    def check(self) -> None:
        """Nothing is checked before it is loaded."""

    def answers(self, asks: Iterable[Keyed]) -> Iterator[tuple[str, Answer | Failure]]:
        """Yield answers in order; see `Backend`."""
        pictures = Pictures()
        left = iter(asks)
        try:
            while some := list(islice(left, self._batch)):
                together = [(k, a) for k, a in some if not _is_alone(a)]
                if together:
                    yield from self._replies(together)
                for key, ask in some:
                    if _is_alone(ask):
                        yield key, self._one(pictures, ask)
        finally:
            pictures.close()

    def _replies(self, asks: Sequence[Keyed]) -> Iterator[tuple[str, Answer]]:
        said = self._text.replies(
            [_turns(ask) for _, ask in asks], [ask.max_tokens for _, ask in asks]
        )
        for (key, _), text in zip(asks, said, strict=True):
            yield key, {"text": text}

    def _one(self, pictures: Pictures, ask: Ask) -> Answer | Failure:
        if ask.frames is not None:
            found = pictures.jpegs(ask.frames)
            if isinstance(found, Failure):
                return found
            if self._seeing is None:
                self._seeing = _ImageTextModel(self._text.folder, self._device)
            return {"text": self._seeing.reply(ask, found)}
        if ask.texts:
            return {
                "log_probs": [list(one) for one in self._text.log_probs(_turns(ask), ask.texts)]
            }
        return {
            "text": self._text.drawn_reply(
                _turns(ask), ask.max_tokens, temperature=ask.temperature, seed=ask.seed
            )
        }


class _ImageTextModel:
    """A model that takes images, with its own processor and chat template."""

    def __init__(self, folder: Path, device: str) -> None:
        import torch
        import transformers

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        try:
            readers: Any = transformers
            self._processor = readers.AutoProcessor.from_pretrained(folder)
            reader = readers.AutoModelForImageTextToText
            model = reader.from_pretrained(folder, dtype="auto")
        except (OSError, ValueError) as error:
            raise UserError(
                f"model {str(folder)!r}: no model of transformers that takes images: {error}"
            ) from error
        self._model = model.to(device).eval()

    def reply(self, ask: Ask, jpegs: Sequence[bytes]) -> str:
        """Return what it says to the images and the words."""
        import torch
        from PIL import Image

        images = [Image.open(io.BytesIO(one)).convert("RGB") for one in jpegs]
        *before, (role, text) = ask.chat
        parts = [{"type": "image", "image": image} for image in images]
        messages = [{"role": r, "content": [{"type": "text", "text": t}]} for r, t in before] + [
            {"role": role, "content": [*parts, {"type": "text", "text": text}]}
        ]
        inputs = self._processor.apply_chat_template(
            messages,
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        ).to(self._model.device)
        how: dict[str, Any] = {"do_sample": False}
        if ask.temperature:
            how = {"do_sample": True, "temperature": ask.temperature, "top_k": 0, "top_p": 1.0}
        with torch.no_grad(), torch.random.fork_rng():
            torch.manual_seed(ask.seed)
            tokens_BL = self._model.generate(**inputs, max_new_tokens=ask.max_tokens, **how)
        start = inputs["input_ids"].shape[1]
        said: str = self._processor.decode(tokens_BL[0, start:], skip_special_tokens=True)
        return said


def _is_alone(ask: Ask) -> bool:
    return ask.frames is not None or bool(ask.texts) or ask.temperature > 0


def _turns(ask: Ask) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in ask.chat]

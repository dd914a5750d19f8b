"""A toy that only a selector who heeds the question can answer: pairs of a key and a value.

A clip has a frame for each of KEYS, in drawn order. In one quarter of a frame, which becomes one
visual token, lie two patches of the key's colour and two of a value's pattern; the rest is grey
noise. The question names a key, the answer is the letter of its value. Values are drawn for each
key by itself: no other token tells anything of the answer, and who is not shown the token is right
for one in four.

The tiny preset without a compressor, a token for each quarter. Its tower is of chance and stays so;
what it gives for every frame there may be is computed once. Projector, selector and language model
are trained.

Shape suffixes: K keys, B samples, P pictures of the pool, N tokens of a frame before the pool, C
channels of the tower, D of the language model, M visual tokens of a sample.
"""

from __future__ import annotations

import colorsys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from vxp_model.models.byte_tokenizer import byte_tokenizer
from vxp_model.models.processor import Clip, Prompt, VideoXLProProcessor
from vxp_model.models.video_xl_pro import VideoXLProForConditionalGeneration
from vxp_model.models.video_xl_pro_config import video_xl_pro_preset
from vxp_model.modules.selector import SelectorConfig
from vxp_model.modules.siglip import normalise_frames

KEYS: Final = "PQRSTUVW"
"""Names of eight hues, evenly spaced from red: letters that stand nowhere else in a prompt."""
LETTERS: Final = "ABCD"
PATCH_PX: Final = 14
SIDE_PX: Final = 56
QUARTERS: Final = 4
GROUND: Final = (108, 148)
"""Greys of the noise: from, and below."""
VARIANTS: Final = 3
"""Pictures of each key, value and quarter, each with its own noise."""
LEARNING_RATE: Final = 5e-3
BATCH: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Clips and a question about each."""

    order_BK: NDArray[np.int64]
    """Which key each frame is of."""
    value_BK: NDArray[np.int64]
    """Of each frame's key."""
    picture_BK: NDArray[np.int64]
    """Of the pool."""
    key_B: NDArray[np.int64]
    """That is asked for."""

    @property
    def letters(self) -> list[str]:
        """The right answers."""
        at_B = (self.order_BK == self.key_B[:, None]).argmax(1)
        return [
            KEYS[key] + LETTERS[self.value_BK[b, at]]
            for b, (key, at) in enumerate(zip(self.key_B, at_B, strict=True))
        ]


def draw(rng: np.random.Generator, count: int) -> Asked:
    """Draw clips and questions."""
    order_BK = rng.permuted(np.tile(np.arange(len(KEYS)), (count, 1)), axis=1)
    shape = order_BK.shape
    value_BK = rng.integers(len(LETTERS), size=shape)
    quarter_BK, variant_BK = rng.integers(QUARTERS, size=shape), rng.integers(VARIANTS, size=shape)
    kind_BK = (order_BK * len(LETTERS) + value_BK) * QUARTERS + quarter_BK
    return Asked(
        order_BK=order_BK,
        value_BK=value_BK,
        picture_BK=kind_BK * VARIANTS + variant_BK,
        key_B=rng.integers(len(KEYS), size=count),
    )


def pictures(rng: np.random.Generator) -> NDArray[np.uint8]:
    """Draw every picture: uint8 [P, H, W, 3]; see `draw` for their order."""
    found = []
    for key in range(len(KEYS)):
        colour = [255 * x for x in colorsys.hsv_to_rgb(key / len(KEYS), 1, 1)]
        for value in range(len(LETTERS)):
            for quarter in range(QUARTERS):
                for _ in range(VARIANTS):
                    frame_HWC = rng.integers(*GROUND, (SIDE_PX, SIDE_PX, 1)).repeat(3, -1)
                    down, right = (2 * PATCH_PX * x for x in divmod(quarter, 2))
                    for x, y in ((0, 0), (1, 1)):
                        _patch(frame_HWC, down + x * PATCH_PX, right + y * PATCH_PX)[:] = colour
                        other = _patch(frame_HWC, down + x * PATCH_PX, right + (1 - y) * PATCH_PX)
                        other[:] = _pattern(value)
                    found.append(frame_HWC.astype(np.uint8))
    return np.stack(found)


class Toy:
    """The model, what its tower gives for every picture, and how it is asked."""

    def __init__(self, seed: int, rule: SelectorConfig) -> None:
        """Build it from chance.

        Args:
            seed: of weights, pictures and training.
            rule: what the selector leaves out.
        """
        config = video_xl_pro_preset("tiny", temporal_factor=1)
        config.selector_drop_min, config.selector_drop_max = rule.drop_min, rule.drop_max
        config.selector_full_share = rule.full_share
        torch.manual_seed(seed)
        self.model = VideoXLProForConditionalGeneration(config)
        self.processor = VideoXLProProcessor.for_model(
            config, byte_tokenizer(), time_format="{:02.0f}", system="-"
        )
        self.seed = seed
        self._prompts: dict[tuple[str, str | None], Prompt] = {}
        frames_PHWC = torch.from_numpy(pictures(np.random.default_rng(seed)))
        vision = self.model.vision
        with torch.no_grad():
            parts = [
                vision.resampler(vision.tower(normalise_frames(part))).flatten(2).transpose(1, 2)
                for part in torch.split(frames_PHWC, 64)
            ]
        self._features_PNC = torch.cat(parts).clone()

    def train(
        self, steps: int, told: Callable[[str], None] = print, *, selector_rate: float = 1.0
    ) -> float:
        """Train on ever new clips.

        Args:
            steps: of BATCH clips.
            told: how it goes, a line every 200 steps.
            selector_rate: the selector's, against LEARNING_RATE.

        Returns:
            The mean loss of the last tenth of the steps.
        """
        model, rng = self.model.train(), np.random.default_rng([self.seed, 1])
        own = list(model.selector.parameters())
        rest = [p for name, p in model.named_parameters() if not name.startswith("selector.")]
        trained = [*own, *(p for p in rest if p.requires_grad)]
        parts = [{"params": trained[len(own) :]}, {"params": own}]
        optimizer = torch.optim.AdamW(parts, lr=LEARNING_RATE, betas=(0.9, 0.99), weight_decay=0)
        rates = [LEARNING_RATE, LEARNING_RATE * selector_rate]
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, total_steps=steps)
        losses = []
        for step in range(steps):
            asked = draw(rng, BATCH)
            loss = model(
                **self.inputs(asked, with_answers=True),
                selector_seeds=[step * BATCH + b for b in range(BATCH)],
            ).loss
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            schedule.step()
            losses.append(float(loss.detach()))
            if step % 200 == 199:
                told(f"step {step + 1}: loss {np.mean(losses[-100:]):.3f}")
        return float(np.mean(losses[-max(1, steps // 10) :]))

    def inputs(self, asked: Asked, *, with_answers: bool) -> dict[str, Any]:
        """Return a batch for the model."""
        prompts = [
            self._prompt(KEYS[key], letter if with_answers else None)
            for key, letter in zip(asked.key_B, asked.letters, strict=True)
        ]
        vision = self.model.vision
        features_GNC = self._features_PNC[torch.from_numpy(asked.picture_BK.reshape(-1))]
        tokens_GND = vision.pool(vision.projector(features_GNC))
        return dict(self.processor.batch(prompts)) | {"visual_tokens": tokens_GND}

    def _prompt(self, question: str, answer: str | None) -> Prompt:
        """Tokenise a question; there are few, and each is kept."""
        if (question, answer) not in self._prompts:
            content = [{"type": "video", "video": None}, {"type": "text", "text": question}]
            turns: list[dict[str, Any]] = [{"role": "user", "content": content}]
            if answer is not None:
                turns.append({"role": "assistant", "content": answer})
            clip = Clip(time_s_T=[float(t) for t in range(len(KEYS))])
            self._prompts[question, answer] = self.processor.prompt(turns, [clip])
        return self._prompts[question, answer]

    @torch.no_grad()
    def right(self, asked: Asked, keep_ratio: float, selector: nn.Module | None = None) -> int:
        """Count right answers.

        Args:
            asked: clips and questions.
            keep_ratio: share of visual tokens that may stay.
            selector: scores them instead of the model's own.
        """
        model, own = self.model.train(False), self.model.selector
        if selector is not None:
            model.selector = selector
        try:
            ids = model.generate(
                **self.inputs(asked, with_answers=False),
                keep_ratio=keep_ratio,
                max_new_tokens=2,
                do_sample=False,
                pad_token_id=0,
            )
        finally:
            model.selector = own
        said = [self.processor.tokenizer.decode(row) for row in ids]
        return sum(a == b for a, b in zip(said, asked.letters, strict=True))

    @torch.no_grad()
    def states(self, keys: Sequence[int]) -> list[Tensor]:
        """Return what the language model makes of questions for keys."""
        decoder = self.model.language_model.get_decoder()
        ids = [torch.tensor([self.processor.text_ids(KEYS[key])]) for key in keys]
        return [decoder(input_ids=one, use_cache=False).last_hidden_state[0] for one in ids]


class Drawn(nn.Module):
    """Scores by lot."""

    def __init__(self, config: SelectorConfig, seed: int) -> None:
        """Hold the seed of all draws to come."""
        super().__init__()
        self.config = config
        self._generator = torch.Generator().manual_seed(seed)

    def forward(self, query_LD: Tensor, visual_MD: Tensor) -> Tensor:
        """Draw scores_M."""
        del query_LD
        return torch.rand(len(visual_MD), generator=self._generator)


class OtherQuestion(nn.Module):
    """The model's own selector, asked for another key than the language model is."""

    def __init__(self, toy: Toy, asked: Asked) -> None:
        """Prepare the states of the other questions, in the samples' order."""
        super().__init__()
        self.config = toy.model.selector.config
        self._own = toy.model.selector
        self._states = iter(toy.states([(key + 5) % len(KEYS) for key in asked.key_B]))

    def forward(self, query_LD: Tensor, visual_MD: Tensor) -> Tensor:
        """Return scores_M for the next sample."""
        del query_LD
        scores_M: Tensor = self._own(next(self._states), visual_MD)
        return scores_M


def _patch(frame_HWC: NDArray[Any], down_px: int, right_px: int) -> NDArray[Any]:
    return frame_HWC[down_px : down_px + PATCH_PX, right_px : right_px + PATCH_PX]


def _pattern(value: int) -> NDArray[np.int64]:
    """Return a patch: black, white, or stripes one way or the other."""
    if value < 2:
        return np.full((PATCH_PX, PATCH_PX, 1), 255 * value)
    stripes = np.arange(PATCH_PX) // 3 % 2 * 255
    lines_HW = np.broadcast_to(stripes, (PATCH_PX, PATCH_PX))
    return (lines_HW if value == 2 else lines_HW.T)[..., None]

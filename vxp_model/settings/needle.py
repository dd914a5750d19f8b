"""Settings of a needle in a haystack: which haystacks and needles, what is asked how."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field

from vxp_data.settings.file import Settings, SettingsFile

Depth = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
Length = Annotated[int, Field(ge=1)]
Preset = Literal["pro8k", "longva", "video_xl", "videochat_flash"]
SingleNeedle = Literal["number", "word", "shape", "colour", "count"]

PRESETS: Final[Mapping[Preset, tuple[tuple[int, ...], tuple[float, ...]]]] = {
    # 64 to 8,192 frames, the length of the paper's section 4.4.
    "pro8k": ((64, 128, 256, 512, 1024, 2048, 4096, 8192), (0.0, 0.25, 0.5, 0.75, 1.0)),
    "longva": (tuple(range(200, 3001, 200)), (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)),
    # The defaults of its command, which its code overrides.
    "video_xl": (
        (1, 187, 373, 559, 745, 931, 1118, 1304, 1490, 1676, 1862, 2048),
        (0.0, 0.25, 0.5, 0.75, 1.0),
    ),
    # Multi-hop: a chain has no depth; the depths are of single needles beside it.
    "videochat_flash": (tuple(range(1000, 10_001, 1000)), (0.0, 0.25, 0.5, 0.75, 1.0)),
}
"""Name -> (lengths in frames, depths as shares)."""


class NeedleModelSettings(Settings):
    """How the model runs."""

    device: str = "auto"
    """'cuda', 'cpu'; 'auto': a GPU where there is one."""
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    """'auto': bfloat16 on a GPU, else float32."""
    context_limit: int | None = Field(None, ge=1)
    """Positions of prompt and answer; null: the model's own."""
    keep_ratio: float | None = Field(None, gt=0, le=1)
    """Share of visual tokens that the selector keeps; null: as many as the context allows."""


class NeedleRecipe(Settings):
    """All of it."""

    preset: Preset = "pro8k"
    """Lengths and depths that somebody published."""
    lengths: tuple[Length, ...] | None = Field(None, min_length=1)
    """Frames of the haystacks; null: the preset's."""
    depths: tuple[Depth, ...] | None = Field(None, min_length=1)
    """Share of the haystack before a needle, 0 to 1; null: the preset's."""
    film: str | None = None
    """A file or URI: so many of its frames at equal distances are the haystack. Null: a drawn
    film, one frame a second, another for each seed."""
    film_px: int = Field(384, ge=96, le=2048)
    """Side of the square frames of drawn films and needles."""
    mode: Literal["insert", "replace"] = "insert"
    """A needle comes on top of the haystack's frames, or instead of one."""
    offsets: tuple[Annotated[int, Field(ge=0)] | None, ...] = Field((None,), min_length=1)
    """Places in its group of frames that a needle is moved to, each a trial of its own: [0, 1, 2,
    3] tries all four; null: where it falls."""
    needles: tuple[SingleNeedle, ...] = ("number", "word", "shape", "colour", "count")
    """Single ones."""
    chains: tuple[Annotated[int, Field(ge=3, le=16)], ...] = ()
    """Images of each multi-hop chain: [5, 6, 7] as VideoChat-Flash's."""
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = Field((0,), min_length=1)
    """Each draws other films, needles and options: intervals take chance to be a draw of these."""
    control: bool = True
    """Ask the same about each haystack without a needle: what is right there was guessed."""
    options_likelihood: bool = True
    """Count also which option the model finds likeliest."""
    forced: bool = True
    """Count also whether every token of the gold answer is the likeliest, asked without options:
    LongVA's score."""
    model: NeedleModelSettings = NeedleModelSettings()
    survival: tuple[Rate, ...] = (0.5, 0.3, 0.1)
    """Shares of the visual tokens that the selector is let keep, to see how many of the needle's
    are among them; no language model answers. Empty: not measured."""
    out: str = "runs/needle"
    """Directory for trials, tables and images."""

    @property
    def resolved_lengths(self) -> tuple[int, ...]:
        """Frames of the haystacks."""
        return PRESETS[self.preset][0] if self.lengths is None else self.lengths

    @property
    def resolved_depths(self) -> tuple[float, ...]:
        """Shares of the haystack before a needle."""
        return PRESETS[self.preset][1] if self.depths is None else self.depths


NEEDLE_RECIPES: Final = SettingsFile(NeedleRecipe, example="lengths=[64,128]")

"""Tables from a name to the thing of that name.

An entry is a string 'module:attribute', so that importing this file costs nothing and loads
nobody's dependency. A name that ends in ':' stands for a family: 'timm:' for 'timm:resnet50' and
all others; the thing is told its whole name. A third party adds an entry with a Python entry point
in the table's group, 'vxp_data.<table>'; docs/extending.md has an example of each.
"""

from __future__ import annotations

import importlib
from importlib import metadata
from typing import Any, Final

from vxp_data.errors import UserError, unknown_name
from vxp_data.extras import extra_of, needs_extra


class Registry:
    """One table: what it holds, the group of its entry points, `name -> 'module:attribute'`."""

    def __init__(self, what: str, group: str, entries: dict[str, str]) -> None:
        self.what = what
        self.group = group
        self._builtin = dict(entries)

    def names(self) -> list[str]:
        """Return every known name, ours first, each once."""
        ours = list(self._builtin)
        return ours + sorted(set(self._third_party()) - set(ours))

    def require(self, name: str) -> None:
        """Check that a name is known.

        Raises:
            UserError: it is not; the message has the nearest known name. Or it is that of a family.
        """
        self._known_target(name)
        if name.endswith(":"):
            raise UserError(f"{self.what} {name!r} needs a name behind it: {name}NAME")

    def load(self, name: str) -> Any:
        """Import and return the object of that name.

        Raises:
            UserError: the name is unknown, or the module it needs is not installed.
        """
        module, _, attribute = self._known_target(name).partition(":")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ModuleNotFoundError as error:
            if error.name and module.startswith(error.name):
                raise  # the entry itself points nowhere: our bug, not a missing extra
            extra = extra_of(error.name or "")
            needs = (
                f"needs the Python package {error.name!r}: pip install {error.name}"
                if extra is None
                else needs_extra(extra, error.name or "")
            )
            raise UserError(
                f"{self.what} {name!r} {needs}. Or choose another of: {', '.join(self.names())}."
            ) from error

    def _known_target(self, name: str) -> str:
        """Return the entry of a name, or of its family.

        Raises:
            UserError: there is none.
        """
        prefix, colon, _ = name.partition(":")
        for key in (name, prefix + colon) if colon else (name,):
            target = self._builtin.get(key) or self._third_party().get(key)
            if target is not None:
                return target
        raise unknown_name(self.what, name, self.names())

    def _third_party(self) -> dict[str, str]:
        return {point.name: point.value for point in metadata.entry_points(group=self.group)}


DECODERS: Final = Registry(
    "decoder",
    "vxp_data.decoders",
    {
        "pyav": "vxp_data.decoders.pyav_decoder:PyavDecoder",
        "decord": "vxp_data.decoders.decord_decoder:DecordDecoder",
        "torchcodec": "vxp_data.decoders.torchcodec_decoder:TorchcodecDecoder",
        "torchcodec-cuda": "vxp_data.decoders.torchcodec_cuda:TorchcodecCudaDecoder",
    },
)

ENCODERS: Final = Registry(
    "encoder",
    "vxp_data.encoders",
    {
        "siglip": "vxp_data.encoders.siglip:SiglipEncoder",
        "efficientnet_lite0": "vxp_data.encoders.efficientnet_lite0:Lite0Encoder",
        "thumbnail": "vxp_data.encoders.thumbnail:ThumbnailEncoder",
        "open_clip:": "vxp_data.encoders.open_clip_models:OpenClipEncoder",
        "timm:": "vxp_data.encoders.timm_models:TimmEncoder",
        "transformers": "vxp_data.encoders.transformers_models:TransformersEncoder",
    },
)

AUTO_ENCODER: Final = "auto"
"""As an encoder's name: the best of ours that can run here, once for a run; see encoders.choose."""

TEXT_ENCODERS: Final = Registry(
    "text encoder",
    "vxp_data.text_encoders",
    {"siglip": "vxp_data.encoders.siglip_text:SiglipTextEncoder"},
)
"""By the name of the image encoder whose vectors theirs are compared with."""

ENGINES: Final = Registry(
    "engine",
    "vxp_data.engines",
    {
        "local": "vxp_data.engines.local.engine:LocalEngine",
        "ray": "vxp_data.engines.ray.engine:RayEngine",
    },
)

FRAME_SAMPLERS: Final = Registry(
    "frame sampler",
    "vxp_data.frame_samplers",
    {
        "uniform": "vxp_data.core.frame_sampling:uniform",
        "midpoint": "vxp_data.core.frame_sampling:midpoint",
    },
)

MEASURES: Final = Registry(
    "similarity measure",
    "vxp_data.measures",
    {
        "mean_pairwise": "vxp_data.core.similarity:MEAN_PAIRWISE",
        "mean_adjacent": "vxp_data.core.similarity:MEAN_ADJACENT",
        "min_pairwise": "vxp_data.core.similarity:MIN_PAIRWISE",
        "centroid": "vxp_data.core.similarity:CENTROID",
        "effective_frames": "vxp_data.core.similarity:EFFECTIVE_FRAMES",
    },
)

THRESHOLDS: Final = Registry(
    "threshold policy",
    "vxp_data.thresholds",
    {
        "fixed": "vxp_data.core.thresholds:fixed",
        "quantile": "vxp_data.core.thresholds:quantile",
        "share": "vxp_data.core.thresholds:share",
        "count": "vxp_data.core.thresholds:count",
        "knee": "vxp_data.core.thresholds:knee",
        "mixture": "vxp_data.core.thresholds:mixture",
    },
)

SELECTORS: Final = Registry(
    "selector",
    "vxp_data.selectors",
    {
        "intra": "vxp_data.core.selectors.own:INTRA",
        "intra_by_duration": "vxp_data.core.selectors.own:INTRA_BY_DURATION",
        "random": "vxp_data.core.selectors.own:RANDOM",
        "cluster_quota": "vxp_data.core.selectors.vectors:CLUSTER_QUOTA",
        "decorrelate": "vxp_data.core.selectors.vectors:DECORRELATE",
        "gdo_lite": "vxp_data.core.selectors.rows:GDO_LITE",
        "coverage": "vxp_data.core.selectors.coverage:COVERAGE",
        "text_blind": "vxp_data.core.selectors.rows:TEXT_BLIND",
    },
)

FILTERS: Final = Registry(
    "filter",
    "vxp_data.filters",
    {
        "duration_s": "vxp_data.core.filter_rules.media:DURATION_S",
        "short_side_px": "vxp_data.core.filter_rules.media:SHORT_SIDE_PX",
        "blank_frames": "vxp_data.core.filter_rules.media:BLANK_FRAMES",
        "exact_share": "vxp_data.core.filter_rules.media:EXACT_SHARE",
        "motion": "vxp_data.core.filter_rules.media:MOTION",
        "scene_changes": "vxp_data.core.filter_rules.media:SCENE_CHANGES",
        "audio_streams": "vxp_data.core.filter_rules.media:AUDIO_STREAMS",
        "caption_words": "vxp_data.core.filter_rules.texts:CAPTION_WORDS",
        "caption_repetition": "vxp_data.core.filter_rules.texts:REPETITION",
        "image_text_similarity": "vxp_data.core.filter_rules.texts:IMAGE_TEXT_SIMILARITY",
        "placeholders": "vxp_data.core.filter_rules.texts:PLACEHOLDERS",
        "latin_letters": "vxp_data.core.filter_rules.texts:LATIN_LETTERS",
        "answer_words": "vxp_data.core.filter_rules.texts:ANSWER_WORDS",
        "empty_answers": "vxp_data.core.filter_rules.texts:EMPTY_ANSWERS",
        "options": "vxp_data.core.filter_rules.questions:OPTIONS",
        "wrong_letters": "vxp_data.core.filter_rules.questions:WRONG_LETTERS",
        "leaked_answers": "vxp_data.core.filter_rules.questions:LEAKED_ANSWERS",
        "repeats": "vxp_data.core.filter_rules.questions:REPEATS",
        "needs_time": "vxp_data.core.filter_rules.questions:NEEDS_TIME",
        "question_type_share": "vxp_data.core.filter_rules.questions:QUESTION_TYPE_SHARE",
    },
)

SAMPLING_POLICIES: Final = Registry(
    "sampling policy",
    "vxp_data.sampling_policies",
    {
        "variable": "vxp_data.core.sampling_plans:variable",
        "fixed_fps": "vxp_data.core.sampling_plans:fixed_fps",
        "uniform_n": "vxp_data.core.sampling_plans:uniform_n",
        "fine_tune_240": "vxp_data.core.sampling_plans:fine_tune_240",
    },
)

MANIFEST_FORMATS: Final = Registry(
    "manifest format",
    "vxp_data.manifest_formats",
    {
        "json": "vxp_data.manifests.json_array:JsonArray",
        "jsonl": "vxp_data.manifests.json_lines:JsonLines",
        "parquet": "vxp_data.manifests.parquet_table:ParquetTable",
        "csv": "vxp_data.manifests.csv_table:CsvTable",
        "folder": "vxp_data.manifests.video_folder:VideoFolder",
    },
)

ANNOTATION_LAYOUTS: Final = Registry(
    "annotation layout",
    "vxp_data.annotation_layouts",
    {
        "activitynet_qa": "vxp_data.datasets.layouts.activitynet_qa:ACTIVITYNET_QA",
        "charades": "vxp_data.datasets.layouts.charades:CHARADES",
        "charades_sta": "vxp_data.datasets.layouts.charades:CHARADES_STA",
        "cinepile": "vxp_data.datasets.layouts.cinepile:CINEPILE",
        "ego4d_narrations": "vxp_data.datasets.layouts.ego4d:NARRATIONS",
        "finevideo": "vxp_data.datasets.layouts.finevideo:FINEVIDEO",
        "llava_json": "vxp_data.datasets.layouts.llava:LLAVA_JSON",
        "llava_jsonl": "vxp_data.datasets.layouts.llava:LLAVA_JSONL",
        "llava_parquet": "vxp_data.datasets.layouts.llava:LLAVA_PARQUET",
        "next_qa_mc": "vxp_data.datasets.layouts.next_qa:MULTIPLE_CHOICE",
        "next_qa_oe": "vxp_data.datasets.layouts.next_qa:OPEN_ENDED",
        "ocr_vqa": "vxp_data.datasets.layouts.ocr_vqa:OCR_VQA",
        "openvid": "vxp_data.datasets.layouts.openvid:OPENVID",
        "science_qa": "vxp_data.datasets.layouts.science_qa:SCIENCE_QA",
        "sharegpt4video": "vxp_data.datasets.layouts.sharegpt4video:SHAREGPT4VIDEO",
        "vcg_plus": "vxp_data.datasets.layouts.vcg_plus:VCG_PLUS",
        "vdc": "vxp_data.datasets.layouts.vdc:VDC",
        "video_chatgpt": "vxp_data.datasets.layouts.video_chatgpt:VIDEO_CHATGPT",
    },
)

"""Tables from a name to the thing of that name, as those of `vxp_data.registry`.

A third party adds an entry with a Python entry point in the table's group, 'vxp_model.<table>'.
"""

from __future__ import annotations

from typing import Final

from vxp_data.registry import Registry

BENCHMARKS: Final = Registry(
    "benchmark",
    "vxp_model.benchmarks",
    {
        "mlvu": "vxp_model.eval.benchmarks.mlvu:Mlvu",
        "mlvu_test": "vxp_model.eval.benchmarks.mlvu:MlvuTest",
        "video_mme": "vxp_model.eval.benchmarks.video_mme:VideoMme",
        "video_mme_subtitles": "vxp_model.eval.benchmarks.video_mme:VideoMmeSubtitles",
        "longvideobench": "vxp_model.eval.benchmarks.longvideobench:LongVideoBench",
        "longvideobench_subtitles": (
            "vxp_model.eval.benchmarks.longvideobench:LongVideoBenchSubtitles"
        ),
        "longvideobench_test": "vxp_model.eval.benchmarks.longvideobench:LongVideoBenchTest",
        "longvideobench_test_subtitles": (
            "vxp_model.eval.benchmarks.longvideobench:LongVideoBenchTestSubtitles"
        ),
        "vnbench": "vxp_model.eval.benchmarks.vnbench:VnBench",
        "lvbench": "vxp_model.eval.benchmarks.lvbench:LvBench",
        "tempcompass": "vxp_model.eval.benchmarks.tempcompass:TempCompass",
        "charades_sta": "vxp_model.eval.benchmarks.charades_sta:CharadesSta",
        "v_star": "vxp_model.eval.benchmarks.v_star:VStar",
        "mlvu_generation": "vxp_model.eval.benchmarks.mlvu_generation:MlvuGeneration",
    },
)
"""Of `eval.benchmarks.base.Benchmark`, one an entry."""

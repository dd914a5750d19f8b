"""How alike a video's last frame is to its first."""

from vxp_data.core.similarity import Measure

FIRST_LAST = Measure(
    name="first_last",
    redundant_when="high",
    low=-1.0,
    high=1.0,
    one_frame=1.0,
    of_cosines=lambda cosine_VFF: cosine_VFF[:, 0, -1],
)

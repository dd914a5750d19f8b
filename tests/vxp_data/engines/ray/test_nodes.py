"""What is checked on every machine of a cluster."""

from __future__ import annotations

from pathlib import Path

import pytest

from vxp_data.engines.choose import open_engine
from vxp_data.pipeline.embed.preflight import Verdict
from vxp_data.pipeline.embed.preflight_nodes import check_nodes
from vxp_data.settings.cluster import ClusterConfig
from vxp_data.settings.prune import PruneConfig
from vxp_data.storage.folder import open_folder

THUMBNAIL = PruneConfig.model_validate({"encoder": {"name": "thumbnail"}})


@pytest.mark.usefixtures("ray_session")
def test_every_node_of_a_cluster_is_checked(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    config = THUMBNAIL.model_copy(update={"cluster": ClusterConfig(address="auto")})
    out = open_folder(tmp_path / "run")
    with open_engine(config.cluster) as engine:
        media = [str(tmp_path / name) for name in ("a.mp4", "b.mp4")]
        checks = check_nodes(config, out, media, engine)
    found = {check.name: check for check in checks}
    assert {"isolation", "decoder pyav", "encoder thumbnail", "media", "output"} <= found.keys()
    assert all(check.message.startswith("on all 1 nodes: ") for check in checks)
    assert found["media"].verdict is Verdict.WARNING
    assert found["output"].verdict is Verdict.OK
    assert list((tmp_path / "run").iterdir()) == []

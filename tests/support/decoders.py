"""Decoders of other packages, which may not work everywhere."""

import pytest

from vxp_data.decoders.child import check_decoder
from vxp_data.decoders.sandbox import Sandbox
from vxp_data.errors import UserError


def skip_without(name: str, sandbox: Sandbox) -> None:
    """Skip a test where a decoder does not work: torchcodec needs FFmpeg's shared libraries."""
    try:
        sandbox.call(check_decoder, name, timeout_s=120)
    except UserError as error:
        pytest.skip(str(error))

"""`python -m vxp_data`, for where the command is not on the path."""

from vxp_data.cli import main

main()

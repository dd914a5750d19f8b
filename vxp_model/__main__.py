"""`python -m vxp_model`, as torchrun and deepspeed start it."""

from vxp_model.cli import main

main()

"""Ray Data, on a cluster or on this machine. The only place that imports Ray."""

import os

# Read when Ray is imported or started.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")
# Ray's own statistics, which it sends and forgets; what we send is always waited for.
os.environ.setdefault("RAY_IGNORE_UNHANDLED_ERRORS", "1")

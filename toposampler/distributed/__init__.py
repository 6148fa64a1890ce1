"""Ray: a run on the workers of a cluster, or of a small one on this machine.

Ray's environment variables are set here, before any module of the package imports it; the processes that Ray starts
inherit them. A variable that the user has set stands.
"""

import os

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_TRAIN_ENABLE_PRINT_PATCH", "0")  # else each line of a worker is printed twice
os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")  # workers stay where they were started
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.5")  # also the pace of reports, by default 2 s
os.environ.setdefault("RAY_TRAIN_PREEMPTION_POLL_INTERVAL_S", "1")
# How long the place for the workers may take before they are counted again. Ray Train learns up to 20 s late that a
# node is gone, and then waits in vain: by default a minute.
os.environ.setdefault("RAY_TRAIN_WORKER_GROUP_START_TIMEOUT_S", "5")
# The driver waits inside Ray; Python sees a signal only when Ray looks for one, by default every second.
os.environ.setdefault("RAY_get_check_signal_interval_milliseconds", "100")
os.environ.setdefault(
    "RAY_worker_niceness", "0"
)  # else workers get the lowest priority: training crawls on a busy machine
if os.environ.get("RAY_ADDRESS"):  # else a wrong address is tried for 14 minutes: now 15 s
    os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "1")
    os.environ.setdefault("RAY_py_gcs_connect_timeout_s", "4")
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # silences a warning about workers without GPU

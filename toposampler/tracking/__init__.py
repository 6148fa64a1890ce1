"""MLflow: what a run measured, drew and chose, recorded on a server or in a SQLite file beside the runs.

Nothing outside this package imports mlflow. Its defaults for environment variables are set here, before any module
of the package imports it; a variable that the user has set stands.
"""

import os

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")  # else 60 lines about migrations of a new SQLite file
# By default a dead server blocks each call for 246 s. Undelivered records are kept and tried again, so give up soon.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "5")
os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")

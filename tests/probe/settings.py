"""The shop's settings, plus the probe and a queue that is the host's."""

from __future__ import annotations

import json
import os

from config.settings import *  # noqa: F403
from config.settings import INSTALLED_APPS, NOTIFICATIONS, RQ_QUEUES
from tests.skew import skew

INSTALLED_APPS = [*INSTALLED_APPS, "tests.probe"]
RQ_QUEUES = {**RQ_QUEUES, "host": next(iter(RQ_QUEUES.values()))}
if url := os.environ.get("PROBE_ELSEWHERE"):
    RQ_QUEUES["elsewhere"] = {"URL": url}
NOTIFICATIONS = {
    **NOTIFICATIONS,
    "CHANNELS": {
        **NOTIFICATIONS["CHANNELS"],
        "email": {**NOTIFICATIONS["CHANNELS"]["email"], "TIMEOUT": 1.0},
    },
    "LEASE": 3.0,
    "TASK_TIMEOUT": 20.0,
    "RETRY": {"RETRIES": 3, "BASE": 0.2, "JITTER": 0.0},
    **json.loads(os.environ.get("PROBE_NOTIFICATIONS", "{}")),
}

if seconds := float(os.environ.get("PROBE_SKEW", "0")):
    skew(seconds)

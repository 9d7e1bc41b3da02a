"""The shop's settings with a short lease, no rate, and everything said in the log."""

import os

from config.settings import *  # noqa: F403
from config.settings import NOTIFICATIONS as SHOP

NOTIFICATIONS = {
    **SHOP,
    "ENVIRONMENT": "faults",
    "RECIPIENTS": "*",
    "LEASE": 4.0,
    "CLOCK": 0.5,
    "CHANNELS": {
        **SHOP["CHANNELS"],
        "email": {
            **SHOP["CHANNELS"]["email"],
            "PROVIDERS": ["smtp"],
            "RATE": "",
            "TIMEOUT": 2.0,
        },
    },
    "RETRY": {"RETRIES": 3, "BASE": float(os.environ.get("FAULTS_BASE", "0.2")), "JITTER": 0.1},
}

"""The shop's settings with a short lease, no rate of mail, and everything said in the log."""

import os

from config.settings import *  # noqa: F403
from config.settings import LOGGING as LOGS
from config.settings import NOTIFICATIONS as SHOP
from tests.skew import skew

if seconds := float(os.environ.get("FAULTS_SKEW", "0")):
    skew(seconds)


# Every message that was sent, too.
LOGGING = {
    **LOGS,
    "loggers": {**LOGS["loggers"], "notifications.events": {"level": "DEBUG"}},
}
NOTIFICATIONS = {
    **SHOP,
    "ENVIRONMENT": "faults",
    "RECIPIENTS": "*",
    "LEASE": float(os.environ.get("FAULTS_LEASE", "4")),
    "CLOCK": 0.5,
    "CHANNELS": {
        name: {**channel, "TIMEOUT": 2.0} if name != "in_app" else channel
        for name, channel in {
            **SHOP["CHANNELS"],
            "email": {
                **SHOP["CHANNELS"]["email"],
                "PROVIDERS": os.environ.get("FAULTS_PROVIDERS", "smtp").split(","),
                "RATE": os.environ.get("FAULTS_RATE", ""),
            },
        }.items()
    },
    "PROVIDERS": {
        **SHOP["PROVIDERS"],
        "sendgrid": {
            "BACKEND": "notifications.providers.sendgrid.SendGrid",
            "OPTIONS": {
                "api_key": os.environ.get("FAULTS_SENDGRID_KEY", ""),
                "api_url": os.environ.get("FAULTS_SENDGRID_URL", ""),
            },
        },
    },
    # An hour's outage in twelve seconds: the breaker's times are a three-hundredth.
    "BREAKER": {"BASE": 5.0 / 300, "LONGEST": 60.0 / 300}
    if "FAULTS_COMPRESSED" in os.environ
    else SHOP.get("BREAKER", {}),
    "RETRY": {
        "RETRIES": int(os.environ.get("FAULTS_RETRIES", "3")),
        "BASE": float(os.environ.get("FAULTS_BASE", "0.2")),
        "JITTER": 0.1,
    },
}

"""The rows. The database remembers; everything else can be lost."""

from notifications.models import screens
from notifications.models.alert import Alert
from notifications.models.api_token import ApiToken
from notifications.models.attempt import Attempt
from notifications.models.dead_letter import DeadLetter
from notifications.models.hold import Hold
from notifications.models.notification import Notification
from notifications.models.push_subscription import PushSubscription
from notifications.models.receipt import Receipt
from notifications.models.registered_template import RegisteredTemplate
from notifications.models.schedule import Schedule
from notifications.models.sent_test import SentTest
from notifications.models.stamp import Stamp
from notifications.models.statistics import Heartbeat, QueueTally, Tally, Total, Watermark
from notifications.models.suppression import Suppression
from notifications.models.task import Task
from notifications.models.work import Priority, State, Work

__all__ = [
    "Alert",
    "ApiToken",
    "Attempt",
    "DeadLetter",
    "Heartbeat",
    "Hold",
    "Notification",
    "Priority",
    "PushSubscription",
    "QueueTally",
    "Receipt",
    "RegisteredTemplate",
    "Schedule",
    "SentTest",
    "Stamp",
    "State",
    "Suppression",
    "Tally",
    "Task",
    "Total",
    "Watermark",
    "Work",
    "screens",
]

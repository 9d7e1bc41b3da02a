"""What can go wrong, one class for each thing a caller can do something about.

Errors of *use* (`NotificationsError`) are raised to the caller, before anything is written.
What a provider answers is no exception but a value: see `notifications.message.Outcome`.
"""


class NotificationsError(Exception):
    """Raised when the app is used in a way that it refuses; the message says what to do."""


class InvalidAddress(NotificationsError, ValueError):
    """Raised when a recipient has no address for a channel, or one that the channel refuses."""


class InvalidMessage(NotificationsError, ValueError):
    """Raised when a message holds what no provider may be given: a line break in a header."""


class InvalidPayload(NotificationsError, TypeError):
    """Raised when a payload or context holds more than plain values, such as a model object, or
    text that no database stores."""


class KeyReused(NotificationsError, ValueError):
    """Raised when an idempotency key comes back with something else than it was first used for."""


class AddressGone(NotificationsError):
    """Raised while a message is made whose address has ceased to exist."""


class UnknownKind(NotificationsError, LookupError):
    """Raised when no kind of this name is registered in this process."""


class UnknownTask(NotificationsError, LookupError):
    """Raised when no task of this name is registered in this process."""


class UnknownChannel(NotificationsError, LookupError):
    """Raised when a channel is named that NOTIFICATIONS["CHANNELS"] does not configure."""


class OutsideTransaction(NotificationsError, RuntimeError):
    """Raised in strict mode when something is published or notified outside a transaction."""


class WrongState(NotificationsError, ValueError):
    """Raised when a person asks for a move that the row's present state does not allow."""


class NotAllowed(NotificationsError):
    """Raised when a person asks for what they may not do, whatever their permissions."""


class TooMany(NotificationsError):
    """Raised when a person has sent as many tests as they may for now; `wait` is in seconds."""

    def __init__(self, wait: float) -> None:
        self.wait = max(1.0, wait)
        super().__init__(f"Enough tests for now: the next may go out in {round(self.wait)} s.")


class TaskTimeout(BaseException):
    """Raised inside a task that runs longer than its timeout; no Exception, because a task that
    forgives whatever goes wrong in a loop must not forgive this too."""


class NotYet(NotificationsError):
    """Raised by a task to be run again `after` seconds, as if this run had not been."""

    def __init__(self, after: float, reason: str = "") -> None:
        super().__init__(reason)
        self.after = after


class CallbackError(NotificationsError):
    """A provider's callback that changes nothing."""


class Forged(CallbackError):
    """Its signature is missing or wrong."""


class NoCredentials(CallbackError):
    """It has no name and password where they are asked for; who has them comes again with them."""


class NotConfigured(CallbackError):
    """No secret is set to check its signature with."""


class BadCallback(CallbackError):
    """Its signature is right, and its content is not understood."""


class NoCallbacks(CallbackError):
    """The provider sends none."""

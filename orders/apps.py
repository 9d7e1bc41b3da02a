"""The example shop."""

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class OrdersConfig(AppConfig):
    """Connects the signal hooks."""

    name = "orders"
    verbose_name = _("Shop")

    def ready(self) -> None:
        """Connect the receivers in `orders.signals`."""
        from orders import signals  # noqa: F401 - models are not loaded before

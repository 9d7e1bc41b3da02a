"""The shop in Django's admin. Changing an order's status here tells the customer."""

from __future__ import annotations

from typing import ClassVar

from django.contrib import admin
from django.contrib.auth.admin import UserAdmin as DjangoUserAdmin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from orders.models import Order, OrderItem, Product, User
from orders.progress import ship_order
from orders.templatetags.shop import money


@admin.register(User)
class UserAdmin(DjangoUserAdmin):
    """Customers and staff."""

    list_display = ("username", "email", "first_name", "language", "is_staff", "date_joined")
    fieldsets = (
        *(DjangoUserAdmin.fieldsets or ()),
        (_("Shop"), {"fields": ("phone", "language", "email_verified_at", "phone_verified_at")}),
    )
    add_fieldsets = (
        (
            None,
            {
                "classes": ("wide",),
                "fields": (
                    "username",
                    "email",
                    "language",
                    "usable_password",
                    "password1",
                    "password2",
                ),
            },
        ),
    )


@admin.register(Product)
class ProductAdmin(admin.ModelAdmin):
    """What the shop sells."""

    list_display = ("name", "price", "currency", "available")
    list_filter = ("available",)
    search_fields = ("name", "slug")
    prepopulated_fields: ClassVar = {"slug": ("name",)}


class OrderItemInline(admin.TabularInline):
    """The lines of an order."""

    model = OrderItem
    extra = 0
    fields = ("product", "name", "unit_price", "quantity")


@admin.register(Order)
class OrderAdmin(admin.ModelAdmin):
    """Orders; saving a new status tells the customer, one mail for each change."""

    list_display = ("number", "customer", "status", "payment", "sum", "created_at")
    list_filter = ("status", "payment", "created_at")
    search_fields = ("number", "customer__email", "customer__username")
    autocomplete_fields = ("customer",)
    readonly_fields = ("number", "sum", "created_at")
    inlines = (OrderItemInline,)
    actions = ("ship",)
    fields = (
        "number",
        "customer",
        "status",
        "payment",
        "currency",
        "shipping",
        "sum",
        "address",
        "tracking_code",
        "created_at",
    )

    def get_queryset(self, request: HttpRequest) -> QuerySet[Order]:
        """Orders with what the list shows of them."""
        return super().get_queryset(request).select_related("customer").prefetch_related("items")

    @admin.display(description=_("total"))
    def sum(self, order: Order) -> str:
        """What the customer pays."""
        return money(order.total, order.currency) if order.pk else ""

    @admin.action(description=_("Mark as shipped and tell the customers"), permissions=["change"])
    def ship(self, request: HttpRequest, queryset: QuerySet[Order]) -> None:
        """Ship the chosen orders that wait for it."""
        shipped = [ship_order(order) for order in queryset].count(True)
        self.message_user(request, _("%d orders are shipped.") % shipped)

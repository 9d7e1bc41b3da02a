"""The storefront."""

from __future__ import annotations

from django.conf import settings
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.decorators import login_required
from django.contrib.auth.views import PasswordResetView
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest, HttpResponse, HttpResponseBadRequest
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse_lazy
from django.utils.decorators import method_decorator
from django.utils.translation import activate
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST

from orders import verification
from orders.basket import Basket
from orders.checkout import MOST_PER_LINE, place_order
from orders.forms import AccountForm, CheckoutForm, CodeForm, QueuedPasswordResetForm, SignUpForm
from orders.models import Order, Product, User
from orders.progress import cancel_order, pay_order


@require_GET
def shop(request: HttpRequest) -> HttpResponse:
    """All products."""
    products = Product.objects.filter(available=True)
    return render(
        request, "orders/shop.html", {"products": products, "basket": Basket(request.session)}
    )


def basket(request: HttpRequest) -> HttpResponse:
    """The basket; POST changes its quantities, in fields named after product ids, and goes on."""
    mine = Basket(request.session)
    if request.method == "POST":
        for product in list(mine.lines):
            wanted = request.POST.get(f"count-{product.pk}", "")
            if wanted.isascii() and wanted.isdigit():
                mine.put(product, count=int(wanted[:4]))
        return redirect("checkout" if request.POST.get("next") == "checkout" else "basket")
    return render(request, "orders/basket.html", {"basket": mine, "most": MOST_PER_LINE})


@require_POST
def add_to_basket(request: HttpRequest, slug: str) -> HttpResponse:
    """One more of a product."""
    product = get_object_or_404(Product, slug=slug, available=True)
    Basket(request.session).add(product)
    messages.success(request, _("%(name)s is in your basket.") % {"name": product.name})
    return redirect("shop")


@login_required
def checkout(request: HttpRequest) -> HttpResponse:
    """The last page before an order; POST places it."""
    mine = Basket(request.session)
    if not mine.lines:
        return redirect("basket")
    form = CheckoutForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            order = place_order(
                _customer(request),
                basket=mine.lines,
                payment=form.cleaned_data["payment"],
                address=form.cleaned_data["address"],
            )
        except ValidationError as error:
            form.add_error(None, error)
        else:
            mine.clear()
            messages.success(request, _("Thank you! A confirmation is on its way to you."))
            return redirect(order)
    return render(request, "orders/checkout.html", {"form": form, "basket": mine})


@login_required
@require_GET
def order(request: HttpRequest, number: str) -> HttpResponse:
    """One order of the customer's own, and how far it is."""
    mine = get_object_or_404(
        Order.objects.prefetch_related("items"), number=number, customer=request.user
    )
    return render(request, "orders/order.html", {"order": mine, "steps": _steps(mine)})


@login_required
@require_POST
def pay(request: HttpRequest, number: str) -> HttpResponse:
    """Pay a prepaid order. A real shop would hear of it from its payment service."""
    mine = get_object_or_404(
        Order, number=number, customer=request.user, payment=Order.Payment.PREPAID
    )
    if pay_order(mine):
        messages.success(request, _("Thank you for your payment. The receipt is on its way."))
    return redirect(mine)


@login_required
@require_POST
def cancel(request: HttpRequest, number: str) -> HttpResponse:
    """Cancel an order that nobody has paid or sent."""
    mine = get_object_or_404(Order, number=number, customer=request.user)
    if cancel_order(mine):
        messages.success(request, _("The order is cancelled."))
    return redirect(mine)


def sign_up(request: HttpRequest) -> HttpResponse:
    """A new account, which is logged in at once and gets a code to prove its address."""
    form = SignUpForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        with transaction.atomic():
            user = form.save()
            verification.request_code(user)
        login(request, user)
        response = redirect("account" if not Basket(request.session).lines else "checkout")
        return _speak(response, user)
    return render(request, "orders/sign_up.html", {"form": form})


@login_required
def account(request: HttpRequest) -> HttpResponse:
    """The customer's data and orders; POST changes the data."""
    form = AccountForm(request.POST or None, instance=request.user)
    if request.method == "POST" and form.is_valid():
        user = form.save()
        activate(user.language or settings.LANGUAGE_CODE)
        messages.success(request, _("Your data are saved."))
        return _speak(redirect("account"), user)
    context = {
        "form": form,
        "code_form": CodeForm(),
        "phone_to_confirm": verification.can_prove(_customer(request), "whatsapp"),
        "orders": _customer(request).orders.prefetch_related("items"),
    }
    return render(request, "orders/account.html", context)


@login_required
@require_POST
def request_code(request: HttpRequest) -> HttpResponse:
    """Have a code sent, by mail or by WhatsApp."""
    channel = request.POST.get("channel", "email")
    if channel not in verification.ADDRESSES:
        return HttpResponseBadRequest()
    if not verification.can_prove(_customer(request), channel):
        return redirect("account")
    try:
        verification.request_code(_customer(request), channel=channel)
    except verification.TooSoon:
        messages.info(request, _("A code was sent a moment ago. Ask again in half a minute."))
    except verification.TooMany:
        messages.error(request, _("That was the last code for today. Ask again tomorrow."))
    else:
        messages.success(request, _("A new code is on its way."))
    return redirect("account")


@login_required
@require_POST
def confirm_code(request: HttpRequest) -> HttpResponse:
    """Prove the address."""
    form = CodeForm(request.POST)
    if form.is_valid() and verification.confirm(_customer(request), form.cleaned_data["code"]):
        messages.success(request, _("Your address is confirmed."))
    else:
        messages.error(request, _("That is not the code, or it is too old. Ask for another one."))
    return redirect("account")


@method_decorator(transaction.atomic, name="post")
class ResetPasswordView(PasswordResetView):
    """Ask for a link to a new password. The answer is the same whether the address is known."""

    template_name = "orders/password_reset.html"
    form_class = QueuedPasswordResetForm
    success_url = reverse_lazy("password_reset_done")


def _speak(response: HttpResponse, user: User) -> HttpResponse:
    """From now on in the user's language."""
    response.set_cookie(
        settings.LANGUAGE_COOKIE_NAME, user.language or settings.LANGUAGE_CODE, samesite="Lax"
    )
    return response


def _steps(order: Order) -> list[dict[str, object]]:
    """The way of an order, each step with its label and whether it is done."""
    status = Order.Status
    way = [status.PLACED, status.PAID, status.SHIPPED, status.OUT_FOR_DELIVERY, status.DELIVERED]
    if order.paid_in_cash:
        way.remove(status.PAID)
    if order.status not in way:
        return []
    reached = way.index(status(order.status))
    return [
        {"label": each.label, "done": place <= reached, "now": place == reached}
        for place, each in enumerate(way)
    ]


def _customer(request: HttpRequest) -> User:
    """Who is logged in, as `login_required` has seen to."""
    assert isinstance(request.user, User)
    return request.user

"""The storefront, as a visitor uses it."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

from notifications.models import Notification, Task
from orders import verification
from orders.models import Order, Product, User
from tests.orders.shop import (
    PASSWORD,
    compose_last,
    make_customer,
    make_order,
    make_product,
    run_handlers,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def visitor() -> Client:
    return Client(enforce_csrf_checks=True)


@pytest.fixture
def tea() -> Product:
    return make_product()


def submit(
    client: Client, page: str, data: dict[str, object] | None = None, *, to: str = ""
) -> str:
    """Fill in the form of `page` like a browser; where it leads."""
    content = client.get(page).content.decode()
    [token, *_rest] = re.findall(r'name="csrfmiddlewaretoken" value="(\w+)"', content)
    answer = client.post(to or page, {**(data or {}), "csrfmiddlewaretoken": token})
    assert answer.status_code == 302, answer.context and answer.context.get("form").errors
    return str(answer.headers["Location"])


def sign_up(client: Client, email: str = "Eva@Example.com", **fields: str) -> str:
    data = {
        "first_name": "Eva",
        "email": email,
        "phone": "",
        "language": "en",
        "password1": PASSWORD,
        "password2": PASSWORD,
        **fields,
    }
    return submit(client, reverse("sign_up"), data)


def test_a_visitor_becomes_a_customer_and_places_an_order(visitor: Client, tea: Product) -> None:
    add = reverse("add_to_basket", args=[tea.slug])
    submit(visitor, reverse("shop"), to=add)
    submit(visitor, reverse("shop"), to=add)
    assert 'class="badge">2<' in visitor.get(reverse("shop")).content.decode()
    onward = submit(visitor, reverse("basket"), {f"count-{tea.pk}": "3", "next": "checkout"})
    assert onward == reverse("checkout")
    assert visitor.get(onward).headers["Location"].startswith(reverse("login"))
    assert sign_up(visitor) == reverse("checkout")  # with the basket still full
    page = submit(
        visitor, reverse("checkout"), {"address": "1 Sample Street", "payment": "cash_on_delivery"}
    )
    order = Order.objects.get()
    assert page == order.get_absolute_url()
    assert (order.customer.username, order.payment) == ("eva@example.com", "cash_on_delivery")
    assert [(item.name, item.quantity) for item in order.items.all()] == [("Sencha", 3)]
    content = visitor.get(page).content.decode()
    assert "€35.10" in content
    assert "A confirmation is on its way" in content
    assert 'class="badge"' not in content
    assert sorted(run_handlers()) == ["order_confirmation", "verification_code", "welcome"]


def test_the_basket_takes_sensible_numbers_only(visitor: Client, tea: Product) -> None:
    submit(visitor, reverse("shop"), to=reverse("add_to_basket", args=[tea.slug]))
    for typed, count in [("5", 5), ("500", 99), ("-1", 99), ("two", 99), ("²", 99), ("", 99)]:
        submit(visitor, reverse("basket"), {f"count-{tea.pk}": typed})
        assert visitor.session["basket"] == {str(tea.pk): count}, typed
    submit(visitor, reverse("basket"), {f"count-{tea.pk}": "0"})
    assert visitor.session["basket"] == {}
    assert "nothing in it yet" in visitor.get(reverse("basket")).content.decode()


def test_what_is_sold_out_leaves_the_basket(client: Client, tea: Product) -> None:
    client.force_login(make_customer())
    client.post(reverse("add_to_basket", args=[tea.slug]))
    Product.objects.update(available=False)
    answer = client.post(reverse("checkout"), {"address": "here", "payment": "prepaid"})
    assert answer.headers["Location"] == reverse("basket")
    assert not Order.objects.exists()
    assert client.post(reverse("add_to_basket", args=[tea.slug])).status_code == 404


def test_a_checkout_that_is_not_filled_in_places_nothing(client: Client, tea: Product) -> None:
    client.force_login(make_customer())
    client.post(reverse("add_to_basket", args=[tea.slug]))
    answer = client.post(reverse("checkout"), {"address": "", "payment": "barter"})
    assert set(answer.context["form"].errors) == {"address", "payment"}
    assert not Order.objects.exists()


def test_every_change_needs_post_and_its_csrf_token(visitor: Client, tea: Product) -> None:
    order = make_order()
    visitor.force_login(order.customer)
    changes = [
        reverse("add_to_basket", args=[tea.slug]),
        reverse("pay", args=[order.number]),
        reverse("cancel", args=[order.number]),
        reverse("request_code"),
        reverse("confirm_code"),
        reverse("logout"),
    ]
    for address in changes:
        assert visitor.get(address).status_code == 405, address
        assert visitor.post(address).status_code == 403, address
    for address in map(reverse, ("basket", "checkout", "account", "sign_up", "password_reset")):
        assert visitor.post(address).status_code == 403, address


def test_orders_of_others_are_not_there(client: Client) -> None:
    order = make_order()
    client.force_login(make_customer("eve"))
    assert client.get(order.get_absolute_url()).status_code == 404
    for view in ("pay", "cancel"):
        assert client.post(reverse(view, args=[order.number])).status_code == 404
    assert order.number not in client.get(reverse("account")).content.decode()
    client.logout()
    assert client.get(order.get_absolute_url()).status_code == 302


def test_a_prepaid_order_is_paid_once(client: Client) -> None:
    order = make_order()
    client.force_login(order.customer)
    assert "Pay €24.70 now" in client.get(order.get_absolute_url()).content.decode()
    for _each in range(2):
        client.post(reverse("pay", args=[order.number]))
    assert run_handlers() == ["payment_receipt"]
    assert "Pay €24.70 now" not in client.get(order.get_absolute_url()).content.decode()


def test_who_pays_the_courier_cannot_pay_here(client: Client) -> None:
    order = make_order(payment="cash_on_delivery")
    client.force_login(order.customer)
    assert client.post(reverse("pay", args=[order.number])).status_code == 404
    assert Order.objects.get().status == Order.Status.PLACED


@pytest.mark.parametrize(
    ("payment", "status", "done", "now"),
    [
        ("prepaid", "placed", 1, "Placed"),
        ("prepaid", "delivered", 5, "Delivered"),
        ("cash_on_delivery", "shipped", 2, "Shipped"),
        ("prepaid", "refunded", 0, None),
        ("cash_on_delivery", "cancelled", 0, None),
    ],
)
def test_the_order_page_tells_how_far_it_is(
    client: Client, payment: str, status: str, done: int, now: str | None
) -> None:
    order = make_order(payment=payment, status=status)
    client.force_login(order.customer)
    content = client.get(order.get_absolute_url()).content.decode()
    assert content.count('<li class="done') == done
    assert re.findall(r'aria-current="step">(\w+)<', content) == ([now] if now else [])
    if now is None:
        assert f'class="status {status}"' in content


def test_an_address_is_verified_with_the_code_in_the_mail(
    visitor: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_up(visitor)
    [code] = re.findall(r"^\s+(\d{6})$", compose_last().text, re.MULTILINE)
    account, confirm = reverse("account"), reverse("confirm_code")
    submit(visitor, account, {"code": f"{(int(code) + 1) % 1_000_000:06}"}, to=confirm)
    assert "That is not the code" in visitor.get(account).content.decode()
    submit(visitor, account, to=reverse("request_code"))
    assert "sent a moment ago" in visitor.get(account).content.decode()
    with monkeypatch.context() as patched:
        patched.setattr(verification, "PAUSE", timedelta(0))
        patched.setattr(verification, "MOST", 1)
        submit(visitor, account, to=reverse("request_code"))
    assert "the last code for today" in visitor.get(account).content.decode()
    submit(visitor, account, {"code": code}, to=confirm)
    assert "Your address is confirmed" in visitor.get(account).content.decode()
    assert User.objects.get().email_verified_at is not None


def test_an_address_can_sign_up_once(client: Client) -> None:
    make_customer("eva")
    answer = client.post(reverse("sign_up"), {"email": "EVA@example.com"})
    assert "log in instead" in str(answer.context["form"].errors["email"])
    assert User.objects.count() == 1


def test_a_sign_up_that_fails_sends_nothing(
    client: Client, monkeypatch: pytest.MonkeyPatch, tea: Product
) -> None:
    def fail(user: User) -> bool:
        raise ZeroDivisionError

    monkeypatch.setattr("orders.verification.request_code", fail)
    with pytest.raises(ZeroDivisionError):
        client.post(
            reverse("sign_up"),
            {
                "first_name": "Eva",
                "email": "eva@example.com",
                "language": "en",
                "password1": PASSWORD,
                "password2": PASSWORD,
            },
        )
    assert not User.objects.exists()
    assert not Task.objects.exists()


def test_a_forgotten_password_is_replaced_by_the_link_in_the_mail(visitor: Client) -> None:
    user = make_customer(password="forgotten")
    submit(visitor, reverse("password_reset"), {"email": "ADA@example.com"})
    assert run_handlers() == ["password_reset"]
    [link] = re.findall(r"^http\S+/account/password/\S+$", compose_last().text, re.MULTILINE)
    page = link.removeprefix(settings.FRONTEND_URL)
    form = visitor.get(page).headers["Location"]  # the token moves into the session
    submit(visitor, form, {"new_password1": PASSWORD, "new_password2": PASSWORD})
    user.refresh_from_db()
    assert user.check_password(PASSWORD)
    assert "too old or was used" in visitor.get(page).content.decode()
    login = {"username": "ada@example.com", "password": PASSWORD}
    assert submit(visitor, reverse("login"), login) == reverse("account")


def test_the_link_is_stored_nowhere(visitor: Client) -> None:
    make_customer(password="forgotten")
    submit(visitor, reverse("password_reset"), {"email": "ada@example.com"})
    run_handlers()
    [token] = re.findall(r"/account/password/\w+/([\w-]+)/", compose_last().text)
    rows = [*Task.objects.values(), *Notification.objects.values()]
    assert token not in str(rows)
    assert token.partition("-")[2] not in str(rows)
    assert [row["payload"] for row in Task.objects.values("payload")] == [
        {"user_id": User.objects.get().pk}
    ]


@pytest.mark.parametrize("email", ["stranger@example.com", "gone@example.com"])
def test_nobody_learns_which_addresses_have_accounts(client: Client, email: str) -> None:
    make_customer("gone", password="forgotten", is_active=False)
    answer = client.post(reverse("password_reset"), {"email": email})
    assert answer.headers["Location"] == reverse("password_reset_done")
    assert run_handlers() == []


def test_german_customers_see_german_pages_and_mails(visitor: Client) -> None:
    sign_up(visitor, language="de")
    assert "Ihre Bestellungen" in visitor.get(reverse("account")).content.decode()
    assert compose_last().subject == "Ihr Code für Leaf & Kettle"
    data = {"first_name": "Eva", "last_name": "", "phone": "", "language": "en"}
    submit(visitor, reverse("account"), data)
    assert "Your data are saved" in visitor.get(reverse("account")).content.decode()


def test_the_language_can_be_switched(visitor: Client, tea: Product) -> None:
    submit(visitor, reverse("shop"), {"language": "de"}, to=reverse("set_language"))
    assert "In den Warenkorb" in visitor.get(reverse("shop")).content.decode()


def test_pages_load_nothing_from_elsewhere(client: Client, tea: Product) -> None:
    client.force_login(make_customer())
    pages = ["shop", "basket", "account", "sign_up", "password_reset", "password_reset_done"]
    for page in map(reverse, pages):
        content = client.get(page).content.decode()
        assert not re.search(r'(src|href|action)="(https?:)?//', content), page


def test_an_empty_shop_says_how_to_fill_it(client: Client) -> None:
    assert "load_shop" in client.get(reverse("shop")).content.decode()


def test_orders_are_listed_with_few_queries(
    client: Client, django_assert_max_num_queries: pytest.FixtureRequest
) -> None:
    order = make_order()
    for _each in range(5):
        Order.objects.create(customer=order.customer)
    client.force_login(order.customer)
    with django_assert_max_num_queries(6):
        content = client.get(reverse("account")).content.decode()
    assert content.count('class="status placed"') == 6

"""The storefront's addresses."""

from django.contrib.auth import views as auth
from django.urls import path

from orders import caught_mail, caught_phones, views
from orders.forms import LogInForm

urlpatterns = [
    path("", views.shop, name="shop"),
    path("basket/", views.basket, name="basket"),
    path("basket/add/<slug:slug>/", views.add_to_basket, name="add_to_basket"),
    path("checkout/", views.checkout, name="checkout"),
    path("orders/<str:number>/", views.order, name="order"),
    path("orders/<str:number>/pay/", views.pay, name="pay"),
    path("orders/<str:number>/cancel/", views.cancel, name="cancel"),
    path("account/", views.account, name="account"),
    path("account/code/", views.request_code, name="request_code"),
    path("account/code/confirm/", views.confirm_code, name="confirm_code"),
    path("account/sign-up/", views.sign_up, name="sign_up"),
    path(
        "account/log-in/",
        auth.LoginView.as_view(
            template_name="orders/log_in.html",
            authentication_form=LogInForm,
            redirect_authenticated_user=True,
        ),
        name="login",
    ),
    path("account/log-out/", auth.LogoutView.as_view(), name="logout"),
    path("account/password/", views.ResetPasswordView.as_view(), name="password_reset"),
    path(
        "account/password/asked/",
        auth.PasswordResetDoneView.as_view(template_name="orders/password_reset_done.html"),
        name="password_reset_done",
    ),
    path(
        "account/password/<uidb64>/<token>/",
        auth.PasswordResetConfirmView.as_view(template_name="orders/password_reset_confirm.html"),
        name="password_reset_confirm",
    ),
    path(
        "account/password/changed/",
        auth.PasswordResetCompleteView.as_view(template_name="orders/password_changed.html"),
        name="password_reset_complete",
    ),
    path("mail/", caught_mail.inbox, name="caught_mail"),
    path("mail/<int:number>/", caught_mail.message, name="caught_message"),
    path("phones/", caught_phones.phones, name="caught_phones"),
]

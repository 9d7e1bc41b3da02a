"""Every address of the example shop."""

from django.contrib import admin
from django.urls import include, path

urlpatterns = [
    path("admin/rq/", include("config.rq_screens")),
    path("admin/", admin.site.urls),
    path("api/", include("notifications.rest.urls")),
    path("inbox/", include("notifications.bell")),
    path("notifications/", include("notifications.urls")),
    path("push/", include("notifications.browsers")),
    path("language/", include("django.conf.urls.i18n")),
    path("", include("orders.urls")),
]

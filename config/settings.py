"""The example shop's settings, all from the environment; `.env.example` explains each variable.

Without any of them the shop runs on SQLite, a Redis at localhost:6379 and a mail server at
localhost:25.
"""

import warnings
from email.headerregistry import Address
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from config.environment import (
    env,
    read_address,
    read_addresses,
    read_database,
    read_flag,
    read_number,
    read_origin,
    read_rate,
    read_redis,
    read_secret_key,
    read_text,
    read_words,
)

BASE_DIR = Path(__file__).resolve().parent.parent
env.read_env(BASE_DIR / ".env")  # what the environment itself says goes first

# -- the site -------------------------------------------------------------------------------

DEBUG = read_flag("DEBUG", False)
SECRET_KEY = read_secret_key("SECRET_KEY", kept_in=BASE_DIR / ".secret-key")
SECRET_KEY_FALLBACKS = read_words("SECRET_KEY_FALLBACKS", [])
ALLOWED_HOSTS = read_words("ALLOWED_HOSTS", ["localhost", "127.0.0.1", "[::1]"])
FRONTEND_URL = read_origin("FRONTEND_URL", "http://localhost:8000")

_HTTPS = FRONTEND_URL.startswith("https://")
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = _HTTPS
CSRF_TRUSTED_ORIGINS = [FRONTEND_URL] if _HTTPS else []

ROOT_URLCONF = "config.urls"
WSGI_APPLICATION = "config.wsgi.application"
ASGI_APPLICATION = "config.asgi.application"

INSTALLED_APPS = [
    "orders",
    "notifications",  # before django_rq: its rqworker has better defaults
    "django_rq",
    "drf_spectacular_sidecar",  # the page that shows the API
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
]

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "orders.context_processors.shop",
            ],
        },
    },
]

# -- people ---------------------------------------------------------------------------------

AUTH_USER_MODEL = "orders.User"
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "account"
LOGOUT_REDIRECT_URL = "shop"
PASSWORD_RESET_TIMEOUT = 3600  # seconds; the mail says an hour

# -- languages and times --------------------------------------------------------------------

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English")), ("de", _("German"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True

# -- static files ---------------------------------------------------------------------------

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
WHITENOISE_USE_FINDERS = True  # serves them without collectstatic, too ...
warnings.filterwarnings("ignore", message="No directory at: .*staticfiles")  # ... and silently

# -- database -------------------------------------------------------------------------------

DATABASES = {"default": read_database("DATABASE_URL", f"sqlite:///{BASE_DIR / 'db.sqlite3'}")}
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

if DATABASES["default"]["ENGINE"].endswith("sqlite3"):
    DATABASES["default"]["OPTIONS"] = {
        "timeout": 20,  # seconds a writer waits for another
        # A transaction that reads before it writes would otherwise fail under load instead of
        # waiting (SQLite documentation, "Isolation", section on BEGIN IMMEDIATE).
        "transaction_mode": "IMMEDIATE",
        "init_command": "PRAGMA journal_mode=WAL;",
    }
else:
    DATABASES["default"]["CONN_MAX_AGE"] = 60
    DATABASES["default"]["CONN_HEALTH_CHECKS"] = True
    DATABASES["default"].setdefault("OPTIONS", {}).setdefault("connect_timeout", 5)

# -- queues ---------------------------------------------------------------------------------

# Without these the shop has no WhatsApp, no SMS and no web push.
WHATSAPP_TOKEN = read_text("WHATSAPP_TOKEN")
TWILIO_ACCOUNT_SID = read_text("TWILIO_ACCOUNT_SID")
VAPID_PUBLIC_KEY = read_text("VAPID_PUBLIC_KEY")

_REDIS = read_redis()
_CHANNELS = [
    "email",
    *(["whatsapp"] if WHATSAPP_TOKEN else []),
    *(["sms"] if TWILIO_ACCOUNT_SID else []),
    *(["push"] if VAPID_PUBLIC_KEY else []),
]
RQ_QUEUES = {name: dict(_REDIS) for name in (*_CHANNELS, "default", "documents", "maintenance")}
RQ = {"WORKER_CLASS": "notifications.worker.Worker"}
RQ_SHOW_ADMIN_LINK = False  # django-rq's screens are in config/urls.py, for holders of a permission

# -- mail -----------------------------------------------------------------------------------

EMAIL_BACKEND = "notifications.backends.QueuedEmailBackend"
EMAIL_HOST = read_text("EMAIL_HOST", "localhost")
EMAIL_PORT = read_number("EMAIL_PORT", 25, least=1, most=65_535)
EMAIL_HOST_USER = read_text("EMAIL_HOST_USER")
EMAIL_HOST_PASSWORD = read_text("EMAIL_HOST_PASSWORD")
EMAIL_USE_TLS = read_flag("EMAIL_USE_TLS", False)
EMAIL_USE_SSL = read_flag("EMAIL_USE_SSL", False)
if EMAIL_USE_TLS and EMAIL_USE_SSL:
    raise ImproperlyConfigured(
        "EMAIL_USE_TLS and EMAIL_USE_SSL are both on; keep EMAIL_USE_TLS for port 587, "
        "EMAIL_USE_SSL for port 465."
    )
EMAIL_TIMEOUT = read_number("EMAIL_TIMEOUT", 5, least=1, most=25)

FROM_NAME = read_text("FROM_NAME", "Leaf & Kettle")
FROM_EMAIL = read_address("FROM_EMAIL", "shop@example.com")
CONTACT_EMAIL = read_address("CONTACT_EMAIL", FROM_EMAIL)
DEFAULT_FROM_EMAIL = SERVER_EMAIL = str(Address(FROM_NAME, addr_spec=FROM_EMAIL))

_EMAIL_SERVICES = {
    "sendgrid": ("SENDGRID_API_KEY", "anymail.backends.sendgrid.EmailBackend"),
    "resend": ("RESEND_API_KEY", "anymail.backends.resend.EmailBackend"),
}
_EMAIL_PROVIDERS = read_words("EMAIL_PROVIDERS", ["smtp"], among=["smtp", *_EMAIL_SERVICES])
# Anymail asks for a key when a mail is sent; a missing one shall be known at the start.
_EMAIL_KEYS = {
    name: read_text(variable, needed_for=f"EMAIL_PROVIDERS names {name}")
    for name, (variable, _backend) in _EMAIL_SERVICES.items()
    if name in _EMAIL_PROVIDERS
}

# -- notifications --------------------------------------------------------------------------

ENVIRONMENT = read_text("ENVIRONMENT", "development" if DEBUG else "production")
_REDIRECT = read_text("REDIRECT_EMAIL_TO")
_NOBODY = ["*@example.com", "*@example.org", "*@*.example", "+1???55501??"]

_SETTINGS_OF_CHANNELS: dict[str, dict[str, object]] = {
    "email": {
        "PROVIDERS": _EMAIL_PROVIDERS,
        "RATE": read_rate("EMAIL_QUEUE_RATE", "10/s"),
        "CONCURRENCY": read_number("EMAIL_QUEUE_CONCURRENCY", 5, least=1, most=1000),
    },
    "whatsapp": {
        "RATE": read_rate("WHATSAPP_QUEUE_RATE", "5/s"),
        "CONCURRENCY": read_number("WHATSAPP_QUEUE_CONCURRENCY", 3, least=1, most=1000),
    },
    "sms": {
        "RATE": read_rate("SMS_QUEUE_RATE", "5/s"),
        "CONCURRENCY": read_number("SMS_QUEUE_CONCURRENCY", 3, least=1, most=1000),
    },
    "push": {
        "RATE": read_rate("PUSH_QUEUE_RATE", ""),
        "CONCURRENCY": read_number("PUSH_QUEUE_CONCURRENCY", 5, least=1, most=1000),
    },
}
_PROVIDERS: dict[str, dict[str, object]] = {
    name: {
        "BACKEND": "notifications.providers.django_email.DjangoEmail",
        "OPTIONS": {"BACKEND": _EMAIL_SERVICES[name][1], "api_key": key},
    }
    for name, key in _EMAIL_KEYS.items()
}
if "sendgrid" in _PROVIDERS:  # a provider of its own: it takes callbacks, too
    _PROVIDERS["sendgrid"] = {
        "BACKEND": "notifications.providers.sendgrid.SendGrid",
        "OPTIONS": {
            "api_key": _EMAIL_KEYS["sendgrid"],
            "webhook_key": read_text("SENDGRID_WEBHOOK_KEY"),
        },
    }
if WHATSAPP_TOKEN:
    _PROVIDERS["whatsapp_cloud"] = {
        "BACKEND": "notifications.providers.whatsapp_cloud.WhatsAppCloud",
        "OPTIONS": {
            "TOKEN": WHATSAPP_TOKEN,
            "PHONE_ID": read_text("WHATSAPP_PHONE_ID", needed_for="WHATSAPP_TOKEN is set"),
            "BUSINESS_ID": read_text("WHATSAPP_BUSINESS_ID"),
            "APP_SECRET": read_text("WHATSAPP_APP_SECRET"),
            "VERIFY_TOKEN": read_text("WHATSAPP_VERIFY_TOKEN"),
            "API_URL": read_text("WHATSAPP_API_URL", "https://graph.facebook.com/v24.0"),
        },
    }
if TWILIO_ACCOUNT_SID:
    _PROVIDERS["twilio"] = {
        "BACKEND": "notifications.providers.twilio.Twilio",
        "OPTIONS": {
            "ACCOUNT_SID": TWILIO_ACCOUNT_SID,
            "AUTH_TOKEN": read_text("TWILIO_AUTH_TOKEN", needed_for="TWILIO_ACCOUNT_SID is set"),
            "FROM": read_text("TWILIO_FROM", needed_for="TWILIO_ACCOUNT_SID is set"),
            "CALLBACK_URL": f"{FRONTEND_URL}/notifications/webhooks/twilio/",
            "API_URL": read_text("TWILIO_API_URL", "https://api.twilio.com/2010-04-01"),
        },
    }
if VAPID_PUBLIC_KEY:
    _PROVIDERS["webpush"] = {
        "BACKEND": "notifications.providers.webpush.WebPush",
        "OPTIONS": {
            "PUBLIC_KEY": VAPID_PUBLIC_KEY,
            "PRIVATE_KEY": read_text("VAPID_PRIVATE_KEY", needed_for="VAPID_PUBLIC_KEY is set"),
            "CONTACT": f"mailto:{CONTACT_EMAIL}",
        },
    }

# Whom the app tells that something is broken, and where else than by mail.
ADMINS = [(address, address) for address in read_addresses("ADMIN_EMAILS")]
ALERT_WEBHOOK = read_text("ALERT_WEBHOOK")
# Out of the box this is a shop on one's own machine, for which nobody is on call.
_AT_HOME = urlsplit(FRONTEND_URL).hostname in ("localhost", "127.0.0.1", "::1")
SILENCED_SYSTEM_CHECKS = ["notifications.W009"] if _AT_HOME else []

NOTIFICATIONS = {
    "ENVIRONMENT": ENVIRONMENT,
    # Outside production: one address gets everything, or these addresses alone are written to.
    # The default are domains that nobody can own (RFC 2606), and phones that nobody has (the
    # numbers 555-0100 to 555-0199 of North America are kept for fiction).
    "RECIPIENTS": (
        {"REDIRECT": {"email": _REDIRECT}}
        if _REDIRECT
        else read_words("ALLOWED_RECIPIENTS", _NOBODY)
    ),
    "CHANNELS": {name: _SETTINGS_OF_CHANNELS[name] for name in _CHANNELS} | {"in_app": {}},
    "PROVIDERS": _PROVIDERS,
    "RETRY": {
        "RETRIES": read_number("JOB_MAX_RETRIES", 3, most=20),
        "BASE": read_number("JOB_RETRY_DELAY", 2000) / 1000,
    },
    "ALERTS": {"WEBHOOK": ALERT_WEBHOOK},
    "FRONTEND_URL": FRONTEND_URL,
    "METRICS_TOKEN": read_text("METRICS_TOKEN"),
}

# -- logs -----------------------------------------------------------------------------------

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name}: {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "loggers": {"notifications": {"handlers": ["console"], "level": "INFO"}},
}

# The folders where the demo's servers keep what they catch; the shop then shows it at /mail/ and
# at /phones/.
CAUGHT_MAIL = read_text("CAUGHT_MAIL") if DEBUG else ""
CAUGHT_PHONES = read_text("CAUGHT_PHONES") if DEBUG else ""

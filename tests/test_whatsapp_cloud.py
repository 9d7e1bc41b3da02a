"""WhatsApp's Cloud API as a provider, over real HTTP."""

from __future__ import annotations

import hashlib
import hmac
import json
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from notifications.errors import BadCallback, Forged, NotConfigured
from notifications.message import (
    Button,
    Fate,
    Media,
    Outcome,
    Parameter,
    Report,
    Verdict,
    WhatsApp,
)
from notifications.providers.base import Callback
from notifications.providers.whatsapp_cloud import WhatsAppCloud
from notifications.providers.whatsapp_replies import (
    CALLS,
    DAY,
    PAIR,
    RULES,
    TEMPLATE,
    THROUGHPUT,
    judge_answer,
)
from notifications.testing.guarded import find_free_port
from notifications.testing.whatsapp_server import Answer, Template, WhatsAppServer, sign
from tests.lanes import ScriptedLane

TEMPLATES = [
    Template("plain", body="Your shop is open."),
    Template("confirmation", body="Hello {{1}}, your order {{2}} is on its way."),
    Template(
        "named",
        language="de",
        header="Bestellung {{number}}",
        body="Hallo {{name}}, zu zahlen sind {{total}}.",
        footer="Leaf & Kettle",
        buttons=[
            {"type": "URL", "text": "Ansehen", "url": "https://shop.example.com/orders/{{1}}"},
            {"type": "QUICK_REPLY", "text": "Danke"},
        ],
        named=True,
    ),
    Template("invoice", header="document", body="Here is your invoice."),
    Template("paused", body="Hello.", status="PAUSED"),
    Template("off", body="Hello.", status="DISABLED"),
    Template("draft", body="Hello.", status="PENDING"),
    Template(
        "coupon",
        body="For you, {{1}}.",
        buttons=[{"type": "COPY_CODE", "text": "Copy", "example": "TEA10"}],
    ),
]

LATER = (1, 2, 131000, 131016, 131057)
BUSY = {4: CALLS, 80007: CALLS, 130429: THROUGHPUT}  # later, and the provider says when
HOLD = (0, 3, 10, 190, 200, 210, 299, 368, 131031, 131042, 131048, 131064)
PERMANENT = (
    33, 100, 131008, 131009, 131021, 131026, 131030, 131047, 131051, 132000, 132001, 132005,
    132007, 132008, 132012, 132016, 130472, 130497,
)  # fmt: skip


def message(number: int = 1, **changes: Any) -> WhatsApp:
    given: dict[str, Any] = {
        "id": number,
        "to": "+12025550123",
        "template": "confirmation",
        "language": "en_US",
        "body": (Parameter("Ada Lovelace"), Parameter("7K2M-Q9XA")),
        "category": "order_confirmation",
    }
    return WhatsApp(**(given | changes))


def cloud(server: WhatsAppServer, *, timeout: float = 5.0, **options: Any) -> WhatsAppCloud:
    return WhatsAppCloud("whatsapp_cloud", timeout=timeout, options=server.options | options)


def send(provider: WhatsAppCloud, *messages: WhatsApp) -> list[Outcome]:
    with closing(provider.connect()) as session:
        return [session.send(each) for each in messages]


@pytest.fixture
def server() -> Iterator[WhatsAppServer]:
    with WhatsAppServer(templates=TEMPLATES) as server:
        yield server


# -- the request ----------------------------------------------------------------------------


def test_the_request_field_by_field(server: WhatsAppServer) -> None:
    whole = message(
        7,
        template="named",
        language="de",
        header=Parameter("7K2M-Q9XA", "number"),
        body=(Parameter("Ada <b> & Söhne", "name"), Parameter("12,50 €", "total")),
        buttons=(Button(0, "url", "7K2M-Q9XA"), Button(1, "quick_reply", "thanks")),
    )
    (outcome,) = send(cloud(server), whole)
    (request,) = server.requests
    assert (request.method, request.path) == ("POST", "/v24.0/106540352242922/messages")
    assert request.headers["Authorization"] == f"Bearer {server.token}"
    assert request.headers["Content-Type"] == "application/json"
    assert request.payload == {
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": "+12025550123",
        "type": "template",
        "template": {
            "name": "named",
            "language": {"code": "de"},
            "components": [
                {
                    "type": "header",
                    "parameters": [
                        {"type": "text", "parameter_name": "number", "text": "7K2M-Q9XA"}
                    ],
                },
                {
                    "type": "body",
                    "parameters": [
                        {"type": "text", "parameter_name": "name", "text": "Ada <b> & Söhne"},
                        {"type": "text", "parameter_name": "total", "text": "12,50 €"},
                    ],
                },
                {
                    "type": "button",
                    "sub_type": "url",
                    "index": "0",
                    "parameters": [{"type": "text", "text": "7K2M-Q9XA"}],
                },
                {
                    "type": "button",
                    "sub_type": "quick_reply",
                    "index": "1",
                    "parameters": [{"type": "payload", "payload": "thanks"}],
                },
            ],
        },
        "biz_opaque_callback_data": "7",
    }
    (accepted,) = server.accepted
    assert accepted.text == (
        "Bestellung 7K2M-Q9XA\nHallo Ada <b> & Söhne, zu zahlen sind 12,50 €.\nLeaf & Kettle"
    )
    assert server.deliveries == {"7": 1}
    assert outcome == Outcome(Verdict.ACCEPTED, code="200", message_id=accepted.id)


def test_media_codes_and_templates_without_parameters(server: WhatsAppServer) -> None:
    link = "https://shop.example.com/invoice.pdf"
    outcomes = send(
        cloud(server),
        message(template="plain", body=()),
        message(template="invoice", header=Media("document", link, "Invoice.pdf"), body=()),
        message(template="invoice", header=Media("document", link), body=()),
        message(
            template="coupon", body=(Parameter("Ada"),), buttons=(Button(0, "copy_code", "TEA10"),)
        ),
    )
    assert [outcome.verdict for outcome in outcomes] == [Verdict.ACCEPTED] * 4
    plain, invoice, bare, coupon = (each.payload["template"] for each in server.requests)
    assert "components" not in plain
    assert invoice["components"][0]["parameters"] == [
        {"type": "document", "document": {"link": link, "filename": "Invoice.pdf"}}
    ]
    assert bare["components"][0]["parameters"] == [{"type": "document", "document": {"link": link}}]
    assert coupon["components"][1]["parameters"] == [
        {"type": "coupon_code", "coupon_code": "TEA10"}
    ]


def test_a_session_keeps_its_connection(server: WhatsAppServer) -> None:
    send(cloud(server), *(message(number) for number in range(5)))
    assert (len(server.accepted), server.connections) == (5, 1)


def test_it_begins_with_the_first_byte_and_works_through_its_lane(server: WhatsAppServer) -> None:
    messages = [message(number) for number in (1, 2)]
    lane = ScriptedLane(*messages)
    with closing(cloud(server).connect()) as session:
        session.work(lane)
    assert [word for word, _message in lane.story] == ["take", "begin", "report"] * 2


# -- outcomes -------------------------------------------------------------------------------


def expected(code: int, template: str = "confirmation") -> tuple[Verdict, float | None, bool, str]:
    """Verdict, wait, suppression and what is held, by the table of the documentation."""
    if code == 131056:
        return Verdict.LATER, PAIR, False, ""
    if code == 131049:
        return Verdict.LATER, DAY, False, ""
    if code in (132015, 132069):
        return Verdict.HOLD, TEMPLATE, False, template
    if code in BUSY:
        return Verdict.LATER, BUSY[code], False, ""
    if code in LATER:
        return Verdict.LATER, None, False, ""
    if code in HOLD:
        return Verdict.HOLD, None, False, ""
    return Verdict.PERMANENT, None, code == 131050, ""


@pytest.mark.parametrize(
    "code", [*LATER, *BUSY, *HOLD, *PERMANENT, 131049, 131050, 131056, 132015, 132069]
)
def test_every_code_has_its_outcome(server: WhatsAppServer, code: int) -> None:
    server.answers = [Answer(code=code, details="why it is so")]
    (outcome,) = send(cloud(server), message())
    assert outcome.code == str(code)
    assert "why it is so" in outcome.text
    assert (
        outcome.verdict, outcome.retry_after, outcome.suppress, outcome.holds
    ) == expected(code)  # fmt: skip
    # Another provider may take what this one is too busy or not allowed to take.
    shared = code in (*LATER, *BUSY, *HOLD)
    assert outcome.theirs is shared


def test_every_code_of_the_table_is_one_of_those_or_named_here() -> None:
    more = {131005, 131045, 133004, 133010, 132018}
    tested = {
        *LATER,
        *BUSY,
        *HOLD,
        *PERMANENT,
        *range(200, 300),
        131049,
        131050,
        131056,
        132015,
        132069,
    }
    assert set(RULES) == tested | more


@pytest.mark.parametrize(
    ("answer", "verdict", "code"),
    [
        (Answer(status=500), Verdict.LATER, "500"),
        (Answer(status=503, body="<html>busy</html>"), Verdict.LATER, "503"),
        (Answer(status=429, body="slow down"), Verdict.LATER, "429"),
        (Answer(status=200, body="<html>hello</html>"), Verdict.UNKNOWN, "200"),
        (Answer(status=200, body="{}"), Verdict.UNKNOWN, "200"),
        (Answer(status=200, body='{"messages": [{"id": 7}]}'), Verdict.UNKNOWN, "200"),
        (Answer(status=200, body='{"messages": []}'), Verdict.UNKNOWN, "200"),
        (Answer(status=302, headers={"Location": "http://127.0.0.1:1/"}), Verdict.HOLD, "302"),
        (Answer(status=404, body="<html>who?</html>"), Verdict.HOLD, "404"),
        (Answer(status=403, body="no"), Verdict.HOLD, "403"),
        (Answer(code=100, subcode=33), Verdict.HOLD, "100"),  # the phone id is wrong
        (Answer(code=999_999), Verdict.PERMANENT, "999999"),  # newer than our table
        (Answer(code=999_999, status=401), Verdict.HOLD, "999999"),
        (Answer(code=999_999, status=500), Verdict.LATER, "999999"),
        (Answer(status=400, body='{"error": {"code": "odd"}}'), Verdict.HOLD, "400"),
        (Answer(status=400, body='{"error": "odd"}'), Verdict.HOLD, "400"),
        (
            Answer(status=400, body='{"error": {"code": 5, "is_transient": true}}'),
            Verdict.LATER,
            "5",
        ),
    ],
)
def test_answers_beside_the_codes(
    server: WhatsAppServer, answer: Answer, verdict: Verdict, code: str
) -> None:
    server.answers = [answer]
    (outcome,) = send(cloud(server), message())
    assert (outcome.verdict, outcome.code) == (verdict, code)
    assert len(server.requests) == 1, "no redirect is followed, nothing is tried twice"


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"Retry-After": "40"}, 40.0),
        (
            {
                "X-Business-Use-Case-Usage": json.dumps(
                    {"102": [{"type": "whatsapp", "estimated_time_to_regain_access": 3}]}
                )
            },
            180.0,
        ),
        ({"X-Business-Use-Case-Usage": "odd"}, CALLS),
        ({"X-Business-Use-Case-Usage": '{"102": [{}]}'}, CALLS),
        ({}, CALLS),
    ],
)
def test_the_wait_that_is_asked_for_is_kept(
    server: WhatsAppServer, headers: dict[str, str], wait: float
) -> None:
    server.answers = [Answer(code=80007, headers=headers)]
    (outcome,) = send(cloud(server), message())
    assert (outcome.verdict, outcome.retry_after) == (Verdict.LATER, wait)


def test_an_answer_without_any_words() -> None:
    body = {"error": {"code": 131026}}
    assert judge_answer(400, {}, body, "", template="confirmation") == Outcome(
        Verdict.PERMANENT, code="131026"
    )


# -- what the API checks --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"body": (Parameter("Ada"),)}, "132000", "params (1) does not match"),
        ({"body": ()}, "132000", "params (0) does not match"),
        ({"template": "unheard_of"}, "132001", "unheard_of) does not exist in en_US"),
        ({"language": "fr"}, "132001", "does not exist in fr"),
        ({"template": "draft", "body": ()}, "132001", "does not exist"),
        ({"template": "paused", "body": ()}, "132015", "paused"),
        ({"template": "off", "body": ()}, "132016", "disabled"),
        ({"template": "invoice", "body": ()}, "132000", "header"),
        ({"template": "invoice", "body": (), "header": Parameter("x")}, "132012", "DOCUMENT"),
        (
            {"template": "invoice", "body": (), "header": Media("document", "invoice.pdf")},
            "131009",
            "no link",
        ),
        ({"header": Parameter("x")}, "132000", "header"),
        ({"body": (Parameter("", ""), Parameter("x"))}, "131008", "lacks its text"),
        ({"body": (Parameter("a\nb"), Parameter("x"))}, "100", "new-line"),
        ({"body": (Parameter("a", "name"), Parameter("x", "number"))}, "132012", "no names"),
        ({"buttons": (Button(0, "url", "x"),)}, "132012", "no button"),
        ({"template": "coupon", "body": (Parameter("Ada"),)}, "131008", "requires a parameter"),
        (
            {
                "template": "coupon",
                "body": (Parameter("Ada"),),
                "buttons": (Button(0, "url", "TEA"),),
            },
            "132012",
            "takes no such parameter",
        ),
        (
            {
                "template": "coupon",
                "body": (Parameter("Ada"),),
                "buttons": (Button(0, "copy_code", ""),),
            },
            "131008",
            "lacks its value",
        ),
        ({"body": (Parameter("x" * 1000), Parameter("y" * 30))}, "132005", ""),
        (
            {"template": "named", "language": "de", "header": Parameter("1"), "body": ()},
            "100",
            "Parameter name",
        ),
        ({"to": "Ada"}, "131009", "no phone number"),
    ],
)
def test_what_does_not_fit_the_template_is_refused(
    server: WhatsAppServer, changes: dict[str, Any], code: str, words: str
) -> None:
    (outcome,) = send(cloud(server), message(**changes))
    assert outcome.code == code
    assert words in outcome.text
    assert not server.accepted


@pytest.mark.parametrize(
    ("options", "code"),
    [({"TOKEN": "EAAG-another-token"}, "190"), ({"PHONE_ID": "1"}, "100")],
)
def test_a_wrong_token_or_phone_id_holds_the_provider(
    server: WhatsAppServer, options: dict[str, str], code: str
) -> None:
    (outcome,) = send(cloud(server, **options), message())
    assert (outcome.verdict, outcome.code, outcome.holds) == (Verdict.HOLD, code, "")


@pytest.mark.parametrize(
    ("payload", "code"),
    [
        (b"no json", 100),
        (b"[]", 100),
        (b'{"messaging_product": "whatsapp", "to": "+12025550123", "type": "text"}', 131008),
        (b'{"messaging_product": "sms", "to": "+12025550123", "type": "text"}', 100),
        (b'{"messaging_product": "whatsapp", "colour": 1}', 100),
    ],
)
def test_the_server_refuses_what_is_no_template_message(
    server: WhatsAppServer, payload: bytes, code: int
) -> None:
    client, _wire = cloud(server).open()
    answer = client.post(f"{server.api_url}/{server.phone_id}/messages", data=payload, timeout=5)
    assert answer.json()["error"]["code"] == code


def test_a_refusal_names_the_parameter_that_differs(server: WhatsAppServer) -> None:
    different = "body {{2}} gets no value"
    (outcome, other) = send(
        cloud(server),
        message(body=(Parameter("Ada"),), difference=different),
        message(template="paused", body=(), difference="of no concern"),
    )
    assert outcome.text.startswith(f"confirmation (en_US): {different}. ")
    assert "of no concern" not in other.text


# -- networks -------------------------------------------------------------------------------


def test_nobody_listens() -> None:
    provider = WhatsAppCloud(
        "w",
        timeout=2,
        options={"API_URL": f"http://127.0.0.1:{find_free_port()}/v24.0", "PHONE_ID": "1"},
    )
    (outcome,) = send(provider, message())
    assert (outcome.verdict, outcome.code, outcome.theirs) == (Verdict.LATER, "refused", True)


def test_a_name_that_leads_nowhere() -> None:
    options = {"API_URL": "http://nowhere.invalid/v24.0", "PHONE_ID": "1"}
    (outcome,) = send(WhatsAppCloud("w", timeout=5, options=options), message())
    assert (outcome.verdict, outcome.code) == (Verdict.LATER, "dns")


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("accept", [True, False])
def test_a_connection_lost_after_the_request_is_unknown(
    server: WhatsAppServer, then: Any, accept: bool
) -> None:
    server.answers = [Answer(then=then, accept=accept)]
    (outcome,) = send(cloud(server), message())
    assert (outcome.verdict, outcome.code) == (Verdict.UNKNOWN, "disconnected")
    assert len(server.accepted) == accept


def test_silence_after_the_request_is_unknown(server: WhatsAppServer) -> None:
    server.answers = [Answer(then="hang")]
    (outcome,) = send(cloud(server, timeout=0.3), message())
    assert (outcome.verdict, outcome.code) == (Verdict.UNKNOWN, "timeout")


def test_a_dripping_answer_can_be_cut(server: WhatsAppServer) -> None:
    server.answers = [Answer(then="drip")]
    session = cloud(server).connect()
    began = time.monotonic()
    timer = threading.Timer(0.3, session.abort)
    timer.start()
    with closing(session):
        outcome = session.send(message())
    timer.join()
    assert outcome == Outcome(Verdict.UNKNOWN, code="aborted", theirs=True)
    assert time.monotonic() - began < 3


def test_the_token_and_the_words_are_in_no_outcome(server: WhatsAppServer) -> None:
    private = (
        server.token, "+12025550123", "12025550123", "Ada Lovelace", "7K2M-Q9XA",
    )  # fmt: skip
    server.answers = [Answer(code=131009, details=f"odd: {' '.join(private)}".upper(), times=1)]
    outcomes = send(cloud(server), message())
    provider = cloud(server, API_URL=f"http://127.0.0.1:{find_free_port()}/{server.token}")
    outcomes += send(provider, message())
    for outcome in outcomes:
        for each in private:
            assert each.lower() not in f"{outcome}".lower()


# -- templates ------------------------------------------------------------------------------


def test_templates_are_read_page_by_page(
    server: WhatsAppServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("notifications.providers.whatsapp_cloud.PAGE", 3)
    names = [each["name"] for each in cloud(server).read_templates()]
    assert names == [each.name for each in TEMPLATES]
    assert len(server.requests) == 3


def test_templates_that_cannot_be_read_say_why(server: WhatsAppServer) -> None:
    with pytest.raises(ValueError, match=r"401 \(#190\)"):
        list(cloud(server, TOKEN="EAAG-another-token").read_templates())
    server.answers = [Answer(status=200, body="[]")]
    with pytest.raises(ValueError, match="200"):
        list(cloud(server).read_templates())


# -- callbacks ------------------------------------------------------------------------------


def callback(server: WhatsAppServer, body: Any, **headers: str) -> Callback:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    signed = {"x-hub-signature-256": server.sign(raw)}
    return Callback("POST", "https://shop.example.com/hook/", signed | headers, {}, raw)


def status(server: WhatsAppServer, word: str, **more: Any) -> dict[str, Any]:
    send(cloud(server), message(7))
    return server.describe_status(server.accepted[-1], word, **more)


@pytest.mark.parametrize(
    ("word", "fate"),
    [
        ("sent", Fate.SENT),
        ("delivered", Fate.DELIVERED),
        ("read", Fate.READ),
        ("played", Fate.READ),
    ],
)
def test_statuses_become_reports(server: WhatsAppServer, word: str, fate: Fate) -> None:
    body = status(server, word)
    body["entry"][0]["changes"][0]["value"]["statuses"][0]["timestamp"] = "1767225600"
    given = callback(server, body)
    (report,) = cloud(server).receive(given)
    message_id = server.accepted[0].id
    assert report == Report(
        fate,
        message_id=message_id,
        key=f"{message_id}:{fate}",
        at=datetime(2026, 1, 1, tzinfo=UTC),
        notification_id=7,
        to="+12025550123",
    )
    assert list(cloud(server).receive(given)) == [report], "the same key whenever it comes"


@pytest.mark.parametrize("code", [*LATER, *BUSY, *HOLD, *PERMANENT, 131049, 131056, 132015])
def test_a_failure_is_judged_by_the_same_table(server: WhatsAppServer, code: int) -> None:
    told = "not to +12025550123"
    error = {"code": code, "title": "Odd", "error_data": {"details": told}}
    (report,) = cloud(server).receive(callback(server, status(server, "failed", errors=[error])))
    assert isinstance(report, Report)
    assert (report.fate, report.code) == (Fate.FAILED, str(code))
    assert report.outcome is not None
    assert not report.outcome.suppress
    verdict, wait, _suppress, holds = expected(code, "template")
    assert (report.outcome.verdict, report.outcome.retry_after, report.outcome.holds) == (
        verdict, wait, holds,
    )  # fmt: skip
    assert "2025550123" not in report.text + report.outcome.text


def test_a_person_who_opted_out_is_reported_twice(server: WhatsAppServer) -> None:
    body = status(server, "failed", errors=[{"code": 131050, "title": "Unable to deliver"}])
    failed, opted_out = cloud(server).receive(callback(server, body))
    assert isinstance(failed, Report)
    assert isinstance(opted_out, Report)
    assert (failed.fate, opted_out.fate) == (Fate.FAILED, Fate.OPTED_OUT)
    assert failed.outcome is not None
    assert failed.outcome.suppress
    assert failed.key != opted_out.key


@pytest.mark.parametrize("errors", [[], [{"code": 424242}], [{"title": "no code"}]])
def test_a_failure_without_a_known_code_is_for_good(
    server: WhatsAppServer, errors: list[dict[str, Any]]
) -> None:
    (report,) = cloud(server).receive(callback(server, status(server, "failed", errors=errors)))
    assert isinstance(report, Report)
    assert report.outcome is not None
    assert report.outcome.verdict is Verdict.PERMANENT


def test_what_is_not_about_our_messages_is_left_aside(server: WhatsAppServer) -> None:
    provider = cloud(server)
    assert provider.receive(callback(server, status(server, "deleted"))) == []
    foreign = status(server, "sent")
    foreign["entry"][0]["changes"][0]["value"]["metadata"]["phone_number_id"] = "1"
    assert provider.receive(callback(server, foreign)) == []
    account = {"field": "account_update", "value": {}}
    letter = {
        "field": "messages",
        "value": {"metadata": {"phone_number_id": server.phone_id}, "messages": [{}]},
    }
    entry = {"id": "1", "changes": [account, letter]}
    body = {"object": "whatsapp_business_account", "entry": [entry]}
    assert provider.receive(callback(server, body)) == []


@pytest.mark.parametrize("data", ["", "x", "٣", "-1", "1.5"])
def test_strange_callback_data_is_no_id(server: WhatsAppServer, data: str) -> None:
    body = status(server, "sent")
    told = body["entry"][0]["changes"][0]["value"]["statuses"][0]
    told["biz_opaque_callback_data"] = data
    told["recipient_id"] = "group-1"
    (report,) = cloud(server).receive(callback(server, body))
    assert isinstance(report, Report)
    assert (report.notification_id, report.to) == (None, "")


@pytest.mark.parametrize(
    "signature",
    ["", "sha256=", "sha256=00", "sha1=00", "ungültig", "sha256=" + "0" * 64],
)
def test_a_forged_signature_is_refused(server: WhatsAppServer, signature: str) -> None:
    given = callback(server, status(server, "read"), **{"x-hub-signature-256": signature})
    with pytest.raises(Forged):
        cloud(server).receive(given)


def test_the_signature_covers_every_byte(server: WhatsAppServer) -> None:
    good = callback(server, status(server, "read"))
    changed = Callback("POST", good.url, good.headers, {}, good.body.replace(b"read", b"sent"))
    with pytest.raises(Forged):
        cloud(server).receive(changed)
    foreign = hmac.new(b"another secret", good.body, hashlib.sha256).hexdigest()
    with pytest.raises(Forged):
        cloud(server).receive(
            callback(server, good.body, **{"x-hub-signature-256": f"sha256={foreign}"})
        )


def test_without_a_secret_nothing_is_believed(server: WhatsAppServer) -> None:
    given = callback(server, status(server, "read"))
    signed = sign("", given.body)
    for headers in ({}, {"x-hub-signature-256": signed}):
        with pytest.raises(NotConfigured):
            cloud(server, APP_SECRET="").receive(callback(server, given.body, **headers))


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe",
        b"no json",
        b"[]",
        b'{"object": "page"}',
        b'{"object": "whatsapp_business_account"}',
        b'{"object": "whatsapp_business_account", "entry": [{"changes": [3]}]}',
    ],
)
def test_what_is_signed_and_odd_is_a_bad_callback(server: WhatsAppServer, body: bytes) -> None:
    with pytest.raises(BadCallback):
        cloud(server).receive(callback(server, body))


@pytest.mark.parametrize("timestamp", ["soon", "9" * 30, None])
def test_a_strange_time_is_a_bad_callback(server: WhatsAppServer, timestamp: Any) -> None:
    body = status(server, "read")
    body["entry"][0]["changes"][0]["value"]["statuses"][0]["timestamp"] = timestamp
    with pytest.raises(BadCallback):
        cloud(server).receive(callback(server, body))


def test_the_handshake_answers_the_challenge(server: WhatsAppServer) -> None:
    def ask(**query: str) -> Any:
        named = {f"hub.{name}": value for name, value in query.items()}
        return cloud(server).receive(Callback("GET", "https://shop.example.com/", {}, named, b""))

    assert ask(mode="subscribe", verify_token=server.verify_token, challenge="42") == "42"
    for query in (
        {"mode": "subscribe", "verify_token": "wrong", "challenge": "42"},
        {"mode": "unsubscribe", "verify_token": server.verify_token, "challenge": "42"},
        {"mode": "subscribe", "verify_token": "ungültig", "challenge": "42"},
        {},
    ):
        with pytest.raises(Forged):
            ask(**query)
    with pytest.raises(NotConfigured):
        cloud(server, VERIFY_TOKEN="").receive(Callback("GET", "", {}, {}, b""))


# -- checks ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({}, set()),
        ({"COLOUR": "red"}, {"E060"}),
        ({"TOKEN": "", "PHONE_ID": ""}, {"E061"}),
        ({"API_URL": "http://graph.example.com/v24.0"}, {"E062"}),
        ({"API_URL": "graph.facebook.com/v24.0"}, {"E062"}),
        ({"API_URL": ""}, set()),
        ({"BUSINESS_ID": ""}, {"W060"}),
        ({"APP_SECRET": ""}, {"W060"}),
    ],
)
def test_the_check(server: WhatsAppServer, options: dict[str, str], found: set[str]) -> None:
    messages = cloud(server, **options).check()
    assert {str(each.id).rpartition(".")[2] for each in messages} == found
    assert server.token not in repr(messages)

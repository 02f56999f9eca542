"""The answers to rejected clients, octet for octet."""

from __future__ import annotations

import json

import pytest

from jwsgate.core.answers import ANSWERS, LAST_RESORT_BODY, TRANSACTION_HEADER, Answer
from jwsgate.core.reasons import Reason

ALL = pytest.mark.parametrize("reason", Reason)


@ALL
def test_every_reason_has_an_answer(reason: Reason) -> None:
    """No rejection is without one."""
    assert reason in ANSWERS


def test_no_answer_without_reason() -> None:
    """The table holds nothing else."""
    assert set(Reason) == set(ANSWERS)


@ALL
def test_bodies_are_json(reason: Reason) -> None:
    """Three members in API Connect's order, all strings, the status among them."""
    answer = ANSWERS[reason]
    expected = [
        ("httpCode", str(answer.status)),
        ("httpMessage", answer.message),
        ("moreInformation", answer.information),
    ]
    assert expected == json.loads(answer.body, object_pairs_hook=list)


@ALL
def test_bodies_have_the_spaces_of_v5(reason: Reason) -> None:
    """Clients of the original compare text."""
    answer = ANSWERS[reason]
    expected = (
        f'{{ "httpCode":"{answer.status}", "httpMessage":"{answer.message}", '
        f'"moreInformation":"{answer.information}" }}'
    )
    assert expected.encode() == answer.body


@pytest.mark.parametrize(
    ("reason", "body"),
    [
        pytest.param(
            Reason.CERTIFICATE_MISSING,
            b'{ "httpCode":"500", "httpMessage":"Internal Error", '
            b'"moreInformation":"application doesn\'t have a client cert registered" }',
            id="the-original-of-2018",
        ),
        pytest.param(
            Reason.ROUTE_UNKNOWN,
            b'{ "httpCode":"404", "httpMessage":"Not Found", "moreInformation":"No resources match requested URI" }',
            id="route-unknown",
        ),
        pytest.param(
            Reason.CLIENT_ID_UNKNOWN,
            b'{ "httpCode":"401", "httpMessage":"Unauthorized", "moreInformation":"Invalid client id or secret." }',
            id="client-id-unknown",
        ),
    ],
)
def test_bodies_of_the_product(reason: Reason, body: bytes) -> None:
    """What API Connect answers, from its documentation and from the original."""
    assert body == ANSWERS[reason].body


UNIDENTIFIED = {"client_id_missing", "client_id_repeated", "client_id_unknown", "application_disabled"}


@pytest.mark.parametrize(
    ("status", "reasons"),
    [
        pytest.param(404, {"route_unknown"}, id="404"),
        pytest.param(400, {"request_unsafe", "body_malformed"}, id="400"),
        pytest.param(403, {"route_not_allowed"}, id="403"),
        pytest.param(401, UNIDENTIFIED | {"client_certificate_missing", "client_certificate_mismatch"}, id="401"),
    ],
)
def test_statuses(status: int, reasons: set[str]) -> None:
    """Only what lies with the request itself, the client ID or what it is registered for has a status of its own."""
    assert reasons == {reason.value for reason, answer in ANSWERS.items() if answer.status == status}


def test_all_other_statuses_are_500() -> None:
    """All else is an Internal Error, as in the original."""
    apart = {400, 401, 403, 404, 408, 413, 431}
    others = {(answer.status, answer.message) for answer in ANSWERS.values() if answer.status not in apart}
    assert others == {(500, "Internal Error")}


def test_client_id_answers_tell_nothing_apart() -> None:
    """Whether a client ID exists, or its application is disabled, is nothing that an outsider learns."""
    assert len({answer for reason, answer in ANSWERS.items() if reason in UNIDENTIFIED}) == 1


def test_each_error_of_a_known_client_has_its_own_text() -> None:
    """A client's developer is told which of them it is."""
    texts = [answer.information for reason, answer in ANSWERS.items() if reason not in UNIDENTIFIED]
    assert len(texts) == len(set(texts))


@ALL
def test_texts_are_plain(reason: Reason) -> None:
    """Printable ASCII without what JSON would escape, so that the body is what it seems."""
    answer = ANSWERS[reason]
    text = answer.message + answer.information
    assert text.isascii()
    assert text.isprintable()
    assert not set(text) & set('"\\')


def test_last_resort() -> None:
    """The ready-made body is that of internal_error."""
    assert ANSWERS[Reason.INTERNAL_ERROR].body == LAST_RESORT_BODY


def test_transaction_header() -> None:
    """The product's header."""
    assert TRANSACTION_HEADER == "X-Global-Transaction-ID"


def test_answers_are_frozen() -> None:
    """One request cannot change the answer to the next."""
    with pytest.raises(AttributeError):
        Answer(200, "a", "b").status = 500  # type: ignore[misc]

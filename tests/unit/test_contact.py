"""The address of a contact: the library's normalisation, and never an error."""

from __future__ import annotations

import pytest
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lab.workload import Workload
from pipeline.lead import Lead
from pipeline.sinks import contact
from pipeline.sinks.contact import Contact, address, merged, submissions
from tests.unit.sink_contract import accepted

TEXT = st.text(min_size=1, max_size=60).filter(lambda text: not text.isspace())
PLAIN = st.builds(
    "{}@{}.{}".format,
    st.from_regex(r"\A[a-zA-Z0-9_+-]{1,9}(\.[a-zA-Z0-9_+-]{1,9})?\Z"),
    st.from_regex(r"\A[a-zA-Z0-9-]{1,9}(\.[a-zA-Z0-9-]{1,9})?\Z") | st.from_regex(r"\A[xX][nN]--[a-z0-9-]{1,6}\Z"),
    st.sampled_from(["com", "TEST", "example", *SPECIAL_USE_DOMAIN_NAMES]),
)
EMAIL = PLAIN | st.emails() | st.from_regex(r"\A[a-zA-Z0-9._+-]{1,20}@[a-zA-Z0-9.-]{1,20}\Z") | TEXT


def of(**members: str) -> str:
    return address(Lead(message_id="m", **members))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "members, wanted",
    [
        ({"email": "Ada@Example.COM"}, "ada@example.com"),
        ({"email": " ada.l+x@example.com ", "phone": "+49 30 1"}, "ada.l+x@example.com"),
        ({"email": "Jörg@EXÄMPLE.de"}, "jörg@exämple.de"),
        # Two domains, and two companies.
        ({"email": "Info@Straße.de"}, "info@straße.de"),
        ({"email": "Info@Strasse.de"}, "info@strasse.de"),
        ({"email": "no email", "phone": "+49 (0)30 1234567"}, "+49301234567"),
        ({"email": "Ada@Corp.LOCAL", "phone": "+1 (202) 555-0123"}, "+12025550123"),
        ({"email": "Ada@Corp.LOCAL"}, "ada@corp.local"),
        ({"email": "No  Email", "phone": "030 1234567"}, "no email"),
        ({"phone": "030  1234567"}, "030 1234567"),
        ({"phone": "+1 (202) 555-0123"}, "+12025550123"),
    ],
)
def test_an_address(members: dict[str, str], wanted: str) -> None:
    assert of(**members) == wanted


@given(EMAIL)
def test_the_short_cut_says_what_the_library_says(text: str) -> None:
    try:
        wanted = validate_email(text.strip(), check_deliverability=False, test_environment=True).normalized.lower()
    except EmailNotValidError:
        wanted = " ".join(text.strip().lower().split())
    assert of(email=text) == wanted


def test_the_leads_of_the_benchmark_take_the_short_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the domains of companies do, many of which have a hyphen. The library takes 40 times as long for one."""
    monkeypatch.setattr(contact, "validate_email", None)
    for number in range(200):
        assert of(email=str(Workload(1, 1).lead(number).email))


@given(st.none() | TEXT, TEXT)
def test_it_is_never_an_error_and_never_empty(email: str | None, phone: str) -> None:
    assert of(**({"email": email} if email else {}), phone=phone)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.sampled_from([None, "a", "b"])), max_size=12))
def test_a_batch_says_what_its_leads_say_one_by_one(given_leads: list[tuple[int, int, str | None]]) -> None:
    given_leads = sorted(given_leads, key=lambda one: one[1])  # as the broker's clock goes, but for its corrections
    leads = [accepted(time, message_id=f"m{n}", email=f"p{who}@example.com", name=name)
             for n, (who, time, name) in enumerate(given_leads)]  # fmt: skip
    known: dict[str, Contact] = {}
    for lead in leads:
        (one,) = submissions([lead])
        known[one.address] = merged(known[one.address], one) if one.address in known else one
    assert submissions(leads) == [known[name] for name in sorted(known)]

"""Files of leads: what is read of them, under which line, and what is refused without a word of its content."""

from __future__ import annotations

import csv
import gzip
import io
import json
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.lead import LEAD_SIZE_MAX_BYTES, Lead, encode
from pipeline.sending.entry import BadFile, FileError, Numbered, Refused, Unreadable
from pipeline.sending.files import Format, format_of_name, read
from pipeline.sending.source import Source

SAMPLE = Path(__file__).parents[1] / "leads-1000.jsonl"
SECRET = "jane.secret@private.example"


def entries(content: bytes, file_format: Format | None = None) -> list[Numbered | Refused]:
    return list(read(Source(io.BytesIO(content)), file_format))


def leads(content: bytes, file_format: Format | None = None) -> list[Lead]:
    """The leads of a file without refusals."""
    found = entries(content, file_format)
    assert [str(entry) for entry in found if isinstance(entry, Refused)] == []
    return [entry.lead for entry in found if isinstance(entry, Numbered)]


def refusals(content: bytes, file_format: Format | None = None) -> list[str]:
    return [str(entry) for entry in entries(content, file_format) if isinstance(entry, Refused)]


def bad(content: bytes, file_format: Format | None = None) -> str:
    """Why a file is refused as a whole."""
    with pytest.raises(BadFile) as error:
        entries(content, file_format)
    assert SECRET not in str(error.value)
    return str(error.value)


def members(lead: Lead) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(encode(lead))
    return found


class Endless(io.RawIOBase):
    """A stream that repeats a block, and counts how often."""

    def __init__(self, block: bytes, blocks: int) -> None:
        super().__init__()
        self.block, self.left = block, blocks

    def read(self, size: int = -1) -> bytes:
        self.left -= 1
        return self.block[:size] if self.left >= 0 else b""


class Dribble(io.RawIOBase):
    """A pipe that gives a byte at a time."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self.content = io.BytesIO(content)

    def read(self, size: int = -1) -> bytes:
        return self.content.read(1)


class TestSample:
    def test_a_thousand_lines_of_which_a_tenth_repeats_an_earlier_one(self) -> None:
        content = SAMPLE.read_bytes()
        lines = content.splitlines()
        assert len(lines) == 1000
        assert len(set(lines)) == 900
        found = leads(content)
        assert len(found) == 1000
        assert (
            len({(lead.tenant, lead.message_id) for lead in found}) == len({lead.message_id for lead in found}) == 900
        )
        assert len(content) < 400_000

    def test_they_are_of_all_kinds_and_nobody_s(self) -> None:
        found = leads(SAMPLE.read_bytes())
        kinds = {(lead.email is not None, lead.phone is not None) for lead in found}
        assert kinds == {(True, False), (False, True), (True, True)}
        domains = {lead.email.partition("@")[2] for lead in found if lead.email}
        assert all(domain.endswith(".example") or domain in ("example.com", "example.org") for domain in domains)
        assert any(lead.name and not lead.name.isascii() for lead in found)
        assert len({lead.source for lead in found}) > 3
        assert {"budget", "employees", "message", "country"} <= {name for lead in found for name in lead.fields}

    def test_compressed_it_is_the_same(self) -> None:
        content = SAMPLE.read_bytes()
        assert entries(gzip.compress(content)) == entries(content)


class TestJsonLines:
    def test_lines_keep_their_numbers_and_ids(self) -> None:
        content = b'\xef\xbb\xbf\n{"message_id":"a","phone":"1"}\r\n\n  \n {"message_id":"b","phone":"2"}'
        assert [(e.line, e.lead.message_id) for e in entries(content) if isinstance(e, Numbered)] == [
            (2, "a"),
            (5, "b"),
        ]

    def test_what_is_refused(self) -> None:
        lines = [
            b'{"name":"%b"}' % SECRET.encode(),
            b'{"email":"%b","tenant":"%b"}' % ((SECRET.encode(),) * 2),
            b'{"email":"%b"' % SECRET.encode(),
            b'"%b"' % SECRET.encode(),
            b'{"email":"\xff%b"}' % SECRET.encode(),
            b'{"message_id":"","email":"%b"}' % SECRET.encode(),
        ]
        found = refusals(b"{}\n" + b"\n".join(lines))
        assert [line.split(": ")[:2] for line in found[:3]] == [
            ["line 1", "email"],
            ["line 2", "email"],
            ["line 3", "tenant"],
        ]
        assert found[4:] == [
            "line 5: expected an object, got a string",
            "line 6: is not UTF-8",
            "line 7: message_id: expected a string of length >= 1",
        ]
        assert SECRET not in "".join(found)

    def test_a_line_at_the_limit_and_one_over_it(self) -> None:
        def line(size_bytes: int) -> bytes:
            head = b'{"message_id":"a","captured_at":"2026-01-01T00:00:00Z","phone":"1","tenant":"default","x":"'
            return head + b"x" * (size_bytes - len(head) - 2) + b'"}'

        # What is encoded has `fields` around the unknown member.
        assert len(leads(line(LEAD_SIZE_MAX_BYTES - 100) + b"\n")) == 1
        for size_bytes in (LEAD_SIZE_MAX_BYTES + 1, LEAD_SIZE_MAX_BYTES + 2, LEAD_SIZE_MAX_BYTES + 3, 1_000_000):
            for end in (b"\n", b"\r\n"):
                content = line(size_bytes) + end + b'{"phone":"1"}' + end
                found = entries(content)
                assert [str(found[0])] == [f"line 1: a lead has at most {LEAD_SIZE_MAX_BYTES} bytes of JSON"]
                assert isinstance(found[1], Numbered)
                assert found[1].line == 2

    def test_a_line_without_end_is_not_kept(self) -> None:
        stream = Endless(b"{" * 65536, 1600)
        tracemalloc.start()
        try:
            found = list(read(Source(stream)))  # type: ignore[arg-type]
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert [str(entry) for entry in found] == [f"line 1: a lead has at most {LEAD_SIZE_MAX_BYTES} bytes of JSON"]
        assert stream.left < 0
        assert peak_bytes < 2_000_000

    @given(
        st.lists(st.builds(dict, email=st.text("ab@é", min_size=1), x=st.integers(-(2**53), 2**53) | st.text("é\n\"'")))
    )
    def test_leads_come_back(self, given_members: list[dict[str, Any]]) -> None:
        found = leads(b"".join(json.dumps(one).encode() + b"\n" for one in given_members), "jsonl")
        assert [{"email": lead.email, **lead.fields} for lead in found] == given_members


class TestMessageIds:
    def id_of(self, **given_members: Any) -> str:
        [lead] = leads(json.dumps(given_members).encode())
        return lead.message_id

    def test_they_follow_from_the_content(self) -> None:
        once = self.id_of(email="a@b.example", name="Ada", fields={"x": 1, "y": [2]})
        assert once == self.id_of(fields={"y": [2], "x": 1}, name="Ada", email="a@b.example")
        assert once.startswith("content-")
        assert len(once) == 36

    def test_this_one_never_changes(self) -> None:
        # Else a file that is sent again with the next version would add everything once more.
        given_members = {
            "email": "ada@example.com",
            "name": "Ada",
            "budget": 5000,
            "captured_at": "2026-01-31T12:00:00Z",
        }
        assert self.id_of(**given_members) == "content-5f139194c91fffab4e555e7a1d5a"

    def test_every_member_counts(self) -> None:
        base = {"email": "a@b.example", "phone": "1", "fields": {}}
        others: Sequence[dict[str, Any]] = [
            {},
            {"email": "c@b.example"},
            {"phone": "2"},
            {"tenant": "acme"},
            {"captured_at": "2026-01-01T00:00:00Z"},
            {"captured_at": "2026-01-01T00:00:01Z"},
            {"name": "Ada"},
            {"company": "Ada"},
            {"source": "Ada"},
            {"campaign": "Ada"},
            {"fields": {"name": "Ada"}},
            {"fields": {"n": 1}},
            {"fields": {"n": "1"}},
        ]
        assert len({self.id_of(**{**base, **other}) for other in others}) == len(others)

    def test_null_is_absent(self) -> None:
        assert self.id_of(message_id=None, phone="1", name="", captured_at=None) == self.id_of(phone="1")

    def test_csv_and_json_lines_agree(self) -> None:
        content = b"phone,Captured At,plan\n1,2026-01-01T00:00:00Z,x\n1,,x\n"
        assert [lead.message_id for lead in leads(content)] == [
            self.id_of(phone="1", captured_at="2026-01-01T00:00:00Z", plan="x"),
            self.id_of(phone="1", plan="x"),
        ]


class TestCsv:
    def test_names_in_any_usual_spelling(self) -> None:
        header = "Message ID, E-Mail ,PHONE,captured-at,Company,Budget in €,fields"
        row = 'm-1,ada@example.com,,2026-01-31T12:00:00Z,"Ada, Inc.",5000,"{""a"":1}"'
        [lead] = leads(f"\ufeff{header}\r\n{row}\r\n".encode())
        assert members(lead) == {
            "message_id": "m-1",
            "tenant": "default",
            "email": "ada@example.com",
            "company": "Ada, Inc.",
            "captured_at": "2026-01-31T12:00:00Z",
            "fields": {"a": 1, "Budget in €": "5000"},
        }

    @pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
    def test_delimiters(self, delimiter: str) -> None:
        rows = [["email", "name", "a,b;c"], ["a@b.example", "x;,|\ty", "z"]]
        out = io.StringIO()
        csv.writer(out, delimiter=delimiter).writerows(rows)
        [lead] = leads(out.getvalue().encode())
        assert (lead.email, lead.name, lead.fields) == ("a@b.example", "x;,|\ty", {"a,b;c": "z"})

    def test_one_column(self) -> None:
        assert [lead.email for lead in leads(b"email\na\n\nb\n")] == ["a", "b"]

    def test_line_numbers_are_those_of_the_file(self) -> None:
        content = b'\nphone,note\n1,"two\nlines"\n\n,\n  ,x\n2,\r\n3,a,b\n4,"x\r\n\r\ny"\n'
        found = entries(content)
        assert [entry.line for entry in found] == [3, 7, 8, 9, 10]
        assert [str(entry) for entry in found if isinstance(entry, Refused)] == [
            "line 7: email: an email or a phone is needed",
            "line 9: has 3 cells; the header has 2",
        ]
        assert [entry.lead.fields for entry in found if isinstance(entry, Numbered)] == [
            {"note": "two\nlines"},
            {},
            {"note": "x\r\n\r\ny"},
        ]

    def test_rows_that_are_refused_for_how_they_are_written(self) -> None:
        secret = SECRET.encode()
        content = b'phone,note,\n1,"%b"x\n2,\xff%b,\n3,"%b\n4,"%b\n5,ok,\n6,a,%b\n7,a,\n8,"open' % ((secret,) * 5)
        found = refusals(content)
        assert found == [
            "line 2: is not CSV; look at its quotes and line ends",
            "line 3: is not UTF-8 (column 2)",
            "lines 4 to 5: is not CSV; look at its quotes and line ends",
            "line 7: has something in column 3, which has no name in the header",
            "line 9: is not CSV; look at its quotes and line ends",
        ]
        good = [entry.lead.phone for entry in entries(content) if isinstance(entry, Numbered)]
        assert good == ["5", "7"]

    def test_a_row_with_fewer_cells_is_what_is_left_of_another(self) -> None:
        # A file that is cut off: the lead would be written without the rest, and the whole one be an id-conflict.
        assert refusals(b"message_id,email,name,plan\nm1,a@b.example,Ada,x\nm2,c@d.example,Bo") == [
            "line 3: has 3 cells; the header has 4"
        ]

    @pytest.mark.parametrize("cell", ["", "  ", '""'])
    def test_an_empty_tenant_is_not_the_default_one(self, cell: str) -> None:
        content = f"email,Tenant\na@b.example,acme\nc@d.example,{cell}\n".encode()
        assert [entry.lead.tenant for entry in entries(content) if isinstance(entry, Numbered)] == ["acme"]
        assert refusals(content) == [
            "line 3: tenant: is empty; fill it in, or leave out the column for the tenant `default`"
        ]

    def test_a_row_that_does_not_end(self) -> None:
        assert "line 3 has more than 64 KiB" in bad(b'phone,note\n1,a\n2,"' + b"x\n" * 40_000)
        assert "line 2 has more than 64 KiB" in bad(b"phone,note\n1," + b"x" * 70_000)

    def test_what_comes_before_it_is_read(self) -> None:
        found = read(Source(io.BytesIO(b'phone,note\n1,a\n2,"' + b"x\n" * 40_000)))
        assert isinstance(next(found), Numbered)
        with pytest.raises(BadFile):
            next(found)

    @pytest.mark.parametrize(
        "content,why",
        [
            (b"email,name,Email\n", "Columns 1 and 3 have the same name"),
            (b"phone,plan,x,plan\n", "Columns 2 and 4"),
            (b"%b,Jane\n" % SECRET.encode(), "neither a column email nor phone"),
            (b"PK\x03\x04 a zip file\n", "neither a column email nor phone"),
            ("email,name\n".encode("utf-16"), "not UTF-8"),
            ("email,größe\n".encode("latin-1"), "not UTF-8"),
            (b"email,name\rx,y\r", "not CSV"),
            (b'email,"name\n', "not CSV"),
        ],
    )
    def test_headers_that_cannot_be_used(self, content: bytes, why: str) -> None:
        assert why in bad(content)

    @given(
        st.lists(
            st.tuples(*[st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)] * 3), max_size=5
        ),
        st.sampled_from(",;\t|"),
        st.sampled_from(["\n", "\r\n"]),
    )
    def test_cells_come_back(self, rows: list[tuple[str, ...]], delimiter: str, end: str) -> None:
        out = io.StringIO()
        writer = csv.writer(out, delimiter=delimiter, lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writerow(["phone", "plan", "Job Title"])
        writer.writerows(("1", *row[1:]) for row in rows)
        wanted = [
            {name: cell for name, cell in zip(("plan", "Job Title"), row[1:], strict=True) if cell.strip()}
            for row in rows
        ]
        assert [lead.fields for lead in leads(out.getvalue().encode(), "csv")] == wanted


class TestFormat:
    @pytest.mark.parametrize(
        "name,found",
        [
            ("a.jsonl", "jsonl"),
            ("/x.csv/a.ndjson.gz", "jsonl"),
            ("A.JSON", "jsonl"),
            ("a.csv", "csv"),
            ("a.csv.GZ", "csv"),
            ("a.gz", None),
            ("a.txt", None),
            ("csv", None),
            ("-", None),
        ],
    )
    def test_by_name(self, name: str, found: str | None) -> None:
        assert format_of_name(name) == found

    def test_by_the_first_character(self) -> None:
        assert leads(b'\n\n  {"phone":"1"}')[0].phone == "1"
        assert leads(b"\n\nphone\n1")[0].phone == "1"

    @pytest.mark.parametrize("file_format", [None, "jsonl"])
    def test_an_array_is_refused(self, file_format: Format | None) -> None:
        assert "one object per line" in bad(b' \n [{"email":"%b"}]' % SECRET.encode(), file_format)

    @pytest.mark.parametrize("content", [b"", b"\n \n", b"\xef\xbb\xbf", gzip.compress(b"", mtime=0)])
    @pytest.mark.parametrize("file_format", [None, "jsonl", "csv"])
    def test_nothing_is_no_leads(self, content: bytes, file_format: Format | None) -> None:
        assert entries(content, file_format) == []


class TestSource:
    def test_gzip_is_known_by_its_bytes_however_they_arrive(self) -> None:
        content = gzip.compress(b'{"message_id":"a","phone":"1"}\n') + gzip.compress(
            b'{"message_id":"b","phone":"1"}\n'
        )
        source = Source(Dribble(content))  # type: ignore[arg-type]
        assert [e.lead.message_id for e in read(source) if isinstance(e, Numbered)] == ["a", "b"]
        assert source.read_bytes == len(content)

    @pytest.mark.parametrize("kept", [2, 10, -8, -100])
    def test_gzip_that_is_cut_off(self, kept: int) -> None:
        assert "cut off" in bad(gzip.compress(SAMPLE.read_bytes())[:kept])

    def test_what_comes_before_the_cut_is_read(self) -> None:
        content = gzip.compress(SAMPLE.read_bytes())
        found: list[Any] = []
        with pytest.raises(FileError):
            found.extend(read(Source(io.BytesIO(content[: len(content) // 2]))))
        assert len(found) > 100
        assert found == entries(SAMPLE.read_bytes())[: len(found)]

    @pytest.mark.parametrize("at", [3, 5000])
    def test_gzip_that_is_damaged(self, at: int) -> None:
        content = bytearray(gzip.compress(SAMPLE.read_bytes()))
        content[at : at + 40] = b"\xff" * 40
        assert bad(bytes(content))

    def test_a_stream_that_fails(self) -> None:
        class Broken(io.RawIOBase):
            def read(self, size: int = -1) -> bytes:
                raise OSError(5, "Input/output error")

        with pytest.raises(Unreadable, match="Input/output error"):
            list(read(Source(Broken())))  # type: ignore[arg-type]

    def test_a_stream_that_does_not_wait_is_not_at_its_end(self) -> None:
        class Nothing(io.RawIOBase):
            def read(self, size: int = -1) -> None:  # type: ignore[override]
                return None

        with pytest.raises(Unreadable):
            list(read(Source(Nothing())))  # type: ignore[arg-type]

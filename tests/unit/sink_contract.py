"""One suite for every sink: subclass `SinkContract` and give it a `store` fixture.

A `Store` is what stands behind a sink, seen from outside: it can be read, go away and come back, and refuse a record.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager, suppress
from datetime import UTC, datetime
from typing import Any, Protocol

import msgspec
import pytest

from pipeline.lead import Lead, decode, encode, parse
from pipeline.sinks import (
    AcceptedLead,
    Checkpoint,
    Fenced,
    Lane,
    Mark,
    RecordsRejected,
    Sink,
    SinkUnavailable,
    StreamOffset,
)
from pipeline.sinks.contact import Contact, address

__all__ = ["SinkContract", "Store", "accepted", "batch"]

SECRET = "jane.secret@example.com"


def accepted(number: int, **members: Any) -> AcceptedLead:
    """A lead of `lead-accepted` at offset `number`, in partition 3."""
    given = {"message_id": f"m{number}", "tenant": "acme", "email": SECRET, "captured_at": "2026-01-31T12:00:00Z"}
    lead = parse(given | members)
    return AcceptedLead(lead, 3, number, 1_700_000_000_000 + number, address(lead))


def batch(*numbers: int) -> list[AcceptedLead]:
    return [accepted(number) for number in numbers]


def lead_of(row: Any) -> Lead:
    """The lead in a row, whose columns are called as its members; `fields` is JSON."""
    members = {name: row[name] for name in Lead.__struct_fields__}
    if isinstance(members["captured_at"], datetime):
        members["captured_at"] = members["captured_at"].isoformat()
    lead = parse({**members, "fields": json.loads(row["fields"])})
    if row["captured_at"]:
        return lead
    return Lead(**{name: getattr(lead, name) for name in Lead.__struct_fields__ if name != "captured_at"})


class Store(Protocol):
    """What stands behind a sink."""

    def sink(self) -> Sink:
        """A new sink on this store, not opened."""

    async def rows(self) -> Sequence[tuple[Lead, int, int]]:
        """What is durable, read without the sink: lead, partition and offset, in the order of offsets."""

    async def contacts(self) -> Sequence[Contact]:
        """The contacts, in the order of tenants and addresses."""

    def outage(self) -> AbstractAsyncContextManager[None]:
        """As long as it lasts, nothing can be written."""

    async def refuse(self, message_id: str) -> None:
        """Refuse records of this name from now on, with a message that quotes the record."""


class SinkContract:
    """What `pipeline.sinks.base.Sink` promises."""

    @pytest.fixture
    async def sink(self, store: Store) -> Any:
        sink = store.sink()
        await sink.open()
        yield sink
        await sink.close()

    async def test_what_is_written_can_be_read_and_is_counted(self, sink: Sink, store: Store) -> None:
        assert await sink.write(batch(1, 2, 3)) == 3
        assert [(lead.message_id, partition, offset) for lead, partition, offset in await store.rows()] == [
            ("m1", 3, 1),
            ("m2", 3, 2),
            ("m3", 3, 3),
        ]

    async def test_every_member_arrives(self, sink: Sink, store: Store) -> None:
        full = accepted(
            1,
            phone="+49 30 123",
            name="Jané 'Doe' \"; --",
            company="Ünïcode 🙂",
            source="form",
            campaign="spring",
            captured_at="2026-01-31T14:00:00.123456+02:00",
            fields={"nested": {"list": [1, 2.5, None, True, "x"]}, "": "no name", "big": 10**30},
        )
        bare = AcceptedLead(decode(b'{"message_id":"m2","phone":"1"}'), 3, 2, 0, "1")
        await sink.write([full, bare])
        assert [lead for lead, _, _ in await store.rows()] == [full.lead, bare.lead]

    async def test_a_lead_that_is_there_stays_as_it_is(self, sink: Sink, store: Store) -> None:
        await sink.write(batch(1))
        assert await sink.write([accepted(5, message_id="m1", name="other"), accepted(2)]) == 1
        assert [(lead.name, offset) for lead, _, offset in await store.rows()] == [(None, 1), (None, 2)]

    async def test_one_name_twice_in_a_batch_is_one_row(self, sink: Sink, store: Store) -> None:
        assert await sink.write([accepted(1), accepted(2, message_id="m1"), accepted(3)]) == 2
        assert [offset for _, _, offset in await store.rows()] == [1, 3]

    async def test_message_ids_are_names_within_a_tenant(self, sink: Sink, store: Store) -> None:
        assert await sink.write([accepted(1), accepted(2, message_id="m1", tenant="other")]) == 2
        assert [lead.tenant for lead, _, _ in await store.rows()] == ["acme", "other"]

    async def test_what_was_written_is_found_by_its_name(self, sink: Sink) -> None:
        started = datetime.now(UTC)
        await sink.write(batch(1, 2))
        await sink.write([accepted(3), accepted(4, message_id="m1")])
        found = {name: await sink.find("acme", name) for name in ("m1", "m2", "m3")}
        assert len({row.record_id for row in found.values() if row}) == 3
        assert all(row and started <= row.written_at <= datetime.now(UTC) for row in found.values())
        assert await sink.find("acme", "m1") == found["m1"]
        assert [await sink.find("acme", "m9"), await sink.find("other", "m1")] == [None, None]

    async def test_it_is_found_while_others_write(self, sink: Sink, store: Store) -> None:
        other = store.sink()
        await sink.write(batch(1))
        write = asyncio.create_task(other.write(batch(*range(2, 2000))))
        while not write.done():
            assert await sink.find("acme", "m1") is not None
            await asyncio.sleep(0)
        await other.close()

    async def test_an_empty_batch(self, sink: Sink) -> None:
        assert await sink.write([]) == 0

    async def test_a_batch_of_thousands(self, sink: Sink, store: Store) -> None:
        assert await sink.write(batch(*range(3000))) == 3000
        assert len(await store.rows()) == 3000

    async def test_several_partitions_write_at_once(self, sink: Sink, store: Store) -> None:
        counts = await asyncio.gather(*(sink.write(batch(*range(n, n + 20))) for n in range(0, 100, 10)))
        assert sum(counts) == len(await store.rows()) == 110

    async def test_two_workers_write_the_same(self, sink: Sink, store: Store) -> None:
        other = store.sink()
        await other.open()
        assert await sink.write(batch(1, 2)) == 2
        assert await other.write(batch(1, 2, 3)) == 1
        await other.close()
        assert await sink.write(batch(3, 4)) == 1
        assert len(await store.rows()) == 4

    async def test_an_outage_writes_nothing_and_passes(self, sink: Sink, store: Store) -> None:
        await sink.write(batch(1))
        async with store.outage():
            for _ in range(2):
                with pytest.raises(SinkUnavailable) as failure:
                    await sink.write(batch(2))
                assert SECRET not in str(failure.value)
        assert len(await store.rows()) == 1
        assert await sink.write(batch(2)) == 1

    async def test_an_outage_while_it_starts(self, store: Store) -> None:
        sink = store.sink()
        async with store.outage():
            with suppress(SinkUnavailable):
                await sink.open()
        await sink.open()
        await sink.open()
        assert await sink.write(batch(1)) == 1
        await sink.close()

    async def test_a_write_opens_what_is_not_open(self, store: Store) -> None:
        sink = store.sink()
        assert await sink.write(batch(1)) == 1
        await sink.close()

    async def test_refused_records_are_named_and_nothing_is_written(self, sink: Sink, store: Store) -> None:
        await store.refuse("m2")
        await store.refuse("m4")
        with pytest.raises(RecordsRejected) as rejection:
            await sink.write(batch(1, 2, 3, 4, 5))
        assert sorted(rejection.value.reasons) == [1, 3]
        assert all(rejection.value.reasons.values())
        assert SECRET not in f"{rejection.value} {rejection.value.reasons}"
        assert await store.rows() == []
        assert await sink.write(batch(1, 3, 5)) == 3

    async def test_a_cancelled_write_leaves_the_sink_usable(self, sink: Sink, store: Store) -> None:
        for step in range(4):
            write = asyncio.create_task(sink.write(batch(*range(100))))
            for _ in range(step):
                await asyncio.sleep(0)
            write.cancel()
            await asyncio.gather(write, return_exceptions=True)
        await sink.write(batch(*range(100)))
        assert [offset for _, _, offset in await store.rows()] == list(range(100))

    async def test_it_can_be_closed_twice_and_opened_again(self, store: Store) -> None:
        sink = store.sink()
        await sink.close()
        for number in (1, 2):
            await sink.open()
            assert await sink.write(batch(number)) == 1
            await sink.close()
            await sink.close()
        assert len(await store.rows()) == 2

    async def test_a_new_sink_finds_what_was_written(self, sink: Sink, store: Store) -> None:
        await sink.write(batch(1))
        await sink.close()
        other = store.sink()
        await other.open()
        assert await other.write(batch(1)) == 0
        await other.close()
        assert [encode(lead) for lead, _, _ in await store.rows()] == [encode(accepted(1).lead)]

    # -- checkpoints

    async def test_a_lane_begins_where_it_is_put_and_stays_there(self, sink: Sink, store: Store) -> None:
        starts = {LANE: at(7), OTHER_LANE: at(0)}
        assert await sink.offsets(starts) == starts
        assert await sink.offsets({LANE: at(9), OTHER_LANE: at(9)}) == starts
        other = store.sink()
        assert await other.offsets({LANE: at(1)}) == {LANE: at(7)}
        await other.close()

    async def test_a_step_is_taken_with_the_rows(self, sink: Sink, store: Store) -> None:
        await sink.offsets({LANE: at(1), OTHER_LANE: at(1)})
        assert await sink.write(batch(1, 2), step(1, 3)) == 2
        assert await sink.write([], step(3, 9)) == 0
        assert await sink.offsets({LANE: at(0), OTHER_LANE: at(0)}) == {LANE: after(9), OTHER_LANE: at(1)}
        assert len(await store.rows()) == 2

    async def test_who_is_not_at_the_position_is_fenced(self, sink: Sink, store: Store) -> None:
        await sink.offsets({LANE: at(1)})
        await sink.write(batch(1, 2), step(1, 3))
        for position in (0, 1, 2, 4):
            with pytest.raises(Fenced) as fenced:
                await sink.write(batch(8, 9), step(position, 10))
            assert fenced.value.found == after(3)
        with pytest.raises(Fenced) as fenced:
            await sink.write(batch(8), Checkpoint(OTHER_LANE, 1, at(2)))
        assert fenced.value.found is None
        assert [offset for _, _, offset in await store.rows()] == [1, 2]
        assert await sink.offsets({LANE: at(0)}) == {LANE: after(3)}

    async def test_of_two_writers_at_one_position_one_wins(self, sink: Sink, store: Store) -> None:
        sinks = [store.sink() for _ in range(4)]
        await sink.offsets({LANE: at(0)})
        for position in range(0, 50, 5):
            numbers = range(position, position + 5)
            writes = [
                _write_until_decided(
                    one, [accepted(n, message_id=f"{name}-{n}") for n in numbers], step(position, position + 5)
                )
                for name, one in enumerate(sinks)
            ]
            results = await asyncio.gather(*writes)
            assert sorted(results) == [False, False, False, True]
        for one in sinks:
            await one.close()
        assert [offset for _, _, offset in await store.rows()] == list(range(50))

    async def test_a_refused_record_takes_no_step(self, sink: Sink, store: Store) -> None:
        await sink.offsets({LANE: at(1)})
        await store.refuse("m2")
        with pytest.raises(RecordsRejected):
            await sink.write(batch(1, 2), step(1, 3))
        assert await sink.offsets({LANE: at(0)}) == {LANE: at(1)}
        assert await sink.write(batch(1), step(1, 3)) == 1

    async def test_a_cancelled_step_is_taken_with_its_rows_or_not_at_all(self, sink: Sink, store: Store) -> None:
        await sink.offsets({LANE: at(0)})
        for turns in range(12):
            position = (await sink.offsets({LANE: at(0)}))[LANE].next_offset
            write = asyncio.create_task(
                sink.write(batch(*range(position, position + 10)), step(position, position + 10))
            )
            for _ in range(turns):
                await asyncio.sleep(0)
            write.cancel()
            await asyncio.gather(write, return_exceptions=True)
        await _settled(sink)
        position = (await sink.offsets({LANE: at(0)}))[LANE].next_offset
        assert [offset for _, _, offset in await store.rows()] == list(range(position))
        assert sum(contact.submissions for contact in await store.contacts()) == position

    async def test_an_operator_puts_a_lane(self, sink: Sink) -> None:
        await sink.put_offset(LANE, after(5))
        await sink.put_offset(LANE, at(3))
        assert await sink.offsets({LANE: at(0)}) == {LANE: at(3)}

    # -- contacts

    async def test_a_contact_for_each_address_of_a_tenant(self, sink: Sink, store: Store) -> None:
        await sink.write([
            accepted(1, email="Ada@Example.com", name="Ada"),
            accepted(2, email="ada@example.COM ", company="Engines"),
            accepted(3, email="ada@example.com", tenant="other", name="Other"),
            accepted(4, email=None, phone="+49 30 1234567"),
            accepted(5, email=None, phone="+49301234567", name="Bo"),
        ])  # fmt: skip
        base_ms = 1_700_000_000_000
        assert await store.contacts() == [
            Contact("acme", "+49301234567", base_ms + 4, base_ms + 5, 2, "Bo", None),
            Contact("acme", "ada@example.com", base_ms + 1, base_ms + 2, 2, "Ada", "Engines"),
            Contact("other", "ada@example.com", base_ms + 3, base_ms + 3, 1, "Other", None),
        ]

    async def test_only_new_rows_are_counted(self, sink: Sink, store: Store) -> None:
        await sink.write(batch(1, 2))
        await sink.write([*batch(1, 2, 3), accepted(4, message_id="m1", name="not new")])
        (contact,) = await store.contacts()
        assert (contact.submissions, contact.name) == (3, None)
        assert contact.last_seen_ms == accepted(3).time_ms

    async def test_who_was_seen_last_says_the_name(self, sink: Sink, store: Store) -> None:
        for number, name in ((5, "later"), (3, "earlier"), (6, None)):
            await sink.write([accepted(number, name=name, company="first" if number == 3 else None)])
        (contact,) = await store.contacts()
        assert (contact.name, contact.company) == ("later", "first")
        assert (contact.first_seen_ms, contact.last_seen_ms) == (accepted(3).time_ms, accepted(6).time_ms)

    async def test_within_a_batch_the_clock_of_the_broker_may_go_back(self, sink: Sink, store: Store) -> None:
        leads = [
            accepted(number, message_id=f"b{number}", name=name) for number, name in ((1, "a"), (3, None), (2, "b"))
        ]
        await sink.write([msgspec.structs.replace(one, offset=n) for n, one in enumerate(leads)])
        (contact,) = await store.contacts()
        assert contact.name == "b"

    async def test_writers_of_the_same_contacts_do_not_stop_each_other(self, sink: Sink, store: Store) -> None:
        sinks = [store.sink() for _ in range(4)]

        async def write(worker: int, one: Sink) -> None:
            for turn in range(10):
                numbers = range(20) if (worker + turn) % 2 else range(19, -1, -1)
                leads = [accepted(n, message_id=f"{worker}-{turn}-{n}", email=f"p{n}@example.com") for n in numbers]
                await _write_until_decided(one, leads, None)

        await asyncio.gather(*(write(number, one) for number, one in enumerate(sinks)))
        for one in sinks:
            await one.close()
        assert [contact.submissions for contact in await store.contacts()] == [40] * 20


LANE = Lane("leads", "lead-accepted", 3)
OTHER_LANE = Lane("other", "lead-accepted", 3)


def at(offset: int) -> StreamOffset:
    """The start of a log."""
    return StreamOffset(offset, "a-log")


def after(offset: int) -> StreamOffset:
    """Somewhere in it."""
    return StreamOffset(offset, "a-log", Mark(offset - 1, 1_700_000_000_000 + offset - 1, b"acme/m\xff"))


def step(position: int, next_offset: int) -> Checkpoint:
    return Checkpoint(LANE, position, after(next_offset))


async def _write_until_decided(sink: Sink, leads: Sequence[AcceptedLead], checkpoint: Checkpoint | None) -> bool:
    """Write as the delivery does; returns whether it was written, or fenced."""
    while True:
        try:
            await sink.write(leads, checkpoint)
            return True
        except Fenced:
            return False
        except SinkUnavailable:  # SQLite's lock
            await asyncio.sleep(0)


async def _settled(sink: Sink) -> None:
    """Wait until a cancelled write has come to its end: of whoever moves the lane first, the other is fenced."""
    while True:
        position = (await sink.offsets({LANE: at(0)}))[LANE].next_offset
        with suppress(Fenced, SinkUnavailable):
            await sink.write([], Checkpoint(LANE, position, at(position)))
            return

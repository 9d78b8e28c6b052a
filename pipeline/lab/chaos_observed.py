"""What came of a chaos run: everything that can be observed when it is at rest, read for the checker."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from random import Random
from typing import Any

from pipeline.lab.chaos_leads import ChaosLeads
from pipeline.lab.checker import Checker, Record
from pipeline.lab.crew import Crew
from pipeline.lab.crm import Crm
from pipeline.lab.history import read
from pipeline.lab.sampler import checkpoints
from pipeline.lab.topics_read import Topics
from pipeline.settings import Settings
from pipeline.topic_names import ACCEPTED, CAPTURED, DEAD_LETTER

__all__ = ["observed"]

#: Leads that workers are asked for.
ASKED = 200
ASK_MAX_S = 60.0
POLL_S = 0.1


async def observed(seed: int, history: Path, settings: Settings, crm: Crm, crew: Crew) -> Checker:
    """A checker that has seen everything, in the order that it wants. Raises `KAFKA_ERRORS` and `CRM_ERRORS`."""
    async with Topics(settings) as topics:
        checker = Checker(ChaosLeads(seed), await checkpoints(topics, crm, settings.app_id))
        for event in read(history):
            checker.event(event)
        async for record in _all(topics, CAPTURED):
            checker.captured(_place(record))
        async for record in _all(topics, DEAD_LETTER):
            checker.letter(record.key, _reason(record))
        async for row in crm.rows():
            checker.row(row)
        async for contact in crm.contacts():
            checker.contact(*contact)
        async for record in _all(topics, ACCEPTED):
            checker.accepted(_place(record))
    await _ask(checker, seed, crew)
    return checker


async def _ask(checker: Checker, seed: int, crew: Crew) -> None:
    """Ask workers what became of some leads."""
    leads, random = ChaosLeads(seed), Random(seed)
    deadline_s = time.monotonic() + ASK_MAX_S
    for number in checker.some_answered(ASKED):
        path = f"/leads/default/{leads.lead(number).message_id}"
        while (answer := await _answer(crew, random, path)) is None:
            if time.monotonic() > deadline_s:
                checker.stuck(f"workers at rest do not say within {ASK_MAX_S:g} s what became of lead {number}")
                return
            await asyncio.sleep(POLL_S)
        checker.answer(number, *answer)


async def _answer(crew: Crew, random: Random, path: str) -> tuple[str, int | None] | None:
    """State and times received, as some worker says; None while it cannot say."""
    worker = crew.worker(random.choice(sorted(crew.wanted)))
    said = await asyncio.to_thread(worker.ask, path) or {}
    state = "missing" if said.get("status") == 404 else said.get("state")
    return None if state is None else (state, said.get("times_received"))


async def _all(topics: Topics, topic: str) -> AsyncIterator[Any]:
    async for some in topics.records(topic, {}, await topics.ends(topic)):
        for record in some:
            yield record


def _place(record: Any) -> Record:
    return Record(record.partition, record.offset, record.key)


def _reason(record: Any) -> str:
    return next((value.decode(errors="replace") for name, value in record.headers if name == "reason"), "unknown")

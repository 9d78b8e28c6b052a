"""Looks during the run whether a checkpoint is ahead of a write.

The order matters: first the checkpoints, then what lies before them, then rows and dead letters. What is missing in
that order was missing when the checkpoint had passed it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from pipeline.lab.checker import Record, ahead
from pipeline.lab.crm import CRM_ERRORS, Crm
from pipeline.lab.topics_read import KAFKA_ERRORS, Topics
from pipeline.settings import Settings
from pipeline.topic_names import ACCEPTED, DEAD_LETTER

__all__ = ["Sampler", "checkpoints"]

EVERY_S = 2.0
SAMPLE_MAX_S = 30.0


async def checkpoints(topics: Topics, crm: Crm, group: str) -> dict[int, int]:
    """The next offset of each partition of `lead-accepted`: what Kafka says or the CRM, whichever is further."""
    found = await topics.committed(ACCEPTED)
    for number, offset in (await crm.checkpoints(group)).items():
        found[number] = max(offset, found.get(number, 0))
    return found


class Sampler:
    """Looks again and again. A look that a fault spoils is made up for by the next one.

    Arguments:
        settings: of the workers, but for the proxies.
        crm: the database.
    """

    def __init__(self, settings: Settings, crm: Crm) -> None:
        #: Looks that were finished, those that were not, and the records that were looked at.
        self.looks = 0
        self.failed = 0
        self.records = 0
        self.found: list[Record] = []
        self._settings = settings
        self._crm = crm
        self._checked: dict[int, int] = {}
        self._letters: set[bytes | None] = set()
        self._letters_read: dict[int, int] = {}

    async def run(self) -> None:
        """Look until this is cancelled."""
        while True:
            try:
                async with Topics(self._settings) as topics:
                    while True:
                        await asyncio.sleep(EVERY_S)
                        async with asyncio.timeout(SAMPLE_MAX_S):
                            await self.look(topics)
            except (*KAFKA_ERRORS, *CRM_ERRORS):
                self.failed += 1
            await asyncio.sleep(EVERY_S)

    async def look(self, topics: Topics) -> None:
        """Look at what the checkpoints have passed since the last look."""
        reached = await checkpoints(topics, self._crm, self._settings.app_id)
        records: list[Record] = []
        async for some in topics.records(ACCEPTED, self._checked, reached):
            records += [Record(one.partition, one.offset, one.key) for one in some]
        there = await self._crm.present(one.key for one in records if one.key is not None)
        missing = [one for one in records if one.key not in there]
        if missing:
            await self._read_letters(topics)
        self.found += ahead(reached, missing, is_there=self._letters.__contains__)
        self._checked = reached
        self.looks += 1
        self.records += len(records)

    async def _read_letters(self, topics: Topics) -> None:
        ends: dict[int, Any] = await topics.ends(DEAD_LETTER)
        async for some in topics.records(DEAD_LETTER, self._letters_read, ends):
            self._letters |= {one.key for one in some}
        self._letters_read = ends

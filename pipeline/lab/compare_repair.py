"""To find the damage and mend it, and how long that takes. Each way is a process, its start included."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping, Sequence

import asyncpg

from pipeline.lab import compare_crm
from pipeline.lab.compare_contenders import Contender, Place
from pipeline.lab.compare_result import OUR_TOOL, SCRIPT, Repair
from pipeline.lab.program import LabError, Program

__all__ = ["left", "repair"]

#: The status with which it says that something is amiss.
_AMISS = 1
_REPAIR_MAX_S = 300.0
_POLL_S = 0.02


async def repair(contender: Contender, place: Place, missing: int) -> Repair:
    """Mend what can be mended; `missing` leads are, as the comparison has found.

    Raises:
        LabError: what is to mend it does not run.
    """
    return await (_ours(contender, place, missing) if contender.is_ours else _generic(contender, place))


async def _ours(contender: Contender, place: Place, missing: int) -> Repair:
    """`leads audit`, and when something is missing `leads audit --mend`."""
    environ = contender.environ(place)
    audit_s, status, _ = await _run(["pipeline", "audit"], environ, place, (os.EX_OK, _AMISS))
    agrees = (status == _AMISS) == bool(missing)
    if not missing:
        return Repair(OUR_TOOL, audit_s, 0.0, 0, agrees)
    mend_s, _, _ = await _run(["pipeline", "audit", "--mend"], environ, place, (os.EX_OK, _AMISS))
    return Repair(OUR_TOOL, audit_s, mend_s, missing, agrees)


async def _generic(contender: Contender, place: Place) -> Repair:
    environ = {"LAB_BOOTSTRAP": place.bootstrap, "LAB_TOPIC": contender.topics[0], "LAB_CRM_URL": place.crm_url}
    taken_s, _, said = await _run(["pipeline.lab.plain_repair"], environ, place, (os.EX_OK,))
    mended, mend_s = said.split()[-2:]
    return Repair(SCRIPT, taken_s - float(mend_s), float(mend_s), int(mended))


async def _run(
    module: Sequence[str], environ: Mapping[str, str], place: Place, expected: Sequence[int]
) -> tuple[float, int, str]:
    """How long it took, its exit status, and the end of what it said."""
    with Program(module, environ, place.directory / "repair.log") as program:
        while (status := program.status) is None:
            if time.monotonic() - program.started_s > _REPAIR_MAX_S:
                raise LabError(f"The repair does not end:\n{program.last_lines()}")
            await asyncio.sleep(_POLL_S)
        taken_s = time.monotonic() - program.started_s
        if status not in expected:
            raise LabError(f"The repair ended with status {status}:\n{program.last_lines()}")
        return taken_s, status, program.last_lines()


async def left(url: str, accepted: int) -> tuple[int, int]:
    """Leads that are missing, and submissions counted too often, as they stand now."""
    connection = await asyncpg.connect(url)
    try:
        counted = await compare_crm.counts(connection)
    finally:
        await connection.close()
    return accepted - counted.rows, counted.submissions - counted.rows

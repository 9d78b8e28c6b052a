"""Which Kafka cluster a data directory belongs to: noted at the first start, compared at every later one.

What a table knows is true for the cluster that it was made from. Beside another one it would take leads for repeats
that were never forwarded there. The engine finds that out too, by the ids of topics, and rebuilds the tables in
silence; here a human is asked, because a directory beside the wrong cluster is mostly a mistake in the settings.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from pipeline.slots import unwritable

__all__ = ["WrongCluster", "noted_cluster", "require_cluster"]


class WrongCluster(RuntimeError):
    """The data directory belongs to another cluster; the text says what to do."""

    #: The exit status (sysexits.h): a restart does not mend it.
    status = os.EX_CONFIG


def require_cluster(data_dir: Path, cluster_id: str | None) -> None:
    """Check that `data_dir`, which exists, is of the cluster `cluster_id`; one that is of none is of it from now on.

    None is the id of a cluster that is too old to have one, and is not compared.

    Raises:
        WrongCluster: it is of another cluster.
        SlotError: it cannot be written.
    """
    file = _note_in(data_dir)
    if cluster_id is None:
        return
    try:
        noted = _noted(file, cluster_id)
    except OSError as error:
        raise unwritable(file, error) from None
    if noted != cluster_id:
        raise WrongCluster(
            f"{file.parent} holds the state of the Kafka cluster {noted}, and the broker is of the cluster "
            f"{cluster_id}. Set LEADS_BROKER_URL to the former, or LEADS_DATA_DIR to another directory; or delete "
            f"{file}, and the tables are rebuilt from the new cluster."
        )


def noted_cluster(data_dir: Path) -> str | None:
    """The id of the cluster that `data_dir` is of; None: it is of none yet.

    Raises:
        SlotError: the note cannot be read.
    """
    file = _note_in(data_dir)
    try:
        return file.read_text().strip() if file.exists() else None
    except OSError as error:
        raise unwritable(file, error) from None


def _note_in(data_dir: Path) -> Path:
    return data_dir.absolute() / "cluster-id"


def _noted(file: Path, cluster_id: str) -> str:
    if not file.exists():
        mine = file.with_name(f"{file.name}.{os.getpid()}")
        try:
            _write(mine, f"{cluster_id}\n")
            # Of workers that start at once one is first; a half-written file is never seen.
            with suppress(FileExistsError):
                file.hardlink_to(mine)
        finally:
            mine.unlink(missing_ok=True)
    return file.read_text().strip()


def _write(file: Path, text: str) -> None:
    with file.open("w") as opened:
        opened.write(text)
        opened.flush()
        os.fsync(opened.fileno())

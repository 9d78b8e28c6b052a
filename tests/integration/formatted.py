"""What Kafka's tool writes when it formats a storage, kept for the next broker of the tests: a JVM less for each.

It is the same for all but for the ids: each broker is of a cluster of its own.
"""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.embedded.config import STORAGE
from pipeline.embedded.storage import cluster_id

_META = "meta.properties"
_METADATA = "__cluster_metadata-0/00000000000000000000-0000000000.checkpoint"
_IDS = re.compile(r"^((?:cluster|directory)\.id)=.*", re.MULTILINE)

_kept: dict[str, bytes] = {}


def keep(data_dir: Path) -> None:
    """Remember it, as it was written for the broker in `data_dir`, which has just been started for the first time."""
    _kept.update({name: (data_dir / STORAGE / name).read_bytes() for name in (_META, _METADATA)})


def give(data_dir: Path) -> None:
    """Write it into `data_dir`, if it is known by now and nothing is there."""
    storage = data_dir / STORAGE
    if not _kept or storage.exists():
        return
    (storage / _METADATA).parent.mkdir(parents=True)
    (storage / _METADATA).write_bytes(_kept[_METADATA])
    # Kafka writes this last, and so it is done here. Nobody compares the two ids with each other.
    fresh = cluster_id(data_dir)
    (storage / _META).write_text(_IDS.sub(lambda found: f"{found[1]}={fresh}", _kept[_META].decode()))

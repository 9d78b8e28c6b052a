"""What we override of Faust, mode, aiokafka and aiohttp, or rely on of their insides, is still what we read (rule 12).

Exact versions are required in pyproject.toml, and every such method is pinned here by a hash of its source. When a
test fails after an upgrade: read the new source, compare it with ours, then paste into `upstream.py` what is printed by

    python -m tests.unit.test_overrides
"""

from __future__ import annotations

import ast
import hashlib
import importlib
import importlib.metadata
import inspect
import pkgutil
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from faust.transport import consumer

import pipeline
import pipeline.batches
from tests.unit.upstream import BEHAVIOUR, PINNED, PRIVATE

ROOT = Path(pipeline.__file__).parents[1]
VERSIONS = {"aiohttp": "3.14.5", "aiokafka": "0.14.0", "faust-streaming": "0.15.3", "mode-streaming": "0.7.1"}
UPSTREAM = frozenset(("aiohttp", "aiokafka", "faust", "mode"))
#: What `abc`, Faust and mode put into every subclass by themselves.
GENERATED = frozenset(("_abc_impl", "_tasks", "abstract", "logger"))
#: Private names that belong to the standard library.
NOT_UPSTREAM = frozenset(("_exit", "_fields", "_replace"))


def ours() -> Iterator[tuple[type, str, type]]:
    """Each attribute of a class of ours that shadows one of theirs: our class, its name, their class."""
    for module in [*_engine(), "pipeline.web.fast_path"]:
        classes = vars(importlib.import_module(module)).values()
        for cls in (one for one in classes if inspect.isclass(one) and one.__module__ == module):
            for name in sorted(vars(cls).keys() - GENERATED):
                # A constant in capitals is a member of a protocol, which every message has to say.
                if name == "__init__" or not (name.startswith("__") or name.isupper()):
                    yield from ((cls, name, base) for base in _shadowed(cls, name))


def _engine() -> list[str]:
    return [module.name for module in pkgutil.iter_modules(pipeline.batches.__path__, "pipeline.batches.")]


def _shadowed(cls: type, name: str) -> list[type]:
    bases = (base for base in cls.__mro__[1:] if base.__module__.partition(".")[0] in UPSTREAM)
    return [base for base in bases if name in vars(base)][:1]


def overridden() -> dict[str, str]:
    """Their method -> ours that takes its place."""
    return {f"{base.__module__}:{base.__qualname__}.{name}": f"{cls.__qualname__}.{name}" for cls, name, base in ours()}


@cache
def source(name: str) -> str:
    """The source of `module:Class.member`; of a class if the member is one."""
    module, _, path = name.partition(":")
    member: Any = importlib.import_module(module)
    for part in path.split("."):
        member = inspect.getattr_static(member, part)
        if inspect.isclass(member) and member.__module__.startswith("pipeline."):
            member = member.__mro__[1]  # ours has taken its place (pipeline.records)
    return inspect.getsource(_function(member))


def _function(member: Any) -> Any:
    for wrapping in ("fset", "fget", "fun", "__func__"):
        member = getattr(member, wrapping, None) or member
    return inspect.unwrap(member)


def digest(name: str) -> str:
    return hashlib.sha256(source(name).encode()).hexdigest()[:12]


def wanted() -> list[str]:
    """Every name that must be pinned."""
    return sorted({*overridden(), *PRIVATE.values(), *BEHAVIOUR})


def private_names() -> dict[str, str]:
    """Private names that our code uses and does not define -> a module that does."""
    used: dict[str, str] = {}
    for path in sorted({*ROOT.glob("pipeline/**/*.py"), *ROOT.glob("agents/*.py"), *ROOT.glob("tables/*.py")}):
        tree = ast.parse(path.read_text())
        nodes = list(ast.walk(tree))
        own = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)}
        own |= {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
        annotated = (node.target for node in nodes if isinstance(node, ast.AnnAssign))
        own |= {target.id for target in annotated if isinstance(target, ast.Name)}
        own -= PRIVATE.keys()
        attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)} - own - NOT_UPSTREAM
        used |= {name: str(path.relative_to(ROOT)) for name in attributes if re.match(r"_[^_]", name)}
    return used


@pytest.mark.parametrize("package", sorted(VERSIONS))
def test_the_versions_are_the_ones_that_were_read(package: str) -> None:
    assert importlib.metadata.version(package) == VERSIONS[package]
    assert f'"{package}=={VERSIONS[package]}"' in (ROOT / "pyproject.toml").read_text()


@pytest.mark.parametrize("name", sorted(PINNED))
def test_their_source_is_the_one_that_was_read(name: str) -> None:
    whose = overridden().get(name)
    why = f"{whose} takes its place" if whose else "we rely on how it works"
    assert digest(name) == PINNED[name], (
        f"{name} has another source than the one that was read, and {why}. Read it, see whether ours still fits, then "
        f"update the table: python -m tests.unit.test_overrides. It is now:\n{source(name)}"
    )


def test_every_override_is_pinned() -> None:
    missing = {theirs: mine for theirs, mine in overridden().items() if theirs not in PINNED}
    assert not missing, f"new overrides; read their source, then: python -m tests.unit.test_overrides\n{missing}"


def test_everything_that_we_rely_on_is_pinned_and_nothing_else() -> None:
    assert sorted(PINNED) == wanted()


def test_every_private_name_that_we_use_is_listed() -> None:
    unlisted = {name: path for name, path in private_names().items() if name not in PRIVATE}
    assert not unlisted, f"private names of others in our code; add them to PRIVATE: {unlisted}"
    assert sorted(PRIVATE.keys() - private_names().keys()) == []


@pytest.mark.parametrize("name", sorted(PRIVATE))
def test_a_private_name_occurs_where_we_say(name: str) -> None:
    assert re.search(rf"\b{name}\b", source(PRIVATE[name]))


def test_a_changed_source_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def perform_seek(self: object) -> None: ...

    name = "faust.transport.consumer:Consumer.perform_seek"
    monkeypatch.setattr(consumer.Consumer, "perform_seek", perform_seek)
    source.cache_clear()
    try:
        assert digest(name) != PINNED[name]
    finally:
        source.cache_clear()


if __name__ == "__main__":
    for wanted_name in wanted():
        print(f'    "{wanted_name}": "{digest(wanted_name)}",')

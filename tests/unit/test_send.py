"""`leads send` as a program: what it says, and with which status it ends."""

from __future__ import annotations

import asyncio
import gzip
import os
import pty
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from pipeline.embedded import free_port
from tests.unit.send_worker import SECRET, Worker, accept, answering

SAMPLE = Path(__file__).parents[1] / "leads-1000.jsonl"
SUMMARY = "1,000 leads accepted (900 different message ids), 0 lines refused.\n"
GOOD = b'{"message_id":"a","email":"%b"}\n' % SECRET.encode()
REFUSED = b'{"name":"%b"}\n' % SECRET.encode()


@dataclass
class Done:
    status: int
    out: str
    err: str


async def start(*args: str, **options: Any) -> asyncio.subprocess.Process:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEADS_")}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    command = [sys.executable, "-m", "pipeline", "send", *args]
    return await asyncio.create_subprocess_exec(*command, env={**environment, **pipes.pop("env", {})}, **pipes)


async def send(*args: str, stdin: bytes = b"", **options: Any) -> Done:
    """Run it; nothing that it says may hold what is in the file."""
    process = await start(*args, **options)
    out, err = await process.communicate(stdin)
    done = Done(process.returncode or 0, out.decode(), err.decode())
    assert SECRET not in done.out + done.err
    assert "Traceback" not in done.err
    return done


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    async with Worker().serving() as serving:
        yield serving


class TestSending:
    async def test_the_sample(self, worker: Worker) -> None:
        assert await send("--url", worker.url, str(SAMPLE)) == Done(0, SUMMARY, "")
        assert len(worker.accepted) == 1000
        assert len(set(worker.accepted)) == 900

    async def test_compressed_over_stdin(self, worker: Worker) -> None:
        content = gzip.compress(SAMPLE.read_bytes())
        assert await send("-", "--url", f"{worker.url}leads", stdin=content) == Done(0, SUMMARY, "")
        assert len(worker.accepted) == 1000

    async def test_a_worker_of_this_machine(self, worker: Worker) -> None:
        port = worker.url.rstrip("/").rpartition(":")[2]
        for env in ({"LEADS_CAPTURE_PORT": port}, {"LEADS_CAPTURE_PORT": "off", "LEADS_WEB_PORT": port}):
            assert (await send("-", stdin=GOOD, env=env)).status == 0
        assert worker.accepted == ["a", "a"]

    async def test_twice_gives_the_same_ids(self, worker: Worker, tmp_path: Path) -> None:
        path = tmp_path / "export.csv.gz"
        path.write_bytes(gzip.compress(b"E-Mail;Budget\na@example.com;1\nb@example.com;2\n"))
        for _ in range(2):
            assert (await send("--url", worker.url, str(path))).status == 0
        assert len(worker.accepted) == 4
        assert len(set(worker.accepted)) == 2

    async def test_the_name_decides_then_the_content_unless_told(self, worker: Worker, tmp_path: Path) -> None:
        path = tmp_path / "leads.csv"
        path.write_bytes(GOOD)
        assert (await send("--url", worker.url, str(path))).status == os.EX_DATAERR
        assert (await send("--url", worker.url, str(path), "--format", "jsonl")).status == 0
        assert worker.accepted == ["a"]

    async def test_refused_lines_are_named_and_the_others_sent(self, worker: Worker) -> None:
        done = await send("--url", worker.url, "-", stdin=REFUSED + GOOD + b'{"email":"%b"\n' % SECRET.encode())
        assert done.status == 1
        assert done.out == "1 lead accepted (1 different message id), 2 lines refused.\n"
        assert done.err.splitlines() == [
            "line 1: email: an email or a phone is needed",
            "line 3: is not complete: the JSON ends too early",
        ]
        assert worker.accepted == ["a"]

    async def test_it_gives_up(self) -> None:
        url = f"http://127.0.0.1:{free_port()}"
        done = await send("--url", url, "--patience", "0", "-", stdin=REFUSED + GOOD)
        assert done.status == os.EX_TEMPFAIL
        assert done.out == "0 leads accepted, 1 line refused, the rest not confirmed.\n"
        assert "connection refused" in done.err
        assert done.err.count("Run the same command again later") == 1

    @pytest.mark.parametrize("status", [404, 500])
    async def test_an_answer_that_is_no_worker_s(self, worker: Worker, status: int) -> None:
        worker.plays = [answering(status, f"<html>{SECRET}")]
        done = await send("--url", worker.url, "-", stdin=GOOD)
        assert (done.status, done.out) == (os.EX_UNAVAILABLE, "")
        assert done.err.startswith(f"Error: {worker.url}leads answers {status}")
        assert done.err.count("\n") == 1

    async def test_ctrl_c_says_how_far_it_came(self, worker: Worker) -> None:
        answered = asyncio.Event()

        async def second(request: web.Request, leads: list[dict[str, Any]]) -> web.StreamResponse:
            answered.set()
            await asyncio.Event().wait()
            return web.Response()

        # One lane: the second request follows when the first is counted.
        content = b"".join(b'{"message_id":"a","phone":"%d"}\n' % n for n in range(400))
        worker.plays = [accept, second]
        process = await start("--url", worker.url, "-")
        assert process.stdin is not None
        process.stdin.write(content)  # and it stays open: the reader waits for more
        await process.stdin.drain()
        process.stdin.write(content)
        await answered.wait()
        process.send_signal(signal.SIGINT)
        assert process.stdout is not None
        assert process.stderr is not None
        out = (await process.stdout.read()).decode()
        assert out == "Stopped. 200 leads accepted (1 different message id), 0 lines refused, the rest not confirmed.\n"
        assert "Run the same command again" in (await process.stderr.read()).decode()
        assert await process.wait() == 130
        process.stdin.close()

    async def test_a_bar_where_somebody_looks(self, worker: Worker) -> None:
        ours, theirs = pty.openpty()
        process = await start("--url", worker.url, "-", stderr=theirs, env={"TERM": "xterm", "COLUMNS": "100"})
        os.close(theirs)
        out, _ = await process.communicate(REFUSED + GOOD)
        assert out.decode() == "1 lead accepted (1 different message id), 1 line refused.\n"
        shown = b""
        try:
            while block := os.read(ours, 65536):
                shown += block
        except OSError:  # how Linux says that the other side of a terminal is closed
            pass
        os.close(ours)
        assert b"1 sent" in shown
        assert b"leads/s" in shown
        assert b"line 1: email: an email or a phone is needed" in shown
        assert SECRET.encode() not in shown


class TestFiles:
    async def test_a_dry_run_needs_no_worker(self) -> None:
        done = await send("--dry-run", str(SAMPLE))
        assert done == Done(0, "1,000 leads valid (900 different message ids), 0 lines refused, nothing sent.\n", "")

    async def test_a_dry_run_refuses_the_same(self) -> None:
        done = await send("--dry-run", "-", stdin=REFUSED + GOOD)
        assert done.out == "1 lead valid (1 different message id), 1 line refused, nothing sent.\n"
        assert (done.status, done.err) == (1, "line 1: email: an email or a phone is needed\n")

    @pytest.mark.parametrize("dry", [True, False])
    async def test_a_file_that_is_cut_off(self, worker: Worker, dry: bool) -> None:
        content = gzip.compress(SAMPLE.read_bytes())[:-10]
        done = await send(*(["--dry-run"] if dry else ["--url", worker.url]), "-", stdin=content)
        assert done.status == os.EX_DATAERR
        assert done.err == (
            "Error: stdin cannot be used. It is cut off: its compressed part does not end. Get the whole file.\n"
        )
        assert "0 lines refused" in done.out
        assert done.out.endswith("the rest not read.\n")
        assert dry or len(worker.accepted) > 0

    async def test_an_array(self, worker: Worker) -> None:
        done = await send("--url", worker.url, "-", stdin=b"[%b]" % GOOD)
        assert (done.status, done.out) == (os.EX_DATAERR, "")
        assert done.err.startswith("Error: stdin cannot be used. It holds a JSON array: write one object per line")

    async def test_an_object_laid_out_over_lines(self, worker: Worker) -> None:
        done = await send("--url", worker.url, "-", stdin=b'{\n  "email": "%b"\n}\n' % SECRET.encode())
        assert (done.status, done.out) == (os.EX_DATAERR, "")
        assert done.err == (
            "Error: stdin cannot be used. It holds JSON laid out over several lines: write one object per line, as "
            "`jq -c .` does.\n"
        )

    async def test_files_that_cannot_be_read(self, tmp_path: Path) -> None:
        for path in (tmp_path, tmp_path / "none.jsonl"):
            done = await send("--dry-run", str(path))
            assert (done.status, done.out) == (os.EX_NOINPUT, "")
            assert done.err.startswith(f"Error: {path} cannot be read: ")

    async def test_stdin_that_is_closed(self) -> None:
        command = f"exec '{sys.executable}' -m pipeline send --dry-run - <&-"
        done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)  # noqa: ASYNC221
        assert (done.returncode, done.stderr) == (os.EX_NOINPUT, "Error: stdin cannot be read: it is closed.\n")

    async def test_stderr_that_is_closed(self, worker: Worker) -> None:
        command = f"exec '{sys.executable}' -m pipeline send --url {worker.url} - 2>&-"
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", command, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        out, _ = await process.communicate(REFUSED + GOOD)
        assert (process.returncode, out.decode()) == (1, "1 lead accepted (1 different message id), 1 line refused.\n")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
    async def test_stdout_on_a_disk_that_is_full(self, worker: Worker) -> None:
        full = os.open("/dev/full", os.O_WRONLY)
        process = await start("--url", worker.url, "-", stdout=full)
        os.close(full)
        _, err = await process.communicate(GOOD)
        assert process.returncode == os.EX_IOERR
        assert err.decode() == (
            "Error: stdout takes nothing (No space left on device). It would say: "
            "1 lead accepted (1 different message id), 0 lines refused.\n"
        )

    async def test_nothing(self, worker: Worker) -> None:
        assert await send("--url", worker.url, "-") == Done(0, "0 leads accepted, 0 lines refused.\n", "")
        assert worker.arrays == []

    @pytest.mark.parametrize("url", ["127.0.0.1:6066", "http://me:s3cret@h/?x=1", f"http://{'a' * 70}.example/"])
    async def test_a_url_that_is_none(self, url: str) -> None:
        done = await send("--url", url, "-")
        assert done.status == 2
        assert "write it as http://host:6066" in done.err
        assert "s3cret" not in done.err


def test_it_does_not_load_the_app() -> None:
    script = """
import sys
from pipeline.__main__ import main
try:
    main(["send", "--dry-run", "-"])
except SystemExit as end:
    assert not end.code
sys.exit(" ".join(sys.modules.keys() & {"faust", "aiokafka", "pipeline.app"}) or 0)
"""
    done = subprocess.run([sys.executable, "-c", script], input="", capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")

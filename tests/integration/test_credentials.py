"""A Kafka of one's own that asks who is there: leads flow with the right answer; a wrong one is one sentence and 78."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from aiokafka.client import AIOKafkaClient
from aiokafka.protocol.admin import CreateAclsRequest

from pipeline.embedded import Extra, free_port
from tests.integration.installation import Installation, leads

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate"),
]

PASSWORD = "s3cret"
ALICE = {"LEADS_BROKER_USERNAME": "alice", "LEADS_BROKER_PASSWORD": PASSWORD}
BY_HAND = ("faust", "-A", "pipeline.app", "worker", "-l", "info")
_PLAIN = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_alice="{PASSWORD}";'
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule required;"


@dataclass(frozen=True)
class Guarded:
    """An installation whose broker has three listeners besides that of the tests."""

    installation: Installation
    sasl: str
    tls: str
    both: str
    ca_file: Path

    @property
    def trust(self) -> dict[str, str]:
        """The settings for TLS with its certificate."""
        return {"LEADS_BROKER_TLS": "on", "LEADS_BROKER_CA_FILE": str(self.ca_file)}


def certificate(directory: Path) -> Path:
    """A self-signed certificate of 127.0.0.1 and its key, in `both.pem`; returns the certificate alone."""
    key, ca_file = directory / "key.pem", directory / "ca.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=broker",
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", ca_file],
        check=True, capture_output=True,
    )  # fmt: skip
    (directory / "both.pem").write_text(key.read_text() + ca_file.read_text())
    return ca_file


def listeners(ports: dict[str, int]) -> dict[str, str]:
    """The properties of the listeners SASL, TLS and BOTH."""
    urls = ",".join(f"{name}://127.0.0.1:{port}" for name, port in ports.items())
    properties = {
        "listeners": urls,
        "advertised.listeners": urls,
        "listener.security.protocol.map": "SASL:SASL_PLAINTEXT,TLS:SSL,BOTH:SASL_SSL",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": "../both.pem",
    }
    for name in ("listener.name.sasl", "listener.name.both"):
        properties[f"{name}.sasl.enabled.mechanisms"] = "PLAIN,SCRAM-SHA-512"
        properties[f"{name}.plain.sasl.jaas.config"] = _PLAIN
        properties[f"{name}.scram-sha-512.sasl.jaas.config"] = _SCRAM
    return properties


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    directory = tmp_path_factory.mktemp("guarded")
    ca_file = certificate(directory)
    ports = {name: free_port() for name in ("SASL", "TLS", "BOTH")}
    scram = ["--add-scram", f"SCRAM-SHA-512=[name=alice,password={PASSWORD}]"]
    with Installation(directory, extra=Extra(listeners(ports), scram)) as installation:
        urls = {name.lower(): f"kafka://127.0.0.1:{port}" for name, port in ports.items()}
        yield Guarded(installation, **urls, ca_file=ca_file)


class TestTheRightAnswer:
    def flows(self, guarded: Guarded, **settings: str) -> None:
        """Start a worker with `settings`, and see that leads get through it."""
        installation = guarded.installation
        worker = installation.worker(**settings).wait_ready()
        installation.produce(leads(20, settings["LEADS_BROKER_URL"].rpartition(":")[2]))
        installation.wait(installation.drained)
        assert worker.stop() == 0
        assert PASSWORD not in worker.text()
        assert installation.dead_letters() == []

    def test_is_a_password_that_is_not_sent(self, guarded: Guarded) -> None:
        self.flows(guarded, LEADS_BROKER_URL=guarded.sasl, **ALICE)

    def test_is_a_certificate_that_is_trusted(self, guarded: Guarded) -> None:
        self.flows(guarded, LEADS_BROKER_URL=guarded.tls, **guarded.trust)

    def test_is_both_with_the_password_in_a_file(self, guarded: Guarded, tmp_path: Path) -> None:
        (tmp_path / "password").write_text(f"{PASSWORD}\n")
        user = {"LEADS_BROKER_USERNAME": "alice", "LEADS_BROKER_PASSWORD_FILE": str(tmp_path / "password")}
        before = len(guarded.installation.rows())
        self.flows(guarded, LEADS_BROKER_URL=guarded.both, LEADS_BROKER_SASL_MECHANISM="PLAIN", **user, **guarded.trust)
        assert len(guarded.installation.rows()) == before + 20

    def test_is_given_by_every_command(self, guarded: Guarded) -> None:
        guarded.installation.create_topics()
        skip = guarded.installation.program(
            "pipeline", "skip", "lead-captured", "0", "0", LEADS_BROKER_URL=guarded.both, **ALICE, **guarded.trust
        )
        assert skip.process.wait(60) == 0
        assert "leads goes on at 0 of lead-captured/0" in skip.text()


class TestAWrongAnswer:
    """Each ends at once, not after the time that a broker is waited for."""

    def refused(self, guarded: Guarded, *program: str, **settings: str) -> str:
        """What a program with these settings says last; its status is 78."""
        worker = guarded.installation.program(*(program or BY_HAND), LEADS_BROKER_WAIT_S="600", **settings)
        status, last = worker.refused()
        assert status == os.EX_CONFIG
        assert PASSWORD not in worker.text()
        return last

    @pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
    @pytest.mark.parametrize("wrong", [{"LEADS_BROKER_USERNAME": "bob"}, {"LEADS_BROKER_PASSWORD": "guess"}])
    def test_wrong_user_or_password(self, guarded: Guarded, mechanism: str, wrong: dict[str, str]) -> None:
        settings = {**ALICE, **wrong, "LEADS_BROKER_SASL_MECHANISM": mechanism}
        last = self.refused(guarded, LEADS_BROKER_URL=guarded.sasl, **settings)
        address = guarded.sasl.removeprefix("kafka://")
        assert last == (
            f"Cannot go on: The broker at {address} does not accept the user and the password with {mechanism}; "
            "check LEADS_BROKER_USERNAME, LEADS_BROKER_PASSWORD and LEADS_BROKER_SASL_MECHANISM."
        )

    def test_stops_up_and_every_command(self, guarded: Guarded) -> None:
        wrong = {**ALICE, "LEADS_BROKER_PASSWORD": "guess", "LEADS_BROKER_URL": guarded.sasl}
        self.refused(guarded, "pipeline", "up", **wrong)
        text = guarded.installation.workers[-1].text()
        assert "cannot run with its settings, so all is stopped: Cannot go on: The broker at" in text
        assert "guess" not in text
        last = self.refused(guarded, "pipeline", "skip", "lead-captured", "0", "0", **wrong)
        assert last.startswith("leads: The broker at")

    def test_a_mechanism_that_is_not_offered(self, guarded: Guarded) -> None:
        settings = {**ALICE, **guarded.trust, "LEADS_BROKER_SASL_MECHANISM": "SCRAM-SHA-256"}
        last = self.refused(guarded, LEADS_BROKER_URL=guarded.both, **settings)
        assert "does not offer SCRAM-SHA-256 but PLAIN, SCRAM-SHA-512; set LEADS_BROKER_SASL_MECHANISM" in last

    def test_a_user_where_none_is_asked_for(self, guarded: Guarded) -> None:
        last = self.refused(guarded, LEADS_BROKER_URL=guarded.tls, **ALICE, **guarded.trust)
        assert "asks for no user at this port; unset LEADS_BROKER_USERNAME" in last

    def test_none_where_one_is_asked_for(self, guarded: Guarded) -> None:
        assert "asks for a user; set LEADS_BROKER_USERNAME" in self.refused(guarded, LEADS_BROKER_URL=guarded.sasl)
        last = self.refused(guarded, LEADS_BROKER_URL=guarded.both, **guarded.trust)
        assert "asks for a user; set LEADS_BROKER_USERNAME" in last

    def test_no_tls_where_it_is_spoken(self, guarded: Guarded) -> None:
        assert "speaks TLS at this port; set LEADS_BROKER_TLS=on" in self.refused(guarded, LEADS_BROKER_URL=guarded.tls)
        last = self.refused(guarded, LEADS_BROKER_URL=guarded.both, **ALICE)
        assert "speaks TLS at this port; set LEADS_BROKER_TLS=on" in last

    def test_tls_where_it_is_not(self, guarded: Guarded) -> None:
        last = self.refused(guarded, LEADS_BROKER_URL=guarded.sasl, **ALICE, **guarded.trust)
        assert "speaks no TLS at this port; unset LEADS_BROKER_TLS" in last
        last = self.refused(guarded, LEADS_BROKER_URL=guarded.installation.broker.url, **guarded.trust)
        assert "speaks no TLS at this port; unset LEADS_BROKER_TLS" in last

    def test_a_certificate_that_is_not_trusted(self, guarded: Guarded) -> None:
        last = self.refused(guarded, LEADS_BROKER_URL=guarded.tls, LEADS_BROKER_TLS="on")
        assert "cannot be trusted: self-signed certificate. Set LEADS_BROKER_CA_FILE" in last

    def test_a_certificate_of_another_host(self, guarded: Guarded) -> None:
        url = guarded.tls.replace("127.0.0.1", "localhost")
        last = self.refused(guarded, LEADS_BROKER_URL=url, **guarded.trust)
        assert "certificate is not valid for 'localhost'" in last
        assert "or LEADS_BROKER_URL to the name that is in it." in last


#: Of the protocol: resources, "describe", "allow", and a name that is taken literally.
TOPIC, DESCRIBE, ALLOW, LITERAL = 2, 8, 3, 3


async def _may_describe_topics(bootstrap: list[str]) -> None:
    client = AIOKafkaClient(bootstrap_servers=bootstrap)
    await client.bootstrap()
    try:
        request = CreateAclsRequest(TOPIC, "*", LITERAL, "User:alice", "*", DESCRIBE, ALLOW)
        answer = await client.send(client.get_random_node(), request)
        assert [code for code, _ in answer.creation_responses] == [0]
    finally:
        await client.close()


def test_what_the_user_may_not_do_is_named(tmp_path: Path) -> None:
    port = free_port()
    rules = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    certificate(tmp_path)
    with Installation(tmp_path, extra=Extra({**listeners({"SASL": port}), **rules})) as installation:

        def refused() -> str:
            user = {**ALICE, "LEADS_BROKER_SASL_MECHANISM": "PLAIN"}
            status, last = installation.program(
                *BY_HAND, LEADS_BROKER_URL=f"kafka://127.0.0.1:{port}", **user
            ).refused()
            assert status == os.EX_CONFIG
            return last

        sentence = "Cannot go on: The broker does not allow the user alice to"
        assert refused().startswith(f"{sentence} create the topic lead-")
        installation.create_topics()
        asyncio.run(_may_describe_topics(installation.bootstrap))
        assert refused().startswith(f"{sentence} use the consumer group leads;")

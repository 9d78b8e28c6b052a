"""The settings: defaults, units, and refusals that say what to do."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from pipeline.settings import BadSetting, Settings, duration_s, variable


def test_without_variables_the_defaults_hold() -> None:
    settings = Settings.from_env({"PATH": "/bin", "HOME": "/root"})
    assert settings == Settings()
    assert settings.embedded
    assert settings.broker_url == "kafka://127.0.0.1:9092"
    assert settings.bootstrap == ["127.0.0.1:9092"]
    assert settings.crm_url == "sqlite:///var/crm.sqlite3"


def test_an_empty_variable_is_an_unset_one() -> None:
    assert Settings.from_env({"LEADS_BROKER_URL": ""}) == Settings()


def test_every_setting_has_a_unit_and_a_sentence() -> None:
    for field in fields(Settings):
        assert field.metadata["unit"]
        assert field.metadata["doc"].endswith(".")


@pytest.mark.parametrize(
    "name,text,value",
    [
        ("data_dir", "/tmp/x", Path("/tmp/x")),
        ("web_port", "8000", 8000),
        ("agents", "dedupe", ("dedupe",)),
        ("agents", " crm_sink , dedupe ", ("crm_sink", "dedupe")),
        ("agents", "none", ()),
        ("partitions", "12", 12),
        ("retention", "12h", 43_200.0),
        ("dedupe_window", "1.5d", 129_600.0),
        ("session_timeout_s", "6", 6.0),
        ("broker_url", "kafka.example:9092", "kafka://kafka.example:9092"),
        ("broker_url", "kafka://a:1,b:2", "kafka://a:1,b:2"),
        ("broker_port", "9192", 9192),
        ("broker_wait_s", "0.5", 0.5),
        ("broker_tls", "on", True),
        ("broker_tls", "Off", False),
    ],
)
def test_a_variable_sets_its_field(name: str, text: str, value: object) -> None:
    assert getattr(Settings.from_env({variable(name): text}), name) == value


@pytest.mark.parametrize("text,seconds", [("45s", 45.0), ("90m", 5400.0), ("2 h", 7200.0), (" 30d ", 2_592_000.0)])
def test_durations(text: str, seconds: float) -> None:
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "d", "90", "-1s", "1w", "1h30m", "nan"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="30d"):
        duration_s(text)


@pytest.mark.parametrize(
    "name,text",
    [
        ("web_port", "0"),
        ("web_port", "65536"),
        ("web_port", "http"),
        ("partitions", "0"),
        ("replication", "-1"),
        ("retention", "0s"),
        ("session_timeout_s", "soon"),
        ("agents", "dedupe,nobody"),
        ("agents", ","),
        ("agents", "none,dedupe"),
        ("app_id", "my leads"),
        ("broker_url", "kafka://a b:9092"),
        ("broker_port", "0"),
        ("broker_wait_s", "0"),
        ("broker_tls", "yes"),
        ("broker_tls", "1"),
        ("broker_sasl_mechanism", "GSSAPI"),
        ("broker_ca_file", "/nowhere/ca.pem"),
        ("broker_password_file", "/nowhere/password"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_its_variable(name: str, text: str) -> None:
    with pytest.raises(BadSetting, match=variable(name)):
        Settings.from_env({variable(name): text})


def test_the_port_of_the_embedded_broker_is_where_everybody_looks_for_it() -> None:
    settings = Settings.from_env({"LEADS_BROKER_PORT": "9192"})
    assert settings.broker_url == "kafka://127.0.0.1:9192"
    assert settings.bootstrap == ["127.0.0.1:9192"]
    assert (settings.embedded, settings.replication_factor) == (True, 1)
    assert Settings.from_env({"LEADS_BROKER_URL": "kafka://127.0.0.1:9092"}).embedded
    elsewhere = Settings.from_env({"LEADS_BROKER_PORT": "9192", "LEADS_BROKER_URL": "kafka://a:1"})
    assert (elsewhere.embedded, elsewhere.broker_url) == (False, "kafka://a:1")


SECRET = "s3cret"


def refused(**variables: str) -> str:
    """What is said to these variables; the secret must not be in it."""
    with pytest.raises(BadSetting) as caught:
        Settings.from_env({f"LEADS_{name}": value for name, value in variables.items()})
    assert SECRET not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def password_file(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text(f"{SECRET}\n")
    return file


class TestTheUserAtTheBroker:
    def test_has_a_password(self) -> None:
        settings = Settings.from_env({"LEADS_BROKER_USERNAME": "alice", "LEADS_BROKER_PASSWORD": SECRET})
        assert (settings.broker_username, settings.broker_password) == ("alice", SECRET)
        assert settings.broker_sasl_mechanism == "SCRAM-SHA-512"

    @pytest.mark.parametrize("end", ["", "\n", "\r\n"])
    def test_or_a_file_with_it_whose_line_end_does_not_count(self, password_file: Path, end: str) -> None:
        password_file.write_text(f" {SECRET} {end}", newline="")
        variables = {"LEADS_BROKER_USERNAME": "alice", "LEADS_BROKER_PASSWORD_FILE": str(password_file)}
        assert Settings.from_env(variables).broker_password == f" {SECRET} "

    def test_needs_one_of_them(self, password_file: Path) -> None:
        wanted = "With LEADS_BROKER_USERNAME give LEADS_BROKER_PASSWORD or LEADS_BROKER_PASSWORD_FILE"
        assert refused(BROKER_USERNAME="alice") == f"{wanted}."
        both = {"BROKER_PASSWORD": SECRET, "BROKER_PASSWORD_FILE": str(password_file)}
        assert refused(BROKER_USERNAME="alice", **both) == f"{wanted}, not both."

    @pytest.mark.parametrize("name,value", [("BROKER_PASSWORD", SECRET), ("BROKER_SASL_MECHANISM", "PLAIN")])
    def test_is_there_when_something_is_said_of_it(self, name: str, value: str) -> None:
        assert refused(**{name: value}) == f"LEADS_{name} is for a user: give LEADS_BROKER_USERNAME too."

    @pytest.mark.parametrize(
        "content,why",
        [(b"", "it is empty"), (b"\n", "it is empty"), (b"\xff", "not UTF-8"), (b"x" * 5000, "more than 4096 bytes")],
    )
    def test_has_no_password_that_is_none(self, password_file: Path, content: bytes, why: str) -> None:
        password_file.write_bytes(content)
        text = refused(BROKER_USERNAME="alice", BROKER_PASSWORD_FILE=str(password_file))
        assert text.startswith("LEADS_BROKER_PASSWORD_FILE cannot be used: ")
        assert why in text

    def test_has_a_file_that_can_be_read(self, tmp_path: Path) -> None:
        text = refused(BROKER_USERNAME="alice", BROKER_PASSWORD_FILE=str(tmp_path / "none"))
        assert text == "LEADS_BROKER_PASSWORD_FILE cannot be used: it cannot be read (No such file or directory)."


def test_certificates_are_for_tls(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    assert "it holds no certificate in PEM" in refused(BROKER_TLS="on", BROKER_CA_FILE=str(tmp_path / "ca.pem"))
    (tmp_path / "empty.pem").touch()
    assert "it holds no certificate in PEM" in refused(BROKER_TLS="on", BROKER_CA_FILE=str(tmp_path / "empty.pem"))


def test_a_secret_is_never_shown(password_file: Path) -> None:
    for secret in ({"LEADS_BROKER_PASSWORD": SECRET}, {"LEADS_BROKER_PASSWORD_FILE": str(password_file)}):
        settings = Settings.from_env(
            {"LEADS_BROKER_USERNAME": "alice", **secret, "LEADS_SINK_URL": f"postgresql://crm:{SECRET}@host/crm"}
        )
        assert SECRET not in repr(settings)
        assert "alice" in repr(settings)


@pytest.mark.parametrize(
    "url", [f"kafka://alice:{SECRET}@host", f"kafka://alice:{SECRET}@host:9092,other", f"a {SECRET}@"]
)
def test_a_broker_url_with_a_password_is_refused_with_the_way_to_give_it(url: str) -> None:
    assert "give them as LEADS_BROKER_USERNAME and LEADS_BROKER_PASSWORD, or" in refused(BROKER_URL=url)


@pytest.mark.parametrize("name", ["BROKER_PASSWORT", "SINK_PASSWORT", "SINK_ULR"])
def test_the_value_of_a_misspelt_variable_is_not_shown(name: str) -> None:
    assert f"LEADS_{name} is not a setting. Did you mean LEADS_" in refused(**{name: f"x://alice:{SECRET}@host"})


def test_a_misspelt_variable_is_refused_with_the_right_one() -> None:
    with pytest.raises(BadSetting, match="Did you mean LEADS_BROKER_URL"):
        Settings.from_env({"LEADS_BROKER_URI": "kafka://a:1"})


@pytest.mark.parametrize("name", ["LEADS_XYZZY", "LEADS_X", "LEADS_"])
def test_an_unknown_variable_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(BadSetting, match="LEADS_DATA_DIR, LEADS_DEDUPE_WINDOW"):
        Settings.from_env({name: "1"})


def test_many_brokers_with_a_comma_behind_are_refused_at_once() -> None:
    # In a process of its own: an expression that tries every way to split them would hold the lock of this one.
    url = f"kafka://{','.join(f'host{n}:9092' for n in range(60))},"
    code = f"from pipeline import values; values.broker_url({url!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert "ValueError: write it as kafka://host:9092" in done.stderr


def test_a_broker_of_ones_own_gets_three_replicas_of_which_two_must_answer() -> None:
    settings = Settings.from_env({"LEADS_BROKER_URL": "kafka://a,b:9093"})
    assert not settings.embedded
    assert settings.bootstrap == ["a:9092", "b:9093"]
    assert (settings.replication_factor, settings.min_insync_replicas) == (3, 2)


def test_the_embedded_broker_is_alone() -> None:
    assert (Settings().replication_factor, Settings().min_insync_replicas) == (1, 1)


def test_a_given_crm_is_taken() -> None:
    assert Settings(sink_url="postgresql://h/db").crm_url == "postgresql://h/db"


def test_a_proxy_on_this_machine_needs_a_token() -> None:
    proxies = {"LEADS_TRUSTED_PROXIES": "10.0.0.0/8, 127.0.0.1"}
    with pytest.raises(BadSetting, match=r"names this machine.* set LEADS_OPS_TOKEN"):
        Settings.from_env(proxies)
    assert len(Settings.from_env({**proxies, "LEADS_OPS_TOKEN": "x" * 16}).trusted_proxies) == 2
    assert Settings.from_env({"LEADS_TRUSTED_PROXIES": "10.0.0.7"}).ops_token == ""


def test_a_token_is_long_and_may_be_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("0123456789abcdef\n")
    assert Settings.from_env({"LEADS_OPS_TOKEN_FILE": str(file)}).ops_token == "0123456789abcdef"
    file.write_text("short")
    for given in ({"LEADS_OPS_TOKEN_FILE": str(file)}, {"LEADS_OPS_TOKEN": "se cret"}):
        with pytest.raises(BadSetting) as refused:
            Settings.from_env(given)
        assert "se cret" not in str(refused.value)

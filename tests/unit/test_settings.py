"""The settings: defaults, units, and refusals that say what to do."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from pipeline.settings import EMBEDDED_BROKER_URL, BadSetting, Settings, duration_s, variable


def test_without_variables_the_defaults_hold() -> None:
    settings = Settings.from_env({"PATH": "/bin", "HOME": "/root"})
    assert settings == Settings()
    assert settings.embedded
    assert settings.broker_url == EMBEDDED_BROKER_URL
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
        ("partitions", "12", 12),
        ("retention", "12h", 43_200.0),
        ("dedupe_window", "1.5d", 129_600.0),
        ("session_timeout_s", "6", 6.0),
        ("broker_url", "kafka.example:9092", "kafka://kafka.example:9092"),
        ("broker_url", "kafka://a:1,b:2", "kafka://a:1,b:2"),
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
        ("app_id", "my leads"),
        ("broker_url", "kafka://a b:9092"),
    ],
)
def test_a_value_that_cannot_be_used_is_refused_with_its_variable(name: str, text: str) -> None:
    with pytest.raises(BadSetting, match=variable(name)):
        Settings.from_env({variable(name): text})


def test_a_misspelt_variable_is_refused_with_the_right_one() -> None:
    with pytest.raises(BadSetting, match="Did you mean LEADS_BROKER_URL"):
        Settings.from_env({"LEADS_BROKER_URI": "kafka://a:1"})


def test_an_unknown_variable_is_refused_with_the_list() -> None:
    with pytest.raises(BadSetting, match="LEADS_DATA_DIR, LEADS_DEDUPE_WINDOW"):
        Settings.from_env({"LEADS_XYZZY": "1"})


def test_a_broker_of_ones_own_gets_three_replicas_of_which_two_must_answer() -> None:
    settings = Settings.from_env({"LEADS_BROKER_URL": "kafka://a,b:9093"})
    assert not settings.embedded
    assert settings.bootstrap == ["a:9092", "b:9093"]
    assert (settings.replication_factor, settings.min_insync_replicas) == (3, 2)


def test_the_embedded_broker_is_alone() -> None:
    assert (Settings().replication_factor, Settings().min_insync_replicas) == (1, 1)


def test_a_given_crm_is_taken() -> None:
    assert Settings(sink_url="postgresql://h/db").crm_url == "postgresql://h/db"

"""Profiles and fleets as JSON: nothing is lost, everything wrong is said, nothing else happens."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import numpy as np
import profiles
import pytest
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from powfast.errors import InvalidInput
from powfast.profile import ClientProfile, Fleet
from powfast.profile.document import schema

EXAMPLE = profiles.example()
COMMITTED = sorted((ROOT / "benchmarks" / "profiles").glob("*.json"))


@pytest.mark.parametrize("name", ["client-profile.schema.json", "fleet.schema.json"])
def test_the_schemas_are_schemas(name: str) -> None:
    Draft202012Validator.check_schema(schema(name))


def test_reading_what_was_written_loses_nothing() -> None:
    assert ClientProfile.from_json(EXAMPLE.to_json()) == EXAMPLE
    fleet = Fleet((EXAMPLE, profiles.example(1e6, 8, "phone")), (1.0, 2.5))
    assert Fleet.from_json(fleet.to_json()) == fleet
    assert Fleet.from_json(EXAMPLE.to_json()) == Fleet((EXAMPLE,), (1.0,))


def test_documents_written_keep_to_the_schema() -> None:
    plain = Draft202012Validator(schema("client-profile.schema.json"))
    plain.validate(json.loads(EXAMPLE.to_json()))


@pytest.mark.parametrize("file", COMMITTED, ids=lambda file: file.stem)
def test_measured_profiles_are_profiles(file: Any) -> None:
    profile = ClientProfile.from_json(file.read_bytes())
    assert not profile.quick
    assert profile.hash_rate > 1e5


@pytest.mark.parametrize(
    ("path", "value", "complaint"),
    [
        (("version",), 2, "$.version"),
        (("format",), "other", "$.format"),
        (("name",), "", "$.name"),
        (("name",), "red\x1b[31m", "$.name"),
        (("extra",), 1, "'extra' was unexpected"),
        (("device", "cores"), 2.0, "$.device.cores"),
        (("device", "cores"), True, "$.device.cores"),
        (("device", "cores"), 10**9, "$.device.cores"),
        (("measured",), "yesterday", "$.measured"),
        (("rates", 0, "hashes_per_second"), 0, "$.rates[0].hashes_per_second"),
        (("rates", 0, "hashes_per_second"), "many", "$.rates[0].hashes_per_second"),
        (("rates", 0, "quartiles"), [1.0], "$.rates[0].quartiles"),
        (("rates",), [], "$.rates"),
        (("sustained", "hashes_per_second"), [], "$.sustained.hashes_per_second"),
        (("solving", 0, "parts"), 1025, "$.solving[0].parts"),
        (("solving", 0, "work"), 2**64, "$.solving[0].work"),
        (("solver", "start_seconds"), -1, "$.solver.start_seconds"),
        (("server",), 5, "$.server"),
        (("server",), {}, "$.server"),
        (("kernel",), "abacus", "no rate of abacus"),
        (("solver", "threads"), 3, "no rate of shani on 3 threads"),
    ],
)
def test_what_is_wrong_is_said(path: tuple[Any, ...], value: Any, complaint: str) -> None:
    content = json.loads(EXAMPLE.to_json())
    place = content
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(InvalidInput) as caught:
        ClientProfile.from_json(json.dumps(content))
    assert complaint in str(caught.value)
    fleet = {"format": "powfast-fleet", "version": 1}
    fleet["devices"] = [{"weight": 1, "profile": content}]
    with pytest.raises(InvalidInput):
        Fleet.from_json(json.dumps(fleet))


def test_everything_wrong_is_said_at_once() -> None:
    content = json.loads(EXAMPLE.to_json()) | {"name": 3, "quick": "yes", "warnings": None}
    with pytest.raises(InvalidInput) as caught:
        ClientProfile.from_json(json.dumps(content))
    assert all(f"$.{name}" in str(caught.value) for name in ("name", "quick", "warnings"))


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "[" * 100_000, '{"a": NaN}', "\ud800", b"\xff\xfe\x00", "1" * 5000],
    ids=lambda text: repr(text[:8]),
)
def test_rubbish_is_one_typed_error(text: str | bytes) -> None:
    for read in (ClientProfile.from_json, Fleet.from_json):
        with pytest.raises(InvalidInput):
            read(text)


def test_the_error_stays_short() -> None:
    content = json.loads(EXAMPLE.to_json()) | {"rates": ["x" * 10_000] * 1000}
    with pytest.raises(InvalidInput) as caught:
        ClientProfile.from_json(json.dumps(content))
    assert len(str(caught.value)) < 10_000
    assert "and 980 more" in str(caught.value)


def test_a_missing_validator_is_a_missing_extra() -> None:
    code = """
import sys; sys.modules["jsonschema"] = None
from powfast.errors import MissingExtra
from powfast.profile import ClientProfile
try: ClientProfile.from_json("{}")
except MissingExtra as error: print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'powfast[cli]'" in done.stdout


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.sampled_from(sorted(EXAMPLE.to_dict())), json_values)
def test_any_field_of_any_value_is_read_or_refused(name: str, value: Any) -> None:
    content = json.dumps(json.loads(EXAMPLE.to_json()) | {name: value})
    try:
        profile = ClientProfile.from_json(content)
    except InvalidInput:
        return
    assert json.loads(profile.to_json()) == json.loads(content)


@pytest.mark.parametrize("weights", [(), (1.0,), (1.0, 0.0), (1.0, -1.0), (1.0, float("nan"))])
def test_a_fleet_needs_weights(weights: tuple[float, ...]) -> None:
    with pytest.raises(InvalidInput):
        Fleet((EXAMPLE, EXAMPLE), weights)


def test_a_fleet_s_rates_are_its_devices_by_weight() -> None:
    devices = [profiles.example(rate) for rate in (3e6, 1e6, 2e6)]
    fleet = Fleet(tuple(devices), (5.0, 3.0, 2.0))
    rates, counts = np.unique(fleet.hash_rate, return_counts=True)
    assert rates.tolist() == [1e6, 2e6, 3e6]
    assert (counts / counts.sum()).tolist() == [0.3, 0.2, 0.5]
    assert (np.diff(fleet.hash_rate) >= 0).all()

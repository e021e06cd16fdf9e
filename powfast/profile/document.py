"""Client profiles and fleets of them, as objects and as JSON documents.

The documents are described by the schemas beside this file. Kernels are those of
`powfast.kernel.kernels`, and `wasm-simd128` and `javascript` in a browser.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cache
from importlib.resources import files
from statistics import median
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt

from powfast.errors import InvalidInput, MissingExtra

_PROFILE = "powfast-client-profile"
_FLEET = "powfast-fleet"
_VERSION = 1
_SLOTS = 200  # of a fleet's clients, each a device
_SHOWN = 200  # characters of one complaint
_LISTED = 20  # complaints


@dataclass(frozen=True, slots=True)
class Device:
    """What was measured: the processor, and what ran on it."""

    cpu: str
    architecture: str
    features: tuple[str, ...]
    cores: int
    system: str
    agent: str


@dataclass(frozen=True, slots=True)
class Solver:
    """How this client solves: its threads, how long the first is alone, and what starting takes."""

    threads: int
    alone: int
    start_seconds: float


@dataclass(frozen=True, slots=True)
class Rate:
    """Evaluations a second of one kernel on so many threads: median and quartiles of rounds."""

    kernel: str
    threads: int
    hashes_per_second: float
    quartiles: tuple[float, float]


@dataclass(frozen=True, slots=True)
class Sustained:
    """Evaluations a second of the solver's kernel on all its threads, slice after slice."""

    slice_seconds: float
    hashes_per_second: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class SolveTimes:
    """Quantiles of the seconds that `puzzles` puzzles took, and their evaluations together."""

    work: int
    parts: int
    threads: int
    puzzles: int
    evaluations: int
    p50: float
    p90: float
    p99: float


@dataclass(frozen=True, slots=True)
class WalkRates:
    """Walks of algorithm 2 a second: of one thread, and sustained on the solver's threads."""

    one_thread: float
    all_threads: float


@dataclass(frozen=True, slots=True)
class Server:
    """What one thread of a server does on this device."""

    challenges_per_second: float
    verifications_per_second: float


@dataclass(frozen=True)
class ClientProfile:
    """What one device measured of itself; the schema says what each field means.

    Raises
    ------
    InvalidInput
        If the kernel in use has no rate on one thread or on the solver's threads.
    """

    name: str
    device: Device
    powfast: str
    measured: str
    quick: bool
    kernel: str
    solver: Solver
    rates: tuple[Rate, ...]
    sustained: Sustained
    solving: tuple[SolveTimes, ...]
    server: Server | None
    warnings: tuple[str, ...]
    walks: WalkRates | None = None

    def __post_init__(self) -> None:
        measured = {(rate.kernel, rate.threads) for rate in self.rates}
        for threads in sorted({1, self.solver.threads}):
            if (self.kernel, threads) not in measured:
                raise InvalidInput(f"there is no rate of {self.kernel} on {threads} threads")

    @property
    def hash_rate(self) -> float:
        """Evaluations a second that this device sustains with its own solver: the median slice."""
        return median(self.sustained.hashes_per_second)

    @property
    def walk_worth(self) -> float:
        """Evaluations that this device makes in the time of one walk.

        Raises
        ------
        InvalidInput
            If it measured no walks.
        """
        if self.walks is None:
            raise InvalidInput(f"{self.name} measured no walks: `powfast bench` does since 0.1.0")
        return self.hash_rate / self.walks.all_threads

    @property
    def single_rate(self) -> float:
        """Evaluations a second of the solver's kernel on one thread."""
        rates = (rate for rate in self.rates if (rate.kernel, rate.threads) == (self.kernel, 1))
        return next(rates).hashes_per_second

    def to_json(self) -> str:
        """Return the document."""
        return json.dumps(self.to_dict(), indent=1) + "\n"

    def to_dict(self) -> dict[str, Any]:
        """Return the document's content."""
        return {"format": _PROFILE, "version": _VERSION, **asdict(self)}

    @classmethod
    def from_json(cls, text: str | bytes) -> ClientProfile:
        """Read what `to_json` or the browser wrote.

        Raises
        ------
        InvalidInput
            If it is no such document; the message lists everything that is wrong with it.
        MissingExtra
            jsonschema is not installed.
        """
        return cls._from_dict(_checked(_parsed(text), "client-profile.schema.json"))

    @classmethod
    def _from_dict(cls, content: dict[str, Any]) -> ClientProfile:
        fields = {key: content[key] for key in content if key not in ("format", "version")}
        device, sustained = content["device"], content["sustained"]
        rates = (Rate(**{**row, "quartiles": tuple(row["quartiles"])}) for row in content["rates"])
        slices = tuple(sustained["hashes_per_second"])
        nested = {
            "device": Device(**{**device, "features": tuple(device["features"])}),
            "solver": Solver(**content["solver"]),
            "rates": tuple(rates),
            "sustained": Sustained(sustained["slice_seconds"], slices),
            "solving": tuple(SolveTimes(**row) for row in content["solving"]),
            "walks": content.get("walks") and WalkRates(**content["walks"]),
            "server": content["server"] and Server(**content["server"]),
            "warnings": tuple(content["warnings"]),
        }
        return cls(**{**fields, **nested})


@dataclass(frozen=True)
class Fleet:
    """The devices of a service's clients.

    Attributes
    ----------
    profiles : tuple of ClientProfile
    weights : tuple of float
        How many clients have each device, in any unit; positive.

    Raises
    ------
    InvalidInput
        If there are none, not equally many, or a weight is not positive and finite.
    """

    profiles: tuple[ClientProfile, ...]
    weights: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.profiles or len(self.profiles) != len(self.weights):
            raise InvalidInput("a fleet is at least one device, each with its weight")
        if not all(0.0 < weight < float("inf") for weight in self.weights):
            raise InvalidInput("the weights of a fleet must be positive and finite")

    @property
    def shares(self) -> npt.NDArray[np.float64]:
        """Weights over their sum, (n,) float64."""
        return np.array(self.weights) / sum(self.weights)

    @property
    def hash_rate(self) -> npt.NDArray[np.float64]:
        """Rates of equally many clients each, slowest first, (200,) float64: for `calibrate`."""
        rates = np.array([profile.hash_rate for profile in self.profiles])
        order = np.argsort(rates, kind="stable")
        reached = self.shares[order].cumsum()
        at = np.searchsorted(reached, (np.arange(_SLOTS) + 0.5) / _SLOTS)
        return rates[order][np.minimum(at, len(rates) - 1)]

    def to_json(self) -> str:
        """Return the document."""
        devices = [
            {"weight": weight, "profile": profile.to_dict()}
            for profile, weight in zip(self.profiles, self.weights, strict=True)
        ]
        content = {"format": _FLEET, "version": _VERSION, "devices": devices}
        return json.dumps(content, indent=1) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> Fleet:
        """Read what `to_json` wrote, or one client profile as a fleet of its own.

        Raises
        ------
        InvalidInput
            If it is no such document; the message lists everything that is wrong with it.
        MissingExtra
            jsonschema is not installed.
        """
        content = _parsed(text)
        if isinstance(content, dict) and content.get("format") == _PROFILE:
            return cls((ClientProfile.from_json(text),), (1.0,))
        devices = _checked(content, "fleet.schema.json")["devices"]
        profiles = tuple(ClientProfile._from_dict(device["profile"]) for device in devices)
        return cls(profiles, tuple(device["weight"] for device in devices))


def schema(name: str) -> dict[str, Any]:
    """Return one of the shipped schemas: client-profile.schema.json or fleet.schema.json."""
    text = files("powfast.profile").joinpath(name).read_text(encoding="utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"not a JSON document: {error}") from None


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number of JSON")


def _checked(content: Any, name: str) -> dict[str, Any]:
    """`content` where the schema of that name holds, else one error that lists what is wrong."""
    validator = _validator(name)
    try:
        found = [
            f"{error.json_path}: {_shortened(error.message)}"
            for error in validator.iter_errors(content)
        ]
    except RecursionError:
        found = ["nested too deeply"]
    if found:
        more = [f"and {len(found) - _LISTED} more"] if len(found) > _LISTED else []
        title = validator.schema["title"]
        raise InvalidInput(f"not a {title}: " + "; ".join([*found[:_LISTED], *more]))
    valid: dict[str, Any] = content
    return valid


def _shortened(message: str) -> str:
    """Keep the end, for it says what is wrong; the start shows the value."""
    return message if len(message) <= _SHOWN else "..." + message[-_SHOWN:]


@cache
def _validator(name: str) -> Any:
    try:
        from jsonschema import Draft202012Validator
        from jsonschema.validators import extend
        from referencing import Registry
        from referencing.jsonschema import DRAFT202012
    except ImportError as error:
        raise MissingExtra("profiles need jsonschema: pip install 'powfast[cli]'") from error
    schemas = {name: schema(name) for name in ("client-profile.schema.json", "fleet.schema.json")}
    for content in schemas.values():
        del content["$schema"]  # by it jsonschema would choose its own validator again
    resources = [(uri, DRAFT202012.create_resource(content)) for uri, content in schemas.items()]
    # 2.0 is an integer to JSON Schema, but not to Python
    types = Draft202012Validator.TYPE_CHECKER.redefine("integer", lambda _, x: type(x) is int)
    validator = extend(Draft202012Validator, type_checker=types)
    return validator(schemas[name], registry=Registry().with_resources(resources))

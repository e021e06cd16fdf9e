"""`powfast profile`: what client profiles say, alone and as a fleet."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from powfast.cli import output
from powfast.cli.files import read_fleet
from powfast.errors import InvalidInput

if TYPE_CHECKING:
    from powfast.profile import ClientProfile


def add_to(commands: output.Commands) -> None:
    """Add the actions."""
    text = (
        "What `bench` measured: show a client profile, compare several, merge them into a fleet, "
        "ask how much work a fleet does in time."
    )
    actions = output.add_group(commands, "profile", text)

    show = output.add_command(actions, "show", _show, "Show a client profile or a fleet.")
    show.add_argument("file", type=Path, help="a client profile, or a fleet")

    compare = output.add_command(
        actions,
        "compare",
        _compare,
        "Compare devices: seconds for a given work, work for given seconds.",
    )
    compare.add_argument(
        "files", type=Path, nargs="+", metavar="FILE", help="client profiles or fleets"
    )
    compare.add_argument(
        "--work",
        type=int,
        default=1_000_000,
        help="how long is this work, in expected hashes? (default %(default)s)",
    )
    compare.add_argument(
        "--seconds",
        type=float,
        default=1.0,
        help="how much work is done in this time? (default %(default)s)",
    )
    compare.add_argument(
        "--parts", type=int, default=16, help="parts of the puzzle (default %(default)s)"
    )
    _add_quantile(compare)
    compare.add_argument(
        "--plot", type=output.picture, help="also draw it into this file: .png, .svg or .pdf"
    )

    merge = output.add_command(
        actions, "merge", _merge, "Merge devices into a fleet, each with its share of the clients."
    )
    merge.add_argument(
        "files", nargs="+", metavar="FILE[=WEIGHT]", help="profiles or fleets (weight: 1)"
    )
    merge.add_argument(
        "--out", type=Path, default=Path("fleet.json"), help="the fleet (default %(default)s)"
    )

    answer = output.add_command(
        actions,
        "answer",
        _answer,
        "Say how much work a share of the clients does in the given time, by number of parts.",
    )
    answer.add_argument("fleet", type=Path, help="a fleet, or a client profile")
    answer.add_argument(
        "--seconds", type=float, default=1.0, help="time to solve (default %(default)s)"
    )
    answer.add_argument(
        "--share",
        type=float,
        default=0.95,
        help="share of the clients that has to be done by then (default %(default)s)",
    )
    _add_quantile(answer)
    answer.add_argument(
        "--parts",
        type=int,
        nargs="+",
        default=[1, 4, 16, 64],
        help="parts of the puzzle, one number or several (default 1 4 16 64)",
    )


def _add_quantile(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--quantile",
        type=float,
        default=0.99,
        help="share of a client's puzzles that are solved in the time (default %(default)s)",
    )


def _show(arguments: argparse.Namespace) -> int:
    fleet = read_fleet(arguments.file)
    if arguments.json:
        devices = [profile.to_dict() for profile in fleet.profiles]
        output.print_json({"devices": devices, "shares": fleet.shares.tolist()})
    elif len(fleet.profiles) == 1:
        print_profile(fleet.profiles[0])
    else:
        rows = [
            (
                profile.name,
                f"{share:.1%}",
                profile.kernel,
                str(profile.solver.threads),
                f"{profile.hash_rate / 1e6:.2f}",
            )
            for profile, share in zip(fleet.profiles, fleet.shares, strict=True)
        ]
        output.print_table(("device", "clients", "kernel", "threads", "million hashes/s"), rows)
    return 0


def _compare(arguments: argparse.Namespace) -> int:
    from powfast.profile import Fleet, affordable_work, solve_seconds

    profiles = [profile for file in arguments.files for profile in read_fleet(file).profiles]
    asked = {"parts": arguments.parts, "quantile": arguments.quantile}
    rows: list[dict[str, Any]] = [
        {
            "name": profile.name,
            "hash_rate": profile.hash_rate,
            "seconds": solve_seconds(profile, arguments.work, **asked),
            "work": affordable_work(
                Fleet((profile,), (1.0,)), seconds=arguments.seconds, share=1.0, **asked
            ),
        }
        for profile in profiles
    ]
    if arguments.plot:
        from powfast.profile.plot import plot_devices

        plot_devices(profiles, arguments.plot, seconds=arguments.seconds, **asked)
    if arguments.json:
        of = {"work": arguments.work, "seconds": arguments.seconds, **asked}
        output.print_json({"devices": rows, "asked": of})
        return 0
    header = (
        f"{arguments.parts} parts, {arguments.quantile:.4g} quantile",
        "million hashes/s",
        f"time for work {arguments.work:,}",
        f"work within {_time(arguments.seconds)}",
    )
    table = [
        (row["name"], f"{row['hash_rate'] / 1e6:.2f}", _time(row["seconds"]), f"{row['work']:,}")
        for row in rows
    ]
    output.print_table(header, table)
    return 0


def _merge(arguments: argparse.Namespace) -> int:
    from powfast.profile import Fleet

    profiles: list[ClientProfile] = []
    weights: list[float] = []
    for argument in arguments.files:
        file, weight = _weighed(argument)
        fleet = read_fleet(file)
        profiles.extend(fleet.profiles)
        weights.extend(weight * fleet.shares)
    merged = Fleet(tuple(profiles), tuple(map(float, weights)))
    arguments.out.write_text(merged.to_json())
    if arguments.json:
        names = [profile.name for profile in profiles]
        output.print_json({"devices": names, "shares": merged.shares.tolist()})
    else:
        print(f"{arguments.out}: {len(profiles)} devices")
    return 0


def _weighed(argument: str) -> tuple[Path, float]:
    """Return the file and weight of FILE=WEIGHT, or of FILE, which weighs 1."""
    if Path(argument).exists() or "=" not in argument:
        return Path(argument), 1.0
    file, _, weight = argument.rpartition("=")
    try:
        return Path(file), float(weight)
    except ValueError:
        raise InvalidInput(f"{argument} is not FILE=WEIGHT") from None


def _answer(arguments: argparse.Namespace) -> int:
    from powfast.profile import affordable_work, evaluations, walk_worth

    fleet = read_fleet(arguments.fleet)
    asked = {name: getattr(arguments, name) for name in ("seconds", "share", "quantile")}
    rows: list[dict[str, Any]] = []
    for parts in arguments.parts:
        work = affordable_work(fleet, parts=parts, **asked)
        at_most = evaluations(work, parts, arguments.quantile) if work else 0
        rows.append({"parts": parts, "work": work, "evaluations": at_most})
    walked = all(profile.walks for profile in fleet.profiles)
    worth = walk_worth(fleet, share=arguments.share) if walked else None
    if arguments.json:
        output.print_json({"works": rows, "asked": asked, "walk_worth": worth})
        return 0
    within = f"{arguments.share:.4g} of the clients within {_time(arguments.seconds)}"
    header = (
        "parts",
        f"work for {within}",
        f"evaluations at the {arguments.quantile:.4g} quantile",
    )
    output.print_table(
        header, [(str(r["parts"]), f"{r['work']:,}", f"{r['evaluations']:,}") for r in rows]
    )
    if worth is not None:
        print(f"a walk is worth {worth:,} evaluations (`walk_worth`, for algorithm 2)")
    return 0


def print_profile(profile: ClientProfile) -> None:
    """Print a client profile: what was measured beside what is computed."""
    from powfast.profile import solve_seconds

    device, slices = profile.device, profile.sustained.hashes_per_second
    named = [] if profile.name == device.cpu else [profile.name]
    cores = f"{device.cores} core{'s' * (device.cores > 1)}"
    print(", ".join([*named, device.cpu, cores, device.architecture]))
    print(f"{device.system}, {device.agent}, powfast {profile.powfast}, {profile.measured}")
    output.print_table(
        ("kernel", "threads", "million hashes/s", "quartiles"),
        [
            (
                rate.kernel + (" (in use)" if rate.kernel == profile.kernel else ""),
                str(rate.threads),
                f"{rate.hashes_per_second / 1e6:.2f}",
                "{:.2f} - {:.2f}".format(*(low_high / 1e6 for low_high in rate.quartiles)),
            )
            for rate in profile.rates
        ],
    )
    duration = _time(profile.sustained.slice_seconds * len(slices))
    kept = " ".join(f"{rate / 1e6:.1f}" for rate in _tenths(slices))
    print(f"over {duration} on {profile.solver.threads} threads, million hashes/s: {kept}")
    output.print_table(
        ("work", "parts", "threads", "median, measured", "exact", "p99, measured", "exact"),
        [
            (
                f"{row.work:,}",
                str(row.parts),
                str(row.threads),
                _time(row.p50),
                _time(solve_seconds(profile, row.work, row.parts, 0.5, alone=row.threads == 1)),
                _time(row.p99),
                _time(solve_seconds(profile, row.work, row.parts, 0.99, alone=row.threads == 1)),
            )
            for row in profile.solving
        ],
    )
    if profile.walks:
        one, every = profile.walks.one_thread, profile.walks.all_threads
        print(
            f"walks (algorithm 2) a second: {one:,.0f} on one thread, {every:,.0f} on all", end=""
        )
        print(f"; a walk takes as long as {profile.walk_worth:,.0f} evaluations")
    if profile.server:
        issued, verified = (
            profile.server.challenges_per_second,
            profile.server.verifications_per_second,
        )
        print("a server on one thread, a second: ", end="")
        print(f"{issued:,.0f} challenges issued, {verified:,.0f} solutions verified")
    for warning in profile.warnings:
        print(f"warning: {warning}")


def _tenths(slices: Sequence[float]) -> list[float]:
    """Return at most ten means over equal lengths of time."""
    size = -(-len(slices) // 10)
    groups = [slices[i : i + size] for i in range(0, len(slices), size)]
    return [sum(group) / len(group) for group in groups]


def _time(seconds: float) -> str:
    """Return seconds with three digits and a unit that people use."""
    for unit, scale in (("s", 1.0), ("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= scale:
            return f"{seconds / scale:.3g} {unit}" if seconds < 1000.0 else f"{seconds:,.0f} s"
    return f"{seconds / 1e-6:.3g} µs"

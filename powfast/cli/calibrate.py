"""`powfast calibrate`: what queries should cost."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from powfast.cli import output
from powfast.cli.files import read_fleet, read_text
from powfast.errors import InvalidInput

if TYPE_CHECKING:
    from powfast.leakage import LeakageEstimator


def add_to(commands: output.Commands) -> None:
    """Add the command."""
    calibrate = output.add_command(
        commands,
        "calibrate",
        _calibrate,
        "Choose a tariff from honest accounts' evidence, and say what it is worth; the exit status "
        "is 1 where no attack pays more than honest accounts do. Or, with --check, say whether "
        "recent honest accounts are still like those of a calibration.",
    )
    calibrate.add_argument(
        "honest", type=Path, help="honest accounts' evidence: .npz that save_traces wrote"
    )
    calibrate.add_argument(
        "--check", type=Path, metavar="TARIFF", help="compare with this tariff, and choose none"
    )
    calibrate.add_argument(
        "--service-time",
        type=float,
        metavar="SECONDS",
        help="what a bare query takes, without powfast",
    )
    rate = calibrate.add_mutually_exclusive_group()
    rate.add_argument(
        "--hash-rate", type=float, metavar="N", help="hashes that a client does in a second"
    )
    rate.add_argument(
        "--profile", type=Path, help="instead of --hash-rate: what `powfast bench` wrote"
    )
    rate.add_argument(
        "--fleet", type=Path, help="instead of --hash-rate: what `profile merge` wrote"
    )
    calibrate.add_argument(
        "--suspicious", type=Path, help="extractors' evidence: .npz, as the honest one"
    )
    calibrate.add_argument("--estimator", type=Path, help=".npz that LeakageEstimator.save wrote")
    calibrate.add_argument(
        "--features",
        type=Path,
        help=".npz with honest queries' features; without --suspicious, attacks are made of them, "
        "which needs --estimator",
    )
    calibrate.add_argument(
        "--ttl",
        type=float,
        default=120.0,
        metavar="SECONDS",
        help="how long a challenge can be solved (default %(default)s)",
    )
    calibrate.add_argument(
        "--max-overhead",
        type=float,
        default=2.0,
        metavar="RATIO",
        help="how long an honest call may take, as a multiple of a bare one (default %(default)s)",
    )
    calibrate.add_argument(
        "--quantile",
        type=float,
        default=0.99,
        help="share of the honest calls that this holds for (default %(default)s)",
    )
    calibrate.add_argument(
        "--max-opening",
        type=float,
        default=10.0,
        metavar="SECONDS",
        help="what the opening may take a client, on probation (default %(default)s)",
    )
    calibrate.add_argument(
        "--no-probation",
        action="store_true",
        help="new accounts pay the opening before their first answer",
    )
    calibrate.add_argument(
        "--out",
        type=Path,
        default=Path("tariff.json"),
        help="write the tariff into this file (default %(default)s)",
    )


def _calibrate(arguments: argparse.Namespace) -> int:
    if arguments.check:
        return _check(arguments)
    from powfast.leakage import LeakageEstimator
    from powfast.tariff import calibrate, judge, load_traces

    clients = arguments.profile or arguments.fleet
    if arguments.service_time is None or (arguments.hash_rate is None and clients is None):
        raise InvalidInput("calibrate needs --service-time, and --hash-rate, --profile or --fleet")
    estimator = LeakageEstimator.load(arguments.estimator) if arguments.estimator else None
    calibration = calibrate(
        load_traces(arguments.honest),
        service_time=arguments.service_time,
        hash_rate=arguments.hash_rate,
        profile=read_fleet(clients) if clients else None,
        max_overhead=arguments.max_overhead,
        quantile=arguments.quantile,
        max_opening=arguments.max_opening,
        probation=not arguments.no_probation,
        suspicious=_suspicious(arguments, estimator),
    )
    missing = estimator.missing() if estimator else None
    verdict = judge(calibration, missing=missing, lifetime=arguments.ttl)
    arguments.out.write_text(calibration.to_json())
    if arguments.json:
        output.print_json({**calibration.report, "verdict": verdict.to_dict()})
    else:
        _print_report(calibration.report)
        print(f"{arguments.out}: {calibration.tariff.base_work:.0f} evaluations a query, ", end="")
        print(f"{calibration.tariff.opening_work:.0f} once for a new account")
        print(verdict)
    return int(not verdict.separates)


def _suspicious(arguments: argparse.Namespace, estimator: LeakageEstimator | None) -> Any:
    """Return the attacks' evidence: what was given, else of stress inputs, else none."""
    from powfast.leakage import report, stress_evidence
    from powfast.tariff import load_traces

    if arguments.suspicious:
        return load_traces(arguments.suspicious)
    if not arguments.features:
        return None
    if estimator is None:
        raise InvalidInput("--features needs --estimator, whose features they are")
    return stress_evidence(estimator, *report.read(arguments.features, "features"))


def _check(arguments: argparse.Namespace) -> int:
    """Report drift; the exit status is 1 where there is some. The tariff stays as it is."""
    from powfast.tariff import Calibration, check, load_traces

    calibration = Calibration.from_json(read_text(arguments.check))
    found = check(calibration, load_traces(arguments.honest))
    if arguments.json:
        output.print_json(found)
    else:
        now, before = (found["mean_log_evidence"][name] for name in ("now", "calibrated"))
        print(f"mean log evidence {now:+.3f}, was {before:+.3f} (p = {found['p_value_shift']:.3g})")
        above = f"{found['accounts_above_max_overhead']} of {found['accounts']} accounts"
        print(f"{above} above the overhead (p = {found['p_value_overhead']:.3g})")
        print("honest use has drifted: calibrate anew" if found["drifted"] else "no drift")
    return int(found["drifted"])


def _print_report(report: dict[str, Any]) -> None:
    honest = report["honest"]
    rows = [
        (
            quantile,
            f"{found['overhead']:.3f}x",
            "{:.3f} - {:.3f}".format(*found["interval_95%"]),
        )
        for quantile, found in honest["quantiles"].items()
    ]
    held_out = f"{honest['held_out_accounts']} held-out honest accounts"
    output.print_table((held_out, "overhead", "95 % interval"), rows)
    lengths = [
        (n, *(f"{found[when]['99%']:.4g}x" for when in ("peace", "attack")))
        for n, found in honest["first_queries"].items()
    ]
    output.print_table(("first queries, at 99 %", "in peace", "while newcomers pay most"), lengths)
    newcomers = honest.get("newcomers")
    if newcomers:
        print(
            f"newcomers' evidence averages {newcomers['mean_evidence']:.3g}, and may average "
            f"{newcomers['honest_mean']:.3g}: among themselves they pay at most "
            f"{newcomers['highest_price']:.3g} base prices"
        )
    slowest = honest.get("slowest_tenth_of_devices")
    if slowest:
        shown = ", ".join(f"{q}: {x:.3f}x" for q, x in slowest["overhead"].items())
        rate = f"at most {slowest['highest_hash_rate'] / 1e6:.3g} million hashes/s"
        print(f"on the slowest tenth of the devices ({rate}): {shown}")
    attacks = [
        (
            f"{name}, {strategy.replace('_', ' ')}",
            f"{found['overhead']:.4g}x",
            *(f"{value:.4g}x" for value in found["overhead_at_hash_rate"].values()),
        )
        for name, strategies in report["attacks"].items()
        for strategy, found in strategies.items()
    ]
    rates = ("10x hash rate", "100x hash rate", "1000x hash rate")
    output.print_table(("extractor", "overhead", *rates), attacks)
    for warning in report["warnings"]:
        print(f"warning: {warning}")

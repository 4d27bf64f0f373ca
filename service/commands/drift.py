"""`sayso drift`: compare the LLRs of live calls with the model's calibration."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeAlias
from urllib.error import URLError
from urllib.request import urlopen

import typer
from prometheus_client.parser import text_string_to_metric_families
from rich.table import Table

from service.commands.terminal import Json, one_line_errors, out, print_json, say, warn
from service.contract import Contract
from service.decisions import drift as drifts
from service.decisions.drift import Buckets, Drift
from service.errors import SettingsError
from service.settings import Settings

BUCKETS = ("sayso_decision_llr_bucket", "sayso:decision_llr_bucket:increase1w")
"""The metrics with live LLRs: the server's histogram, and a recording rule over a week of it."""

_TIMEOUT_S = 10.0
_FEW_CALLS = 200

Live: TypeAlias = Mapping[str, Buckets]
"""Live calls by outcome; "" stands for all outcomes."""


def drift(
    metrics: Annotated[
        str,
        typer.Option(
            help="Metrics in Prometheus' text format: a file, or the URL of a server's endpoint "
            "(since its start) or of Prometheus' /federate (a week, see "
            "docs/operate/monitoring.md)."
        ),
    ],
    model: Annotated[
        Path | None, typer.Option(help="Contract model file. [SAYSO_MODEL, the shipped model]")
    ] = None,
    most: Annotated[
        float, typer.Option(min=0, max=1, help="The drift above which the exit status is 1.")
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """Compare the log-likelihood ratios of live calls with those that the calibration
    allows.

    Exit status 1 if they differ by more than --most, which you choose from your first weeks.

    Example: sayso drift --metrics http://127.0.0.1:9464/metrics
    """
    from service.inference.session import Session  # noqa: PLC0415 - `--help` starts without it

    with one_line_errors():
        settings = Settings.read(model=model)
        contract = Session.open(settings.model, device="cpu").contract
        live = _count_live(_read_metrics(metrics), contract.model_id)
        drift_ = _measure(contract, live)
    if as_json:
        _print_as_json(contract, live, drift_)
    else:
        _print(contract, live, drift_)
    if live[""][-1][1] < _FEW_CALLS:
        warn(f"fewer than {_FEW_CALLS} calls: their shares are uncertain")
    raise typer.Exit(1 if drift_.distance > most else 0)


def _measure(contract: Contract, live: Live) -> Drift:
    calibration = contract.calibration
    measured = drifts.measure_drift(calibration, live.get("", ())) if calibration else None
    if measured is None:
        raise SettingsError(
            f"--metrics: holds no decided calls of {contract.model_id}, or that model was not "
            "calibrated; name the model that the server runs, and metrics of its calls"
        )
    return measured


def _read_metrics(source: str) -> str:
    try:
        if not source.startswith(("http://", "https://")):
            return Path(source).read_text()
        with urlopen(source, timeout=_TIMEOUT_S) as answer:  # noqa: S310 - http(s) only
            return str(answer.read().decode())
    except (OSError, URLError, UnicodeDecodeError) as error:
        raise SettingsError(f"--metrics: {source} cannot be read: {error}") from error


def _count_live(text: str, model_id: str) -> Live:
    counts: dict[str, Counter[float]] = defaultdict(Counter)
    try:
        families = list(text_string_to_metric_families(text))
    except ValueError as error:
        raise SettingsError(f"--metrics: is not in Prometheus' text format: {error}") from error
    for sample in (sample for family in families for sample in family.samples):
        if sample.name in BUCKETS and sample.labels.get("model_id") == model_id:
            for outcome in ("", sample.labels["outcome"]):
                counts[outcome][float(sample.labels["le"])] += sample.value  # type: ignore[assignment]
    return {outcome: sorted(buckets.items()) for outcome, buckets in counts.items()}


def _print(contract: Contract, live: Live, drift: Drift) -> None:
    table = Table("ratio", "live calls", "impostors", "genuine callers", title=contract.model_id)
    for level in drift.levels:
        low, high = level.genuine
        table.add_row(
            f"{level.llr:+.2f}",
            f"{level.live:.1%}",
            f"{level.impostors:.2%}",
            f"{low:.1%} to {high:.1%}",
        )
    out.print("Shares of calls at or above a log-likelihood ratio; expected by the calibration:")
    out.print(table)
    for outcome, buckets in sorted(live.items()):
        llr = drifts.median(buckets)
        median = f"{llr:+.2f}" if math.isfinite(llr) else "none"
        out.print(f"{outcome.lower() or 'all'}: {buckets[-1][1]:.0f} calls, median {median}")
    way = "upwards" if drift.upwards else "downwards" if drift.distance else "none"
    share = f"nearest with {drift.genuine_share:.0%} genuine callers"
    say(f"drift {drift.distance:.3f} ({way}); {share}")


def _print_as_json(contract: Contract, live: Live, drift: Drift) -> None:
    print_json(
        {
            "model_id": contract.model_id,
            "drift": drift.distance,
            "upwards": drift.upwards,
            "genuine_share": drift.genuine_share,
            "outcomes": {
                outcome.lower() or "all": {
                    "calls": buckets[-1][1],
                    "median_llr": drifts.median(buckets),
                }
                for outcome, buckets in live.items()
            },
            "levels": drift.levels,
        }
    )

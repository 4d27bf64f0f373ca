"""Write models/README.md, the card of the model that ships, from what was measured.

python -m benchmarks.accuracy.model_card FOLDER [SYSTEMS]

FOLDER/recorded and FOLDER/cross are report folders of sayso-evaluate. SYSTEMS/systems.md, written
by compare_systems.py, is included if it exists and compares this model.
"""

import json
import sys
from pathlib import Path
from typing import Any

from jinja2 import StrictUndefined, Template

from benchmarks.accuracy import model_table
from evaluation.report.few_trials import has_too_few

MODELS = Path(__file__).resolve().parents[2] / "models"


def read(path: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def format_percent(rate: float) -> str:
    return f"{100 * rate:.1f}%"


def format_eer(figures: dict[str, Any]) -> str:
    """Format an EER with its interval, in percent."""
    value, interval = figures["eer"]["value"], figures["eer"]["interval"]
    if interval is None:
        return format_percent(value)
    low, high = (
        (interval[key] for key in ("low", "high")) if isinstance(interval, dict) else interval
    )
    return f"{format_percent(value)} ({100 * low:.1f} to {100 * high:.1f})"


def table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines) + "\n"


def tabulate_groups(recorded: dict[str, Any], cross: dict[str, Any]) -> str:
    """Tabulate EER by corpus and pooled: this model and the baseline, as recorded and
    cross-channel."""
    systems = [
        (document, system) for document in (recorded, cross) for system in document["systems"]
    ]
    names = [
        f"{system['system']}, {'as recorded' if document is recorded else 'cross-channel'}"
        for document, system in systems
    ]
    groups = list(recorded["systems"][0]["groups"])
    rows = [
        [group, *(format_eer(system["groups"][group]) for _, system in systems)] for group in groups
    ]
    return table(["corpus", *names], rows)


def tabulate_costs(recorded: dict[str, Any], cross: dict[str, Any]) -> str:
    rows = []
    for name, document in (("as recorded", recorded), ("cross-channel", cross)):
        for system in document["systems"]:
            pooled = system["groups"]["pooled"]
            rows.append(
                [
                    f"{system['system']}, {name}",
                    f"{pooled['min_dcf']['0.01']['value']:.3f}",
                    f"{pooled['min_dcf']['0.05']['value']:.3f}",
                    format_percent(pooled["fnmr_at_fmr"]["0.01"]),
                    f"{pooled['calibrated']['cllr']:.3f}",
                    format_percent(system["failure_to_acquire"]),
                ]
            )
    header = [
        "system",
        "minDCF 0.01",
        "minDCF 0.05",
        "FNMR at FMR 1%",
        "Cllr",
        "failure to acquire",
    ]
    return table(header, rows)


def tabulate_speech(recorded: dict[str, Any], cross: dict[str, Any]) -> str:
    key = "net speech, heard"
    rows = [
        [
            band,
            f"{figures['targets']:,}",
            format_eer(figures),
            format_eer(cross["breakdowns"][key][band]) if band in cross["breakdowns"][key] else "",
        ]
        for band, figures in recorded["breakdowns"][key].items()
    ]
    return table(["net speech heard", "target trials", "as recorded", "cross-channel"], rows)


def tabulate_channels(conditions: dict[str, Any]) -> str:
    """Tabulate EER by channel and net speech of the test side."""
    cells = {(cell["channel"], cell["length"]): cell for cell in conditions["cells"]}
    channels = dict.fromkeys(channel for channel, _ in cells)
    lengths = dict.fromkeys(length for _, length in cells)
    rows = [
        [
            channel,
            *(
                format_percent(cells[channel, length]["figures"]["eer"]["value"])
                for length in lengths
            ),
        ]
        for channel in channels
    ]
    return table(["heard", *lengths], rows)


def tabulate_fairness(recorded: dict[str, Any]) -> str:
    """Tabulate the error rates of groups of people at one threshold, those with enough trials."""
    rows = []
    for group in recorded["fairness"]:
        known = {name: row for name, row in group["rows"].items() if not has_too_few(row)}
        if len(known) < 2:
            continue
        worst = max(known, key=lambda name: known[name]["fnmr"])
        for name, row in known.items():
            eer = recorded["breakdowns"].get(group["by"], {}).get(name)
            rows.append(
                [
                    group["by"],
                    f"**{name}**" if name == worst else name,
                    f"{row['targets']:,}",
                    format_eer(eer) if eer else "",
                    _format_rate(row, "fmr"),
                    _format_rate(row, "fnmr"),
                ]
            )
    return table(["by", "group", "target trials", "EER", "FMR", "FNMR"], rows)


def _format_rate(row: dict[str, Any], name: str) -> str:
    low, high = (row[f"{name}_interval"][side] for side in ("low", "high"))
    return f"{format_percent(row[name])} ({100 * low:.1f} to {100 * high:.1f})"


def tabulate_promises(recorded: dict[str, Any], cross: dict[str, Any]) -> str:
    """Tabulate thresholds for a false-match rate, on speakers that their calibration did not
    see."""
    rows = []
    for name, document in (("as recorded", recorded), ("cross-channel", cross)):
        for check in document["held_out"]:
            low, high = (check["interval"][side] for side in ("low", "high"))
            rows.append(
                [
                    name,
                    f"{check['promised']:.0%}",
                    f"{check['realised']:.2%} ({100 * low:.2f} to {100 * high:.2f})",
                    "holds" if check["holds"] else "**does not hold**",
                ]
            )
    return table(["trials", "promised", "realised", ""], rows)


def read_comparison(folder: Path, model_id: str) -> str:
    """Read the comparison with other systems, its headings a level lower; empty if this model is
    not in it."""
    page = folder / "systems.md"
    text = page.read_text() if page.is_file() else ""
    return text.replace("\n#", "\n##") if model_id in text else ""


def describe_normalization(contract: dict[str, Any]) -> str:
    """Say by which cohort scores are normalized; empty if they are not."""
    if contract["calibration"]["score"] != "as_norm":
        return ""
    return f"; scores after adaptive S-norm by {contract['cohort']['source']}"


def main(folder: Path, systems: Path) -> None:
    recorded, cross = (read(folder / name / "evaluation.json") for name in ("recorded", "cross"))
    conditions = read(folder / "recorded" / "conditions.json")
    contract = recorded["contract"]
    provenance, rate = contract["provenance"], contract["sample_rate"]
    recipe = provenance["recipe"]
    source = Path(__file__).with_suffix(".md.j2").read_text()
    template = Template(source, undefined=StrictUndefined, keep_trailing_newline=True)
    card = template.render(
        model_id=contract["model_id"],
        dimension=contract["dimension"],
        size_mb=f"{(MODELS / 'sayso.onnx').stat().st_size / 1e6:.1f}",
        rate=rate,
        window_s=contract["window_samples"] / rate,
        hop_s=contract["hop_samples"] / rate,
        min_speech_s=contract["min_speech_samples"] / rate,
        encoder=", ".join(f"{key} {value}" for key, value in recipe["encoder"].items()),
        losses=", ".join(
            f"{made['name']} (weight {made['weight']:g})" for made in recipe["losses"]
        ),
        clips=f"{provenance['data']['clips']:,}",
        speakers=provenance["data"]["speakers"],
        data=provenance["data"]["digest"][:12],
        steps=provenance["source"],
        fitted_on=contract["calibration"]["fitted_on"],
        cohort=describe_normalization(contract),
        operating_point=contract["operating_point"]["target_false_match_rate"],
        licence=provenance["licence"],
        trials=f"{recorded['source'].split('/')[-1]}, {recorded['trials_made']}",
        by_group=tabulate_groups(recorded, cross),
        costs=tabulate_costs(recorded, cross),
        by_speech=tabulate_speech(recorded, cross),
        promises=tabulate_promises(recorded, cross),
        fairness=tabulate_fairness(recorded),
        told=conditions["told"],
        grid=tabulate_channels(conditions),
        models=model_table.format_table(read(model_table.FIGURES)),
        beside=read_comparison(systems, contract["model_id"]),
    )
    (MODELS / "README.md").write_text(card)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]) if len(sys.argv) > 2 else Path())

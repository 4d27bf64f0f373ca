"""The options of `sayso-evaluate` and `sayso-export` that say what to measure, and on what.

Their modules are imported for `--help`, so they import nothing that takes long to load.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from evaluation.experiments.request import Request

Command = Callable[..., None]

DEFAULT_OUTPUT = Path("evaluation-report")
CODECS = ("none", "mulaw", "gsm", "amr", "mp3", "opus")
IMPAIRMENTS = (
    "clean",
    "DC offset",
    "50 Hz hum",
    "30 Hz rumble",
    "keypad tones first",
    "ringback tone first",
    "silence first",
    "steep line",
    "gentle line",
    "G.711 mu-law",
    "MP3 16 kb/s",
    "GSM",
    "Opus 12 kb/s, 5% loss",
)

Model = Annotated[
    Path, typer.Option("--model", help="Model file (.onnx) with its contract.", show_default=False)
]
OptionalModel = Annotated[
    Path | None,
    typer.Option("--model", help="Model file (.onnx) with its contract.", show_default=False),
]
ModelArgument = Annotated[Path, typer.Argument(help="Model file (.onnx) with its contract.")]
Manifest = Annotated[
    Path | None,
    typer.Option(
        "--manifest",
        help="CSV of clips: path, speaker, and where known corpus, split, labels such as gender.",
        show_default=False,
    ),
]
Output = Annotated[
    Path, typer.Option("--output", help="Folder for what is written; the report is there too.")
]
Replicates = Annotated[
    int, typer.Option(help="Bootstrap draws for the 95% intervals; 0 for no intervals.", min=0)
]
Seed = Annotated[int, typer.Option(help="Seed of every draw.")]

FIELDS: dict[str, Any] = {
    "manifest": Manifest,
    "split": Annotated[
        str | None,
        typer.Option(help="Only the manifest's clips of this split; without one, all clips."),
    ],
    "listed": Annotated[
        Path | None,
        typer.Option(
            "--trials",
            help="Trial list: `1 a b` (VoxCeleb), `a b 1`, `a b target` (Kaldi), or with a header"
            " (NIST, CSV). Without one, trials are all pairs of the manifest's clips within each"
            " corpus: a different corpus is a different channel and language, which tells voices"
            " apart too easily.",
            show_default="pairs within a corpus",
        ),
    ],
    "enrollments": Annotated[
        Path | None,
        typer.Option(
            "--enrollments",
            "--enrolments",
            help="Enrollment map of the list: each line has a model and its clips.",
            show_default="models are clips",
        ),
    ],
    "audio": Annotated[
        Path | None,
        typer.Option(
            help="Folder of the list's files when there is no manifest.", show_default=False
        ),
    ],
    "same": Annotated[
        list[str] | None,
        typer.Option(
            help="Only trials whose sides agree in this column, e.g. gender.", show_default=False
        ),
    ],
    "different": Annotated[
        list[str] | None,
        typer.Option(
            help="Only trials whose sides differ in it, e.g. session or corpus.",
            show_default=False,
        ),
    ],
    "across_corpora": Annotated[
        bool, typer.Option("--across-corpora", help="Also pair clips of different corpora.")
    ],
    "cross_channel": Annotated[
        bool,
        typer.Option(
            "--cross-channel",
            help="Send each side of every trial through a simulated channel of its own: room,"
            " noise, handset, band, codec, level.",
        ),
    ],
    "baseline": Annotated[
        bool, typer.Option(help="Also evaluate mean-and-deviation MFCC on the same trials.")
    ],
    "cache": Annotated[
        Path | None,
        typer.Option(
            "--cache",
            help="Embeddings kept between runs.",
            show_default="~/.cache/sayso/embeddings.sqlite",
        ),
    ],
    "device": Annotated[
        Literal["auto", "cpu", "cuda", "tensorrt"], typer.Option(help="Where the model runs.")
    ],
    "max_trials": Annotated[
        int, typer.Option(help="Draw this many trials when there are more pairs.", min=2)
    ],
    "replicates": Replicates,
    "seed": Seed,
}
"""The option of each field of a `Request` but its model."""

COMMON: dict[str, Any] = {
    "manifest": Parameter.empty,
    "cache": None,
    "device": "auto",
    "seed": 0,
}
"""Fields that every such command asks for, with their defaults."""


def takes_request(model: Any = Model, **fields: Any) -> Callable[[Command], Command]:
    """Give a command the options of a `Request`, and call it with the request that they make.

    The command names that parameter `request`. `fields` are the fields of `Request` that it asks
    for beside the common ones, each with its default. `model` is the option or argument that names
    the model file.
    """
    defaults = {"model": None if model is OptionalModel else Parameter.empty, **COMMON, **fields}
    annotations = {"model": model, **FIELDS}

    def decorate(command: Command) -> Command:
        @functools.wraps(command)
        def run(**values: Any) -> None:
            command(request=_make_request({name: values.pop(name) for name in asked}), **values)

        asked = [name for name in annotations if name in defaults]
        own = inspect.signature(command, eval_str=True).parameters
        parameters = [
            *(
                Parameter(
                    name,
                    Parameter.KEYWORD_ONLY,
                    default=defaults[name],
                    annotation=annotations[name],
                )
                for name in asked
            ),
            *(
                parameter.replace(kind=Parameter.KEYWORD_ONLY)
                for name, parameter in own.items()
                if name != "request"
            ),
        ]
        # Typer reads both.
        run.__dict__["__signature__"] = inspect.Signature(parameters)
        run.__annotations__ = {each.name: each.annotation for each in parameters}
        return run

    return decorate


def _make_request(values: dict[str, Any]) -> Request:
    from evaluation.scoring import cache

    values["cache"] = values["cache"] or cache.default_path()
    for name in ("same", "different"):
        values[name] = tuple(values.get(name) or ())
    return Request(**values)

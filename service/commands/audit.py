"""`sayso audit`: verify a trail and read its entries; and record what other commands change."""

import os
from collections import deque
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from service.audit import chain, heads
from service.audit.entries import Action, Event, digest, parse_line
from service.audit.subjects import Subjects, key_beside
from service.audit.trail import enter
from service.commands.terminal import Json, err, one_line_errors, print_json, say, warn
from service.errors import SettingsError

app = typer.Typer(help="Check and read the audit trail.", no_args_is_help=True)

Paths = Annotated[
    list[Path],
    typer.Argument(help="The trail's folder, or its files, the oldest first.", exists=True),
]
EntriesAsJson = Annotated[
    bool,
    typer.Option("--json", help='Entries are JSON already; print a torn line as {"torn": ...}.'),
]


@app.command("verify")
def verify(
    paths: Paths,
    key: Annotated[
        Path | None,
        typer.Option(
            envvar="SAYSO_AUDIT_KEY",
            help="The key file of the trail. [beside the folder, .key]",
            dir_okay=False,
        ),
    ] = None,
    chain_only: Annotated[
        bool,
        typer.Option(
            "--chain-only", help="Without the key; a trail that was written anew is then whole."
        ),
    ] = False,
    head: Annotated[
        list[str] | None,
        typer.Option(
            help="SHA-256 of an entry that has been there, e.g. of a deletion receipt or the last "
            "one that `tail` showed; may be repeated."
        ),
    ] = None,
    heads_file: Annotated[
        list[Path] | None,
        typer.Option(
            "--heads",
            help="The file of SAYSO_AUDIT_HEADS, or a log of the server: all heads in it; may be "
            "repeated.",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Find the first line that was forged, changed, removed, moved or cut off; exit status 1 if
    there is one.

    Lines that are missing at the end are found only by a head that was among them.

    Example: sayso audit verify audit --key audit.key --heads server.log
    """
    known = [*(head or ()), *_read_digests(heads_file or ())]
    with one_line_errors():
        code_key = None if chain_only else _read_signing_key(paths, key)
    try:
        verified = chain.verify(paths, key=code_key, known=known)
    except chain.BrokenChain as error:
        if as_json:
            print_json({"whole": False, "problem": str(error)})
        err.print(f"[red]broken:[/red] {escape(str(error))}", highlight=False, soft_wrap=True)
        raise typer.Exit(1) from error
    last = verified.first + verified.entries - 1
    if as_json:
        print_json(
            {
                "whole": True,
                "authenticated": code_key is not None,
                "entries": verified.entries,
                "first": verified.first,
                "last": last,
                "head": verified.head.digest,
                "torn": verified.torn,
            }
        )
        return
    for torn in verified.torn:
        say(f"torn by a crash, and repaired: {torn}")
    say(
        f"whole{'' if code_key else ', by the chain only'}: {verified.entries} entries, "
        f"{verified.first} to {last}; head {verified.head.digest}"
    )


def _read_digests(files: Sequence[Path]) -> list[str]:
    return [digest for file in files for digest in heads.read_digests(file.read_bytes())]


def _read_signing_key(paths: Sequence[Path], key: Path | None) -> bytes:
    """Read the signing key from `key` or the default file; raises `SettingsError` without one."""
    first = paths[0]
    path = key or key_beside(first if first.is_dir() else first.absolute().parent)
    if not path.exists():
        raise SettingsError(
            f"there is no key of the trail at {path}: name it by --key, or check only the chain, "
            "which does not show a trail that was written anew, by --chain-only"
        )
    return Subjects.read(path).signing_key


@app.command("find")
def find(
    paths: Paths,
    speaker: Annotated[str, typer.Option(help="Your own id for the speaker.")],
    key: Annotated[Path, typer.Option(help="The key file of the trail.", dir_okay=False)],
    tenant: Annotated[str, typer.Option(help="Whose speaker.")] = "default",
    as_json: EntriesAsJson = False,
) -> None:
    """Print the entries of one speaker as they are; exit status 1 when there are none.

    Example: sayso audit find audit --key audit.key --speaker 27-1182
    """
    with one_line_errors():
        subject = Subjects.read(key).make_pseudonym(tenant, speaker)
    any_found = False
    for line in chain.lines(paths):
        facts = parse_line(line.text)
        if facts is not None and facts.get("subject") == subject:
            any_found = True
            _print(line.text, as_json=as_json)
    if not any_found:
        warn("there is no entry of that speaker in these files")
        raise typer.Exit(1)


@app.command("tail")
def tail(
    paths: Paths,
    count: Annotated[int, typer.Option("-n", help="How many entries.", min=1)] = 10,
    as_json: EntriesAsJson = False,
) -> None:
    """Print the last entries, and the digest of the last one to keep elsewhere.

    Example: sayso audit tail audit -n 5
    """
    last = deque(chain.lines(paths), maxlen=count)
    for line in last:
        _print(line.text, as_json=as_json)
    if last:
        warn(f"head {digest(last[-1].text)}")


def _print(text: bytes, *, as_json: bool) -> None:
    line = text.decode(errors="backslashreplace").rstrip("\n")
    if as_json and parse_line(text) is None:
        print_json({"torn": line})
    else:
        typer.echo(line)


def record_change(
    audit: Path | None, action: Action, outcome: str, tenant: str, **detail: str
) -> None:
    """Write an entry under this user's id, if there is a trail; raises `SettingsError` if it cannot
    be written."""
    if audit is None:
        return
    credential = f"uid:{os.getuid()}"
    event = Event(action, outcome, tenant=tenant, credential=credential, detail=detail)
    try:
        at = datetime.now(UTC).timestamp()
        enter(audit, event, at=at, key=_get_key_path(audit))
    except OSError as error:
        raise SettingsError(f"SAYSO_AUDIT: cannot write {audit}: {error.strerror}") from error


def _get_key_path(audit: Path) -> Path:
    path = os.environ.get("SAYSO_AUDIT_KEY")
    return Path(path) if path else key_beside(audit)

"""Memory of a server: one malloc arena for all threads, and no scan of what was there at start."""

import os
import platform
import pty
import subprocess
import sys
from pathlib import Path

import pytest

_ARENAS = """
import ctypes, sys, tempfile, threading
from service.commands.serve import share_malloc_arena

if sys.argv[1] == "shared":
    share_malloc_arena()
begin = threading.Barrier(8)

def allocate():
    begin.wait()
    blocks = [bytes(8192) for _ in range(500)]
    begin.wait()

threads = [threading.Thread(target=allocate) for _ in range(8)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
libc.fclose.argtypes = [ctypes.c_void_p]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
with tempfile.NamedTemporaryFile() as report:
    file = libc.fopen(report.name.encode(), b"w")
    assert libc.malloc_info(0, file) == 0
    libc.fclose(file)
    print(report.read().count(b"<heap nr="))
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries have one arena")
def test_all_threads_share_an_arena() -> None:
    assert int(output_of(_ARENAS, "apart")) > 1
    assert int(output_of(_ARENAS, "shared")) == 1


def test_live_objects_are_frozen() -> None:
    output = output_of(
        "import gc; from service.commands.serve import freeze_objects; freeze_objects();"
        "print(gc.get_freeze_count() > 1000, sum(gc.get_stats()[2].values()) > 0)"
    )
    assert output == "True True"


def output_of(program: str, *arguments: str) -> str:
    """Run `program` in a process of its own, whose heap no other test has used."""
    ended = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.strip()


def test_on_a_terminal_it_shows_what_it_was_started_with(tmp_path: Path) -> None:
    own, terminal = pty.openpty()
    command = [sys.executable, "-m", "service", "serve", "--listen", "127.0.0.1:0"]
    store = f"sqlite:///{tmp_path}/sayso.db"
    with subprocess.Popen([*command, "--store", store], stdout=terminal, stderr=terminal) as server:
        shown = b""
        while b"limits of a tenant" not in shown:
            shown += os.read(own, 4096)
        server.terminate()
    os.close(terminal)
    os.close(own)
    text = shown.decode()
    assert "serving on 127.0.0.1:" in text
    assert "ANYONE of this machine" in text
    assert "started:" not in text

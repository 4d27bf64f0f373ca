"""The Python programs of the pages type-check against the client as it is."""

import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", ROOT / "client/README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def write_programs(folder: Path) -> list[Path]:
    """Write each program of each page to a file that its page names."""
    written = []
    for page in PAGES:
        name = page.relative_to(ROOT).with_suffix("").as_posix().replace("/", "_")
        for number, program in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
            path = folder / f"{name.replace('-', '_')}_{number}.py"
            path.write_text(program, encoding="utf-8")
            written.append(path)
    return written


def test_every_program_type_checks(tmp_path: Path) -> None:
    programs = write_programs(tmp_path)
    assert programs
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    settings = ["--config-file", str(ROOT / "pyproject.toml"), "--scripts-are-modules"]
    done = subprocess.run(
        [*command, *settings, *map(str, programs)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout

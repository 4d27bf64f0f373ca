"""Groups, and identification within them, over real gRPC on both stores."""

from collections.abc import Iterator

import pytest
from sayso import AlreadyExists, Client, InvalidArgument, NotFound, RawAudio
from typer.testing import CliRunner, Result

from service.commands.application import app
from service.rpc.verification import VerificationRpc
from tests.support.local_server import LocalServer
from tests.support.voices import clips

SPEAKERS = ("awb", "rms", "slt")

identify_is_served = pytest.mark.skipif(
    "Identify" not in vars(VerificationRpc), reason="the Identify rpc is not served yet"
)


@pytest.fixture(scope="module")
def enrolled(server: LocalServer) -> LocalServer:
    with server.client() as sayso:
        for speaker in SPEAKERS:
            assert sayso.enroll(speaker, clips(speaker, "enroll")[0]).stored
    return server


@pytest.fixture
def group(enrolled: LocalServer, sayso: Client) -> Iterator[str]:
    sayso.groups.create("callers", "who calls often")
    yield "callers"
    sayso.groups.delete("callers")


def test_groups_are_made_listed_and_deleted(sayso: Client) -> None:
    names = [f"group {number}" for number in range(5)]
    for name in reversed(names):
        made = sayso.groups.create(name, f"the {name}")
        assert (made.name, made.description, made.members) == (name, f"the {name}", 0)
    with pytest.raises(AlreadyExists):
        sayso.groups.create(names[0])
    assert [listed.name for listed in sayso.groups.list(page_size=2)] == names
    for name in names:
        sayso.groups.delete(name)
    assert list(sayso.groups.list()) == []
    with pytest.raises(NotFound):
        sayso.groups.delete(names[0])


def test_members_come_and_go(sayso: Client, group: str) -> None:
    sayso.groups.add_members(group, SPEAKERS)
    sayso.groups.add_members(group, SPEAKERS[:1])
    assert list(sayso.groups.members(group, page_size=2)) == list(SPEAKERS)
    with pytest.raises(NotFound, match="2 of the 3"):
        sayso.groups.add_members(group, ["nobody", "awb", "nothing"])
    sayso.groups.remove_members(group, ["awb", "nobody"])
    (listed,) = sayso.groups.list()
    assert listed.members == 2
    assert list(sayso.groups.members(group)) == ["rms", "slt"]


def test_a_deleted_speaker_leaves_at_once(sayso: Client, group: str) -> None:
    sayso.enroll("leaver", clips("slt", "enroll")[0])
    sayso.groups.add_members(group, ["slt", "leaver"])
    sayso.speakers.delete("leaver")
    assert list(sayso.groups.members(group)) == ["slt"]


def test_what_there_is_not_is_not_found(sayso: Client) -> None:
    with pytest.raises(NotFound):
        sayso.groups.add_members("none", ["awb"])
    with pytest.raises(NotFound):
        sayso.groups.remove_members("none", ["awb"])
    with pytest.raises(NotFound):
        list(sayso.groups.members("none"))


@pytest.mark.parametrize("name", ["", "x" * 65, "line\nbreak"])
def test_names_are_bounded(sayso: Client, name: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        sayso.groups.create(name)
    assert caught.value.field == "group.name"


def test_texts_and_pages_are_bounded(sayso: Client) -> None:
    with pytest.raises(InvalidArgument) as caught:
        sayso.groups.create("described", "x" * 257)
    assert caught.value.field == "group.description"
    with pytest.raises(InvalidArgument) as caught:
        list(sayso.groups.list(page_size=1001))
    assert caught.value.field == "page_size"
    with pytest.raises(InvalidArgument) as caught:
        sayso.groups.add_members("none", ["fine", "line\nbreak"])
    assert caught.value.field == "speaker_ids[1]"


@identify_is_served
def test_candidates_are_those_of_verification_and_who_left_is_none(
    sayso: Client, group: str
) -> None:
    sayso.groups.add_members(group, SPEAKERS)
    for path in (path for speaker in SPEAKERS for path in clips(speaker, "verify")):
        llrs = {speaker: sayso.verify(speaker, path).llr or 0.0 for speaker in SPEAKERS}
        found = sayso.identify(group, path, max_candidates=3)
        assert [match.speaker_id for match in found.candidates] == sorted(
            SPEAKERS, key=lambda speaker: -llrs[speaker]
        )
        for speaker in SPEAKERS:
            sayso.speakers.unlock(speaker)
        for match in found.candidates:
            assert match.llr == pytest.approx(llrs[match.speaker_id])
        assert found.decision.llr == found.candidates[0].llr
        assert found.decision.threshold_llr is not None
        assert found.decision.accepted == (found.candidates[0].llr >= found.decision.threshold_llr)
    sayso.groups.remove_members(group, ["slt"])
    found = sayso.identify(group, clips("slt", "verify")[0], max_candidates=3)
    assert {match.speaker_id for match in found.candidates} == {"awb", "rms"}


@identify_is_served
def test_more_candidates_need_more_evidence(sayso: Client, group: str) -> None:
    path = clips("slt", "verify")[0]
    thresholds = []
    for speaker in SPEAKERS:
        sayso.groups.add_members(group, [speaker])
        decision = sayso.identify(group, path, target_false_match_rate=0.1).decision
        thresholds.append(decision.threshold_llr)
        assert "identification rate 0.1 (request)" in decision.threshold_description
    assert thresholds == sorted(thresholds)
    assert thresholds[0] != thresholds[-1]


@identify_is_served
def test_silence_and_unknown_groups(sayso: Client, group: str) -> None:
    silence = bytes(2 * 3 * 16000)
    found = sayso.identify(group, silence, raw=RawAudio("LINEAR16", 16000))
    assert found.decision.outcome == "INCONCLUSIVE"
    assert found.candidates == ()
    with pytest.raises(NotFound):
        sayso.identify("none", clips("slt", "verify")[0])


def test_the_command_line_keeps_groups(sqlite_server: LocalServer) -> None:
    with sqlite_server.client() as sayso:
        for speaker in SPEAKERS[:2]:
            sayso.enroll(speaker, clips(speaker, "enroll")[0])

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(app, [*arguments, "--server", sqlite_server.address])

    assert run("groups", "create", "vips", "--description", "few").exit_code == 0
    assert run("groups", "create", "vips").exit_code == 2
    assert run("groups", "add", "vips", *SPEAKERS[:2]).exit_code == 0
    unknown = run("groups", "add", "vips", "nobody")
    assert unknown.exit_code == 2
    assert "1 of the 1" in unknown.stderr
    assert "vips" in run("groups", "list").stdout
    assert run("groups", "members", "vips").stdout.split() == list(SPEAKERS[:2])
    assert run("groups", "remove", "vips", "awb").exit_code == 0
    assert run("groups", "members", "vips").stdout.split() == ["rms"]
    if "Identify" in vars(VerificationRpc):
        path = clips("rms", "verify")[0]
        made = run("identify", "vips", str(path))
        assert made.exit_code in (0, 1), made.output
        assert "rms" in made.stdout
    assert run("groups", "delete", "vips").exit_code == 0
    assert run("groups", "members", "vips").exit_code == 2

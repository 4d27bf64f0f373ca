"""Quotas of control groups, as the kernel shows them in either version."""

import os
from pathlib import Path

import pytest

from service.inference import processors

ALLOWED = len(os.sched_getaffinity(0))


def available(folder: Path, memberships: str, **files: str) -> int:
    for name, text in files.items():
        path = folder / "cgroup" / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (folder / "memberships").write_text(memberships)
    return processors.count_available(cgroups=folder / "cgroup", memberships=folder / "memberships")


@pytest.mark.parametrize("allowed", [1, 4, 64])
@pytest.mark.parametrize(
    ("quota", "expected"), [("max 100000", 64), ("50000 100000", 1), ("250000 100000", 3)]
)
def test_version_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, expected: int, allowed: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(allowed))
    found = available(tmp_path, "0::/pod/main\n", pod__main__cpu_DOT_max=f"{quota}\n")
    assert found == min(expected, allowed)


def test_a_quota_above_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
    files = {"pod__main__cpu_DOT_max": "max 100000", "pod__cpu_DOT_max": "200000 100000"}
    assert available(tmp_path, "0::/pod/main\n", **files) == 2


@pytest.mark.parametrize(("quota", "expected"), [("-1", 8), ("150000", 2)])
def test_version_1_of_a_container_that_sees_only_its_own_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quota: str, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(8))
    memberships = "4:memory:/docker/af01\n3:cpu,cpuacct:/docker/af01\n1:name=systemd:/x\n0::/\n"
    folder = "cpu,cpuacct"
    files = {
        f"{folder}__cpu_DOT_cfs_quota_us": quota,
        f"{folder}__cpu_DOT_cfs_period_us": "100000",
        "memory__cpu_DOT_cfs_quota_us": "1000",
    }
    assert available(tmp_path, memberships, **files) == expected


def test_without_control_groups(tmp_path: Path) -> None:
    none = tmp_path / "none"
    assert processors.count_available(cgroups=none, memberships=none) == ALLOWED

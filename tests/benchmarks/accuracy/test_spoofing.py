from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.accuracy.spoofing import make_comparisons


def test_comparisons_leave_out_enrolled_clips_and_copies_of_them(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    lines = ["path,corpus,speaker,split,attack,kind,source"]
    for speaker in "abc":
        lines += [f"{speaker}{n},x,{speaker},dev,bonafide,bonafide,/{speaker}{n}" for n in range(3)]
        lines += [f"{speaker}{n}-copy,x,{speaker},dev,codec2,vocoder,/{speaker}{n}" for n in (0, 2)]
    lines += ["d0,y,d,dev,bonafide,bonafide,/d0", "d1,x,a,train,bonafide,bonafide,/d1"]
    path.write_text("\n".join(lines))
    names = [line.split(",")[0] for line in lines[1:]]
    vectors = {name: np.eye(4)["abcd".index(name[0])] for name in names}
    found = list(make_comparisons(path, vectors))
    by_truth = {
        truth: sorted((one.claimed, one.name) for one in found if one.truth == truth)
        for truth in ("target", "nontarget", "spoof")
    }
    # Clips 0 and 1 of each speaker are enrolled, so are no tests, nor are copies of them.
    assert by_truth["target"] == [("x/a", "a2"), ("x/b", "b2"), ("x/c", "c2")]
    assert by_truth["spoof"] == [("x/a", "a2-copy"), ("x/b", "b2-copy"), ("x/c", "c2-copy")]
    assert len(by_truth["nontarget"]) == 6
    assert {one.score for one in found if one.truth == "nontarget"} == {0.0}
    assert {one.score for one in found if one.truth != "nontarget"} == {1.0}

"""Decisions of one call share a stamp until the outcome changes."""

import itertools
from dataclasses import replace

from service.audio.quality import Quality
from service.decisions.decision import Decision, Outcome
from service.decisions.stamp import DecisionStamper

QUALITY = Quality(net_speech_s=1.0, total_s=2.0, snr_db=None, clipping=0.0, peak_dbfs=-3.0)
OPEN = Decision(Outcome.INCONCLUSIVE, "m", "more", quality=QUALITY)


def test_a_stamp_lasts_until_the_outcome_changes() -> None:
    times, ids = itertools.count(100), itertools.count(1)
    stamper = DecisionStamper("alice", lambda: float(next(times)), lambda: f"d{next(ids)}")
    first = stamper.stamp(OPEN)
    later = stamper.stamp(replace(OPEN, quality=replace(QUALITY, total_s=5.0)))
    assert first.stamp is not None
    assert later.stamp == first.stamp
    assert (first.speaker_id, first.stamp.decision_id) == ("alice", "d1")
    assert (first.stamp.decided_at, first.stamp.audio_offset_s) == (100.0, 2.0)
    accepted = replace(OPEN, outcome=Outcome.ACCEPTED, quality=replace(QUALITY, total_s=6.0))
    reached = stamper.stamp(accepted).stamp
    assert reached is not None
    assert (reached.decision_id, reached.decided_at, reached.audio_offset_s) == ("d2", 101.0, 6.0)


def test_two_calls_never_share_a_decision() -> None:
    stamps = [DecisionStamper().stamp(OPEN).stamp for _ in range(100)]
    assert len({stamp.decision_id for stamp in stamps if stamp}) == 100

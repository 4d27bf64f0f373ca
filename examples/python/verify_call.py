"""Enroll a voice, verify a recording, and decide on a call while it goes on."""

import sys
from pathlib import Path

from sayso import Client, RawAudio, SequentialTest

raw, early = RawAudio("MULAW", 8000), SequentialTest()
samples = (Path(sys.argv[2]) / "verify-2.wav").read_bytes().partition(b"data")[2][4:]
frames = (samples[at : at + 160] for at in range(0, len(samples), 160))  # of 20 ms
with Client(sys.argv[1]) as sayso:
    print(sayso.enroll("slt", f"{sys.argv[2]}/enroll-1.flac").explanation)
    print(sayso.verify("slt", f"{sys.argv[2]}/verify-1.flac").outcome)
    for heard in sayso.verify_stream("slt", frames, raw=raw, sequential=early):
        print(f"{heard.net_speech_s:.1f} s: {heard.outcome}")

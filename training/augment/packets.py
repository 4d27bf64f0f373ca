"""Packets that never arrive, and what a receiver plays in their place."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from training.augment.waveform import Rng, Waveform

PACKET_S = 0.02
FADE = 0.6
LONGEST_CONCEALED = 3


def draw_lost_packets(packets: int, share: float, burst: float, rng: Rng) -> npt.NDArray[np.bool_]:
    """(packets,), True where lost: on average a `share`, in runs of `burst` packets.

    Gilbert 1960, "Capacity of a burst-noise channel", with every packet of the bad state lost.
    """
    chances = rng.random(packets + 1)
    ends, begins = 1.0 / burst, min(1.0, share / (burst * (1.0 - share)))
    lost = np.empty(packets, np.bool_)
    bad = bool(chances[0] < share)
    for packet, chance in enumerate(chances[1:]):
        lost[packet] = bad
        bad = bool(chance >= ends) if bad else bool(chance < begins)
    return lost


def conceal(speech: Waveform, lost: npt.NDArray[np.bool_], packet_samples: int) -> Waveform:
    """The last packet that arrived, repeated and fading by 4.4 dB each time, then silence.

    `lost` is (packets,); what follows the last whole packet arrives.
    """
    output = speech.copy()
    run = 0
    for packet, is_lost in enumerate(lost):
        run = run + 1 if is_lost else 0
        if not is_lost:
            continue
        start = packet * packet_samples
        before = output[start - packet_samples : start]
        repeats = packet > 0 and run <= LONGEST_CONCEALED
        output[start : start + packet_samples] = FADE * before if repeats else 0.0
    return output

"""What synthesizers say: the word of a bona fide clip if its file is named by it, else a sentence
as callers say it."""

from __future__ import annotations

from pathlib import Path

from training.augment.waveform import Rng

DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
STREETS = ("Mill Road", "Station Street", "Park Avenue", "Church Lane", "Bridge Street")
NAMES = ("Anna Weber", "David Brown", "Maria Lopez", "John Carter", "Priya Shah", "Wei Chen")
MONTHS = ("January", "March", "April", "June", "August", "October", "December")
REQUESTS = (
    "please read me the balance of my current account",
    "I would like to change the address on my policy",
    "I lost my card yesterday and want to have it blocked",
    "can you tell me when the next payment is due",
    "my voice is my password, please let me in",
    "I am calling about the letter that came this morning",
    "could you send the statement to my new address",
    "the transfer that I made on Monday has not arrived",
    "I need help with the application on my phone",
    "please put me through to somebody in the claims department",
)
SPOKEN_WORDS = frozenset({*DIGITS, "yes", "no", "stop", "go", "left", "right", "wow", "happy"})


def choose_text(source: Path, rng: Rng) -> str:
    """Return the word that `source` is named by (`six-05.opus`), or draw a sentence."""
    word = source.stem.partition("-")[0]
    return word if word in SPOKEN_WORDS else draw_sentence(rng)


def draw_sentence(rng: Rng) -> str:
    """Draw a request, a number, an address or a date of birth."""

    def one_of(words: tuple[str, ...]) -> str:
        return words[int(rng.integers(len(words)))]

    number = " ".join(one_of(DIGITS) for _ in range(int(rng.integers(5, 10))))
    sentences = (
        one_of(REQUESTS),
        f"my customer number is {number}",
        f"this is {one_of(NAMES)}, I live at {int(rng.integers(2, 99))} {one_of(STREETS)}",
        f"I was born on the {int(rng.integers(3, 28))}th of {one_of(MONTHS)},"
        f" {int(rng.integers(1940, 2005))}",
    )
    return one_of(sentences)

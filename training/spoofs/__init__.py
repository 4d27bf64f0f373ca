"""Makes spoofed speech from a corpus of bona fide speech, for a countermeasure to learn from.

manifest ─ plan ─> one job a clip ─ generators ─> speech ─ capture ─> clip.opus, manifest.csv
                                      │
                 synthesis, neural    a text is spoken by a synthesizer
                 vocoders             a clip is taken apart and made again, in another voice or not
                 replay               a clip is played by a loudspeaker into another microphone

Speakers keep their split. Generators that are held out make clips outside of the training split
only, so that a countermeasure meets kinds that it never learned from. Bona fide clips go through
the same last steps as spoofed ones (`capture`), so that the coding of a file says nothing.
"""

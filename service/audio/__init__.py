"""Audio: the bytes of a request to windows of speech at the model's rate, and how good they are.

bytes -> containers, codecs (wav, ogg, g711) -> decoding -> voice activity, speech -> windows
                                                   |
                                                   +-> quality, plausibility
"""

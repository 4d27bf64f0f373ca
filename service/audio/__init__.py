"""Audio: turn the bytes of a request into windows of speech at the model's rate, and its quality.

stream: bytes ─> decoding ─────────────────────> speech ────────> windows
                 ├ containers, formats           ├ voice_activity  └ pace
                 ├ codecs (g711, plausibility)   └ quality
                 ├ wav
                 ├ compressed (ogg, webm)
                 └ resampling

To add a codec, see `codecs`.
"""

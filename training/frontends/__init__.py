"""Waveform to features, in plain operations that are exported with the encoder.

log_mel     the front end of this project
published   those of Kaldi, SpeechBrain, NeMo and librosa
"""

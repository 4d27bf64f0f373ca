"""What raw requests say of their audio."""

from sayso.v1 import audio_pb2

FILE = audio_pb2.AudioConfig(encoding=audio_pb2.AUDIO_ENCODING_FILE)

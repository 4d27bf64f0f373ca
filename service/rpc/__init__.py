"""protobuf <-> domain: each rpc parses, calls, replies.

messages.py      one function a message, both ways
requests.py      reading requests: streams of config then audio, tenant, limits
verification.py  VerificationService
speakers.py      SpeakerService
"""

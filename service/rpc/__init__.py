"""protobuf <-> domain: each rpc parses, calls, replies.

messages.py      one function a message, both ways
requests.py      reading requests: streams of config then audio, tenant, limits
verification.py  VerificationService
speakers.py      SpeakerService
health.py        grpc.health.v1
reflection.py    grpc.reflection.v1 and v1alpha
"""

"""protobuf <-> domain: each rpc parses, calls, replies.

reading.py       reads requests inside the guards, with time and memory budgets
requests.py      streams of config then audio, tenant, limits
messages.py      parses and builds messages, one function for each
statuses.py      an error as google.rpc.Status
verification.py  VerificationService
speakers.py      SpeakerService
groups.py        GroupService
calls.py         CallService
server.py        ServerService
health.py        grpc.health.v1
reflection.py    grpc.reflection.v1 and v1alpha
"""

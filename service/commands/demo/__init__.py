"""`sayso demo`: a real server, voices enrolled, genuine calls and impostors verified over gRPC.

audio folder -> voices -> trials -> run: enroll, verify on a server -> report
"""

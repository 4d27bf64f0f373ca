"""Speed, latency and memory of a real server, of its parts and of other software.

serving, latency, streaming, requests, workers, soak    a server under load (callers, verifying)
cpu, gpu_check, search, stores, evaluation, train       parts of it
peers ─> extractors, triton                             other software on the same recordings
"""

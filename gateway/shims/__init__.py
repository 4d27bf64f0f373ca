"""The HTTP interfaces of two services that have ended, over the client: one module for each.

    program ── the ended service's own request ──> shim ── client ──> server
            <── an answer in its shape, or an error that says what there is no counterpart of ──

azure.py      Azure Speaker Recognition, text-independent
voice_id.py   Amazon Connect Voice ID: EvaluateSession and the speakers
sigv4.py      AWS Signature Version 4, checked
scores.py     log-likelihood ratios as scores from 0 to 1
bodies.py     bodies of requests, bounded in size, time and number
"""

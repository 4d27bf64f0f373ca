"""SIPREC: a session recording server (RFC 7866), to which a session border controller sends a copy
of each call.

    INVITE (offer, metadata) ─> which call, which stream is the caller's ─> 200 (answer)
    RTP of each stream ─> the caller's, in its order ─> call
    re-INVITE, UPDATE ─> hold, streams and participants that changed
    BYE, or silence ─> the last decision

messages.py      SIP messages, over datagrams and streams
transactions.py  what was answered, sent again until it arrives
sdp.py           offers and answers
metadata.py      who speaks on which stream (RFC 7865, and what vendors make of it)
rtp.py           the audio of one stream, from one source, in its order
sessions.py      one recording: its streams, its call
recorder.py      requests to sessions
transports.py    UDP, TCP and TLS

Nothing is sent to the platform but SIP: decisions leave as events. Only announced calls are taken,
as the metadata are the platform's word for who is calling, and no proof.
"""

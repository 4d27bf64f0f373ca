"""Connectors: one module for each protocol.

twilio.py    Twilio Media Streams
dialects.py  Telnyx, Plivo, SignalWire, Exotel, Bandwidth
streams.py   what Twilio and its dialects share: JSON events over a WebSocket
pcm.py       samples over a WebSocket: FreeSWITCH, jambonz, Asterisk chan_websocket, browsers
audiohook.py Genesys AudioHook; http_signature.py is how it signs
audiosocket.py  Asterisk AudioSocket, over TCP
siprec/      SIPREC, from session border controllers: SIP and RTP
"""

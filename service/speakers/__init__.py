"""Speakers: how a voice is enrolled, adapted, locked, found twice, and erased."""

"""Speakers: what happens to a voice between its first enrollment and its erasure.

lifecycle     the states of a speaker, and the steps between them
enrollment/   adds speech to a voice, or says why not
voiceprints   edits of a voiceprint, and which model's counts
adaptation    accepted calls improve a voice
lockout       failed verifications lock a speaker
expiry        voices that are not used for too long are erased
"""

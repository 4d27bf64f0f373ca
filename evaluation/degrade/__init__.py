"""What happens to speech between a mouth and a recording, simulated and seeded.

clip ─> impairments | conditions | channels ─┬─> noise, rooms, bands, levels
                                             └─> codecs (opus through libopus) ─> degraded clip
"""

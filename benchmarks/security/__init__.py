"""Measure what a caller learns from answers: attack runs attacker against a real server."""

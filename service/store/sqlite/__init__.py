"""The embedded store: one SQLite file, on one machine."""

"""The models that ship, each one file; README.md is their card."""

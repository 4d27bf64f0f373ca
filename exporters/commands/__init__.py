"""The commands of `sayso-export`, one module each."""

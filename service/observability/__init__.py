"""Observability: metrics, logs and traces for the operator of a server."""

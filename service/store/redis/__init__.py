"""The shared store: several servers on one Redis, with TLS, Sentinel or Cluster."""

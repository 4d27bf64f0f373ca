"""What a server tells its operator: metrics, logs and traces."""

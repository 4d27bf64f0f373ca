"""The client that blocks: threads, iterators, context managers."""

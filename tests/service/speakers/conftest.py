from tests.support.stores import (
    address,
    cluster,
    make_speaker,
    redis_server,
    sentinel,
    store,
    tenant,
)

__all__ = [
    "address",
    "cluster",
    "make_speaker",
    "redis_server",
    "sentinel",
    "store",
    "tenant",
]

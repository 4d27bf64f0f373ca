"""The metrics that the service declares, for tests of what is written about them."""

from dataclasses import dataclass
from types import ModuleType

from prometheus_client.metrics import MetricWrapperBase

import gateway.metrics
from service.observability import metrics

_SUFFIXES = {
    "counter": ("_total",),
    "gauge": ("",),
    "histogram": ("_bucket", "_count", "_sum"),
}


@dataclass(frozen=True, slots=True)
class Metric:
    """`name` is as Prometheus lists it: that of a counter ends in _total."""

    name: str
    kind: str
    labels: tuple[str, ...]
    meaning: str
    samples: tuple[str, ...]


def list_metrics() -> list[Metric]:
    """Those of the server."""
    return _list_metrics(metrics)


def list_gateway_metrics() -> list[Metric]:
    return _list_metrics(gateway.metrics)


def _list_metrics(module: ModuleType) -> list[Metric]:
    wrappers = [value for value in vars(module).values() if isinstance(value, MetricWrapperBase)]
    return [_describe(wrapper) for wrapper in wrappers]


def _describe(metric: MetricWrapperBase) -> Metric:
    family = next(iter(metric.describe()))
    suffixes = _SUFFIXES[family.type]
    if metric is metrics.LLR:  # Prometheus has no sum of what may be negative
        suffixes = ("_bucket", "_count")
    name = family.name + (suffixes[0] if family.type == "counter" else "")
    samples = tuple(family.name + suffix for suffix in suffixes)
    return Metric(name, family.type, metric._labelnames, family.documentation, samples)

"""The options offer every choice there is; they are written out so that `--help` is quick."""

from typing import get_args

from evaluation.commands import options as measuring
from evaluation.degrade import conditions, impairments
from exporters.commands import options
from exporters.sources import ARCHITECTURES, COUNTERMEASURES, graft
from exporters.tuning import backend, quantize
from service.inference import session


def test_of_export() -> None:
    assert sorted(options.ARCHITECTURES) == sorted([*ARCHITECTURES, *COUNTERMEASURES])
    assert get_args(options.BackEnd) == tuple(kind.value for kind in backend.Kind)
    assert get_args(options.Features) == get_args(graft.Features)
    assert get_args(options.Precision) == get_args(quantize.Kind)


def test_of_evaluation() -> None:
    assert tuple(conditions.CODEC_NAMES) == measuring.CODECS
    assert tuple(impairments.IMPAIRMENTS) == measuring.IMPAIRMENTS
    assert get_args(get_args(measuring.FIELDS["device"])[0]) == get_args(session.Device)

"""The vectorised terms are the service's terms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.scoring.measures import Measures, make_design_matrix
from service.decisions import scoring

seconds = st.floats(0, 200)


@given(st.floats(-1, 1), seconds, seconds, st.floats(-30, 90))
def test_terms_are_those_of_the_service(
    cosine: float, enrol_s: float, test_s: float, snr_db: float
) -> None:
    columns = [np.array([value]) for value in (cosine, enrol_s, test_s, snr_db)]
    one = scoring.Measures(cosine, enrol_s, test_s, snr_db)
    expected = [term(one) for term in scoring.TERMS.values()]
    assert make_design_matrix(Measures(*columns), list(scoring.TERMS))[0] == pytest.approx(expected)

import onnx

from exporters.voice_activity import graph
from service import silero


def test_what_is_shipped_is_what_it_makes_and_holds_no_weights() -> None:
    weights = silero.arranged(silero.weights(silero.installed()))
    shipped = onnx.load(silero.GRAPH, load_external_data=False)
    assert shipped.graph == graph(weights).graph
    assert silero.GRAPH.stat().st_size < 10_000

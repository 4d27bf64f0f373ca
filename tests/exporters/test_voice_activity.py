import onnx

from exporters.voice_activity import graph
from service.audio import voice_activity


def test_what_is_shipped_is_what_it_makes_and_holds_no_weights() -> None:
    weights = voice_activity.arranged(voice_activity.weights(voice_activity.installed()))
    shipped = onnx.load(voice_activity.GRAPH, load_external_data=False)
    assert shipped.graph == graph(weights).graph
    assert voice_activity.GRAPH.stat().st_size < 10_000

import onnx

from exporters.voice_activity import make_graph
from service.audio import voice_activity


def test_what_is_shipped_is_what_it_makes_and_holds_no_weights() -> None:
    weights = voice_activity.arrange(
        voice_activity.read_weights(voice_activity.find_package_model())
    )
    shipped = onnx.load(voice_activity.GRAPH, load_external_data=False)
    assert shipped.graph == make_graph(weights).graph
    assert voice_activity.GRAPH.stat().st_size < 10_000

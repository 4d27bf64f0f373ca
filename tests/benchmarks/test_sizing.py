"""What a number of calls takes follows from what was measured on one core and one process."""

from benchmarks import pages, report, sizing

MEASURED = {
    "streaming_default_per_core": 100.0,
    "streaming_default_idle_resident_before": 150.0,
    "streaming_default_idle_resident_per_call": 50.0,
    "requests_default_before": 160.0,
    "requests_default_after": 200.0,
}


def test_the_page_is_what_the_results_say() -> None:
    text = report.SIZING.read_text(encoding="utf-8")
    section = pages.read_section(text, report.SIZING_BEGIN, report.SIZING_END)
    assert section == report.render_sizing(report.read_results()), "run `make bench-report`"


def test_cores_have_headroom_and_a_server_is_to_spare() -> None:
    size = sizing.compute_size(1_000, MEASURED, "default")
    assert size.cores == 15  # 1,000 over 70 calls a core
    assert size.servers == 2 + 1
    assert round(size.store_operations_per_s, 1) == 11.1


def test_memory_is_of_all_processes_of_a_server_and_of_its_share_of_the_calls() -> None:
    size = sizing.compute_size(1_000, MEASURED, "default")
    assert round(size.server_memory_gb, 3) == round((4 * 190 + 500 * 0.05) / 1000, 3)

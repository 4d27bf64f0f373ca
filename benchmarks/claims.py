"""A sentence for each figure with a target, for docs/benchmarks.md."""

from collections.abc import Mapping

_MODELS = {"default": "default model", "small": "small model"}
_PEERS = {"speechbrain": "SpeechBrain", "sherpa_onnx": "sherpa-onnx", "resemblyzer": "Resemblyzer"}
_STORES = {"redis": "Redis", "sqlite": "SQLite"}
_READS = {
    "read": "a speaker read from the store, p99",
    "unknown": "a speaker who is not enrolled, p99",
}

SAID: Mapping[str, str] = {
    "metrics_lopsided": "metrics of 10 million scores, 2% of them targets",
    "metrics_lopsided_peak": "memory for it, the whole process",
    "sklearn_roc_over_metrics_lopsided": "time of scikit-learn's ROC alone, over all of ours",
    "metrics_balanced": "metrics of 10 million scores, half of them targets",
    "metrics_balanced_peak": "memory for it, the whole process",
    "sklearn_roc_over_metrics_balanced": "time of scikit-learn's ROC alone, over all of ours",
    "all_pairs_memory_over_matrix": "memory to score all pairs, over that of their matrix",
    "first_run_over_later": "a first evaluation, over one with its embeddings kept",
    **{
        f"household_{size}_of_all_corpora_false_matches": (
            f"false matches of a claim of {size} voice{'s' * (size > 1)}, 1% promised"
        )
        for size in (1, 2, 4, 8)
    },
    "spoofing_ours_recorded_alarms": "bona fide clips suspected by our countermeasure, as recorded",
    "spoofing_ours_telephone_alarms": "bona fide clips suspected by it, by telephone",
    "gateway_share": "processor time of the gateway for a Twilio call, over the server's",
    "gateway_added_p99": "partial results through the gateway, later than without it, p99",
    "gateway_soak_accepted": "200 calls at once through the gateway: accepted",
    "gateway_soak_growth": "memory of the gateway for them",
    "latency_excess_at_10": "`Verify` at 10% load, beyond decoding, voice activity, inference",
    "latency_at_80_p99_over_p50": "`Verify` at 80% load, p99 over p50",
    **{
        f"peers_over_{key}": f"audio a processor second, over {name}'s"
        for key, name in _PEERS.items()
    },
    **{
        f"peers_memory_of_{key}": f"peak memory of {name}, over ours"
        for key, name in _PEERS.items()
    },
    "peers_verify_over_triton": "`Verify` a second, over bare inference in Triton",
    "peers_all_speech_over_triton": "the same without voice activity",
    **{f"requests_{key}_ready": f"start to SERVING, {name}" for key, name in _MODELS.items()},
    "requests_small_ready_resident": "memory of a server when ready, small model",
    **{
        f"requests_{key}_growth": f"growth of memory over many requests, {name}"
        for key, name in _MODELS.items()
    },
    "requests_small_after": "memory of the server after them, small model",
    "search_median": "exact search among a million voices",
    "search_over_float32_products": "a search, over the bare float32 products",
    "search_inexact_random": "searches that missed one of the top 10, random voices",
    "search_inexact_clustered": "searches that missed one of the top 10, voices alike",
    "serving_speech_over_session": "windows a second of a server, over bare inference",
    "serving_speech_over_pipeline": "the same over a loop of decoding, voice activity, inference",
    "serving_all_speech_over_session": "without voice activity, over bare inference",
    "serving_all_speech_over_pipeline": "the same over a loop of decoding and inference",
    **{
        f"soak_{key}_growth": f"growth of memory in a soak on {name}"
        for key, name in _STORES.items()
    },
    **{f"soak_{key}_failed": f"failed calls in a soak on {name}" for key, name in _STORES.items()},
    **{
        f"{key}_{kind}_p99": f"a million speakers in {name}: {read}"
        for key, name in _STORES.items()
        for kind, read in _READS.items()
    },
    **{
        f"streaming_{key}_{figure}": f"{said}, {name}"
        for key, name in _MODELS.items()
        for figure, said in {
            "per_core": "calls in real time on one core",
            "p99": "their partial results after the audio, p99",
            "per_core_by_processor_time": "calls on one core by processor time",
            "idle_resident": "memory of a server with 1000 idle calls",
        }.items()
    },
    **{
        f"{key}_start_{figure}": f"{said}, {name}, by bench-cpu"
        for key, name in _MODELS.items()
        for figure, said in {"ready": "start to SERVING", "resident": "memory when ready"}.items()
    },
    **{
        f"tune_{model}_{corpus}_{line}_eer_ratio": (
            f"EER of {name} tuned to a {line} of {corpus}, over EER as it is"
        )
        for model, name in {"sayso": "the default model", "campplus": "CAM++"}.items()
        for corpus in ("speechocean762", "common_voice")
        for line in ("landline", "mobile", "recorder")
    },
    "train_cpu_bare_over_speechbrain": "training steps a second on the CPU, over SpeechBrain's",
    "train_cuda_bare_over_speechbrain": "training steps a second on CUDA, over SpeechBrain's",
    "train_cuda_whole_over_bare": "training with its loader on CUDA, over the bare step",
}

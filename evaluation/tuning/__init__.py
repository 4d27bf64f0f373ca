"""A model's scores fitted to an operator's own calls: weights and embedding space stay.

recordings ─> line: what the calls are like
    └─> calls: embeddings, and pairs of labelled recordings ─> cohorts: scores by each cohort
                                                                  │
    tuned.onnx <─ model_file <─ contract <─ what is shown to help ┴─ judgment: before and after
"""

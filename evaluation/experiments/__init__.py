"""What `sayso-evaluate` measures: each module takes a request and returns a document.

request           a model and what to measure it on; trial_selection reads or pairs its trials
model_assessment  one model on its trials, beside the baseline
condition_grid    error rates by length, noise and codec of the test side
promises          whether the promised false-match rate holds in each condition
score_variants    cosine beside score normalization and back-ends
external_scores   scores of another system, and two reports compared
"""

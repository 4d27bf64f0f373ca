"""What `sayso-evaluate` measures: each module takes a request and returns a document.

run             one model on its trials, beside the baseline
condition_grid  error rates by length, noise and codec of the test side
promises        whether the promised false-match rate holds in each condition
variants        cosine beside score normalization and back-ends
foreign         scores of another system, and two reports compared
"""

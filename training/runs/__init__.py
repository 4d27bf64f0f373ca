"""What a training run needs around its loop.

before   preconditions ─> material: batches and held-out trials
         published: weights of a model file to begin with
during   validation, collapse ─> reporting ─> history, curves
         checkpoint ─> last.pt, best.pt
after    reproduction: the line that repeats it; comparison of runs, pictures
"""

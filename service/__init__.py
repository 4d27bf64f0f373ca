"""The gRPC service: a request becomes audio, speech, windows, an embedding, a score, a decision.

    request -> audio -> speech -> windows -> batcher -> session -> embedding
                                                                      |
                                  decision <- scoring <- store <------+

Nothing in here imports torch: the model file carries its own front end.
"""

"""Commands of `sayso-train` beside training itself; `training.__main__` puts them together.

material                                manifest, inspect, pack: what is learned from
hear                                    what augmentation does to a clip
picture, probe                          where an encoder puts speakers, what else it tells apart
compare                                 runs beside each other
trained                                 a checkpoint and the clips that it is shown
terminal                                what every command prints to
"""

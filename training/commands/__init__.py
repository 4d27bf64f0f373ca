"""The commands of `sayso-train`; `training.__main__` puts them together.

data              manifest, inspect, pack: a corpus before it is trained on
run, teach        training, and the targets of distillation
average           weights between the start and the end of a run
describe          what a recipe's encoder costs
hear              what augmentation does to a clip
picture, probe    where an encoder puts speakers, and what else it tells apart
compare           a table of runs
trained           a checkpoint and the clips that it is given
options, terminal arguments that commands share, and how they print
"""

"""A member of a group whom a voice was compared with."""

from dataclasses import dataclass, field

from service.decisions.decision import Score


@dataclass(frozen=True, slots=True)
class Match:
    """A member of a group, compared with the model `model_id`."""

    group: str
    speaker_id: str
    score: Score
    model_id: str = ""
    use_noted: bool = field(default=True, compare=False)  # recently enough, in the store

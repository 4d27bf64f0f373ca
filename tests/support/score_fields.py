"""The fields of an answer that tell how near a voice came."""

from google.protobuf.message import Message

SCORES = {"cosine", "llr", "values"}


def contains_score(message: Message) -> bool:
    """Whether a cosine, a ratio or an embedding is anywhere in the message."""
    for field, value in message.ListFields():
        if field.name in SCORES:
            return True
        if field.type == field.TYPE_MESSAGE:
            inner = value if field.is_repeated else [value]
            if any(isinstance(item, Message) and contains_score(item) for item in inner):
                return True
    return False

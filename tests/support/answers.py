"""What an answer holds."""

from google.protobuf.message import Message

SCORES = {"cosine", "llr", "values"}


def holds_a_score(message: Message) -> bool:
    """Whether a cosine, a ratio or an embedding is anywhere in the message."""
    for field, value in message.ListFields():
        if field.name in SCORES:
            return True
        if field.type == field.TYPE_MESSAGE:
            inner = value if field.is_repeated else [value]
            if any(isinstance(each, Message) and holds_a_score(each) for each in inner):
                return True
    return False

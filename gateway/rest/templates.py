"""Path templates of google.api.http, as patterns on a path that is still percent-encoded."""

import re
from dataclasses import dataclass
from urllib.parse import unquote

_VARIABLE = re.compile(r"\{([a-z0-9_.]+)(?:=([^}]+))?\}")
_WILDCARDS = {"*": "[^/]+", "**": ".+"}


@dataclass(frozen=True, slots=True)
class Template:
    """A path such as `/v1/speakers/{speaker_id}:verify`, with the fields that it names."""

    text: str
    fields: tuple[str, ...]
    pattern: re.Pattern[str]

    @property
    def specificity(self) -> tuple[int, int]:
        """Sorts first what says most: `{speaker_id}:verify` before `{speaker_id}`, which would
        take `:verify` for the end of an id."""
        return -len(_VARIABLE.sub("", self.text)), len(self.fields)

    def match(self, path: str) -> dict[str, str] | None:
        """The values of the fields, decoded; None if the path is another. A colon or slash of a
        value must be encoded. Raises `UnicodeDecodeError` for what is not UTF-8."""
        if (found := self.pattern.fullmatch(path)) is None:
            return None
        values = (unquote(value, errors="strict") for value in found.groups())
        return dict(zip(self.fields, values, strict=True))


def parse_template(text: str) -> Template:
    pattern, end = "", 0
    for variable in _VARIABLE.finditer(text):
        pattern += re.escape(text[end : variable.start()]) + f"({_make_pattern(variable[2])})"
        end = variable.end()
    fields = tuple(variable[1] for variable in _VARIABLE.finditer(text))
    return Template(text, fields, re.compile(pattern + re.escape(text[end:])))


def _make_pattern(segments: str | None) -> str:
    parts = (segments or "*").split("/")
    return "/".join(_WILDCARDS.get(part) or re.escape(part) for part in parts)

"""The hash of a JSON value that identities are made of, as `host` computes it."""

import hashlib
import json


class Number(float):
    """A number with a point, which keeps the digits that it was written with: they go into the hash."""

    def __new__(cls, text):
        number = super().__new__(cls, text)
        number.text = text
        return number


def loads(text):
    """Reads JSON so that its hash can be taken."""
    return json.loads(text, parse_float=Number)


def hash_json(value) -> str:
    """The sha256 of a JSON value with its keys in order."""
    return hashlib.sha256(_plain(value).encode()).hexdigest()


def _plain(value) -> str:
    if isinstance(value, dict):
        return "{" + "".join(f"{_text(key)}:{_plain(value[key])}," for key in sorted(value)) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + "".join(f"{_plain(item)}," for item in value) + "]"
    return value.text if isinstance(value, Number) else _text(value)


def _text(value) -> str:
    return json.dumps(value, ensure_ascii=False)

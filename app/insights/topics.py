"""Encrypts and decrypts the topics of insights, which are stored apart from the other lines, so that a list of
recordings decrypts little.
"""

import json
from base64 import b64decode
from collections.abc import Iterable, Mapping
from typing import Any, Final
from uuid import UUID

from app.errors import Conflict
from app.insights.numbered import NumberedLine
from app.keys.keyring import Field, FieldKey, Keyring

TOPICS_FORMAT: Final = 1


def encrypt_topics(
    key: FieldKey, recording_id: UUID, generation: int, topics: Iterable[NumberedLine]
) -> bytes:
    """Return the names of the topics, with the numbers of their lines, encrypted with the recording's data key."""
    stored = {"topics": TOPICS_FORMAT, "lines": [[topic.number, topic.text] for topic in topics]}
    text = json.dumps(stored, ensure_ascii=False, separators=(",", ":"))
    return key.encrypt(_field(recording_id, generation), text.encode("utf-8", errors="replace"))


class TopicReader:
    """Decrypts the topics that a statement has read of each recording (`private.topics_of`)."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    def read(self, encrypted: Mapping[str, Any]) -> list[str]:
        """Return the names of the topics without the dismissed ones. Raises Conflict (field_unreadable,
        root_key_unknown, data_key_wrong, insights_malformed).
        """
        key = self._keyring.unwrap(b64decode(encrypted["wrapped"]), encrypted["root_key"])
        place = _field(UUID(encrypted["recording_id"]), encrypted["generation"])
        text = key.decrypt(place, b64decode(encrypted["ciphertext"]))
        dismissed = frozenset(encrypted["dismissed"])
        return [name for number, name in _parse(text) if number not in dismissed]


def _field(recording_id: UUID, generation: int) -> Field:
    return Field("insight_texts", f"{recording_id}:{generation}", "topics", key_id=str(recording_id))


def _parse(text: bytes) -> list[tuple[int, str]]:
    try:
        stored = json.loads(text)
        if stored["topics"] == TOPICS_FORMAT:
            return [(int(number), str(name)) for number, name in stored["lines"]]
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise Conflict("insights_malformed")

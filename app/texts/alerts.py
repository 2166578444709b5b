"""Reads the texts of the kinds of alerts from `alerts.toml`."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from app.texts.reasons import Sentences


@dataclass(frozen=True)
class AlertText:
    """The texts of one kind of alert."""

    #: The state of the system while the alert is open.
    text: Sentences
    #: The remedy: the next step of the operator or the compliance officer.
    remedy: Sentences


@cache
def load_alert_texts() -> Mapping[str, AlertText]:
    """Return the texts of every kind of alert by its name."""
    tables = tomllib.loads(files(__package__).joinpath("alerts.toml").read_text("utf-8"))
    return {kind: AlertText(**table) for kind, table in tables.items()}

"""The texts that people read, in English and Spanish: error messages, errors of recordings, and the words of
certificates.

`reasons.toml` contains the sentences about each reason. `en.toml` and `es.toml` contain all texts except those of
error reasons, under the same keys in both languages. The placeholders in a sentence are filled only from the public
detail of an error. If a placeholder in the sentence about a reason has no value, or if the reason is not
registered, the reader gets the sentence for the error's code.
"""

import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import TypedDict, cast

from app.errors import DetailValue, MissingConsent
from app.texts.reasons import Language as Language
from app.texts.reasons import Reader, load_reasons

LANGUAGES: tuple[Language, ...] = ("en", "es")
DEFAULT_LANGUAGE: Language = "en"

SEE_DOCUMENTATION = "See docs/reasons.md."


class ErrorTexts(TypedDict):
    """The content of the text file of one language (`en.toml` or `es.toml`), table by table."""

    codes: dict[str, str]
    certificate: dict[str, str]
    access_request: dict[str, str]
    accounting: dict[str, str]
    disclosure: dict[str, str]
    audit_export: dict[str, str]
    signed_note: dict[str, str]
    roles: dict[str, str]
    subtitles: dict[str, str]
    answers: dict[str, str]


def error_message(
    code: str, reason: str | None, language: Language, detail: Mapping[str, DetailValue]
) -> str:
    """Return the text and the remedy of an error, in the given language. The function never raises an error, even
    if the code is unknown.
    """
    texts = error_texts(language)
    general = texts["codes"].get(code, texts["codes"]["INTERNAL"])
    registered = load_reasons().get(reason or "")
    if registered is None:
        return general
    values = {key: _in_words(value, texts["roles"]) for key, value in detail.items()}
    try:
        return f"{registered.text[language]} {registered.remedy[language]}".format_map(values)
    except KeyError:
        return general


def reason_text(reason: str, language: Language) -> str:
    """Return the text and the remedy of a reason that is stored without the error's detail. Never raises."""
    return error_message("INTERNAL", reason, language, {})


def operator_message(reason: str, detail: Mapping[str, DetailValue] | None = None) -> str:
    """Return the English text of a reason, and what the operator can do about it. Never raises.

    The text refers to the documentation if the reason is not registered, or if the detail lacks a value that the
    text needs.
    """
    registered = load_reasons().get(reason)
    if registered is None:
        return SEE_DOCUMENTATION
    try:
        return f"{registered.text['en']} {registered.operator_remedy['en']}".format_map(detail or {})
    except KeyError:
        return SEE_DOCUMENTATION


def problem_text(reader: Reader, code: str, language: Language) -> str:
    """Return the text and the remedy of a stored problem code, for one kind of reader. For an unknown code, the
    function returns the text of `internal_error`. Never raises.
    """
    reason = load_reasons().get(code)
    if reason is None or reader not in reason.readers:
        reason = load_reasons()["internal_error"]
    text = reason.recording_text if reader == "recording" else reason.text
    return f"{text[language]} {reason.remedy_for.get(reader, reason.remedy)[language]}"


def recording_error_text(error: str, language: Language) -> str:
    """Return the text and the remedy for the error of a recording. Never raises."""
    return problem_text("recording", error, language)


def transcription_error_text(error: str, language: Language) -> str:
    """Return why a recording has no transcript, and the remedy. Never raises."""
    return problem_text("transcription", error, language)


def role_name(role: str, language: Language) -> str:
    """Return the name of a role in the given language. Never raises."""
    return error_texts(language)["roles"].get(role, role)


def subtitle_text(name: str, language: Language) -> str:
    """Return the text that subtitles show in place of words that are missing, or before words that are uncertain."""
    return error_texts(language)["subtitles"][name]


def answer_not_found_text(language: Language) -> str:
    """Return what a doctor reads if a question about a transcript has no answer."""
    return error_texts(language)["answers"]["not_found"]


def certificate_words(language: Language) -> dict[str, str]:
    """Return the labels of a certificate of destruction."""
    return error_texts(language)["certificate"]


def accounting_words(language: Language) -> dict[str, str]:
    """Return the texts of the pages and columns of an accounting of disclosures."""
    return error_texts(language)["accounting"]


def disclosure_words(language: Language) -> dict[str, str]:
    """Return the words of accountings of disclosures, and the notice against redisclosure."""
    return error_texts(language)["disclosure"]


def redisclosure_notice(language: Language) -> str:
    """Return the notice that accompanies information about the treatment of a substance use disorder (42 CFR 2.32)."""
    return disclosure_words(language)["redisclosure_notice"]


def signed_note_words(language: Language) -> dict[str, str]:
    """Return the words on the pages of a signed note."""
    return error_texts(language)["signed_note"]


def access_request_words(language: Language) -> dict[str, str]:
    """Return the texts that a patient reads about a copy of recordings and about the denial of an access request."""
    return error_texts(language)["access_request"]


def audit_export_words(language: Language) -> dict[str, str]:
    """Return the texts that a compliance officer reads about an export of the audit log."""
    return error_texts(language)["audit_export"]


@cache
def error_texts(language: Language) -> ErrorTexts:
    """Return all sentences of one language."""
    return cast("ErrorTexts", tomllib.loads(files(__name__).joinpath(f"{language}.toml").read_text("utf-8")))


def _in_words(value: DetailValue, roles: Mapping[str, str]) -> str:
    """Return a value for a sentence. Roles of participants are translated into the reader's language."""
    if not isinstance(value, tuple):
        return str(value)
    return ", ".join(
        roles.get(one.role.lower(), one.role) if isinstance(one, MissingConsent) else one for one in value
    )

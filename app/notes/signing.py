"""The service with which a doctor signs the note on a recording, and adds addenda to a signed note.

A signature freezes the draft as canonical JSON, which is encrypted with the patient's data key and outlives the
recording. Each signature needs a recent TOTP code.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Final
from uuid import UUID, uuid5

import anyio.to_thread

from app.errors import Conflict, InvalidInput, NotFound
from app.idempotency.service import RepeatableCall
from app.identity import permissions
from app.insights.drafts import Section
from app.keys.keyring import Keyring
from app.notes import store
from app.notes.editing import check_text
from app.notes.encryption import DecryptedDraft, decrypt_draft, encrypt_draft
from app.notes.model import MAX_LINES, CheckedLine
from app.notes.note_format import (
    NoteKind,
    QuotesKept,
    SignedCitation,
    SignedCoverage,
    SignedFlag,
    SignedLine,
    SignedNote,
    SignedRemoval,
    format_note,
)
from app.notes.service import CHANGED, ReadDraft, open_draft, show_draft
from app.notes.signed_store import SignedVersion, Signing, begin_signing, store_version
from app.notes.store import OpenedDraft
from app.postgres.database import Asker, Database, Transaction
from app.postgres.selection import Selection
from app.transcripts.model import Turn

_TAKEN: Final = "signed_note_version_taken"


@dataclass(frozen=True)
class SignedDraft:
    """The draft from which the doctor signed the note, which nobody changes any more, and the signed version."""

    draft: ReadDraft
    version: SignedVersion


class NoteSigning:
    """The service that signs notes for the API. `totp_max_age_seconds` is the greatest age of the TOTP code."""

    def __init__(self, database: Database, keyring: Keyring, *, totp_max_age_seconds: int | None) -> None:
        self._database = database
        self._keyring = keyring
        self._totp_max_age_seconds = totp_max_age_seconds

    async def sign(
        self, asker: Asker, recording_id: UUID, based_on_version: int, selection: Selection
    ) -> SignedDraft:
        """Sign the draft of a recording. A repeated call for the same version returns the signed draft, and so does one
        of two concurrent calls.

        Raises Forbidden (totp_stale), NotFound (note_draft_not_found), Conflict (note_draft_changed, note_flags_open,
        note_empty, note_section_in_progress, note_signed, recording_deleted, recording_being_deleted,
        signed_note_destroyed), RateLimited (quota_pages).
        """
        try:
            return await self._sign(asker, recording_id, based_on_version, selection)
        except Conflict as error:
            if error.reason != _TAKEN:
                raise
        return await self._sign(asker, recording_id, based_on_version, selection)

    async def add_addendum(
        self, asker: Asker, recording_id: UUID, lines: Sequence[str], *, idempotency_key: str | None
    ) -> SignedVersion:
        """Sign lines that are added to the signed note on a recording, as a new version of the note, and return this
        version. The recording may be destroyed. A repeated call with the same `idempotency_key` adds nothing.

        Raises InvalidInput (note_line_..., note_too_many_lines, bad_idempotency_key) before it reads anything. Raises
        Forbidden (totp_stale), NotFound (signed_note_not_found), Conflict (note_not_signed, signed_note_version_taken,
        signed_note_destroyed, idempotency_key_reused).
        """
        if not lines:
            raise InvalidInput("note_line_empty")
        if len(lines) > MAX_LINES:
            raise InvalidInput("note_too_many_lines", maximum=MAX_LINES)
        texts = tuple(check_text(line) for line in lines)
        call = RepeatableCall("addAddendum", idempotency_key, recording_id, *texts)
        try:
            return await self._add(asker, recording_id, texts, call)
        except Conflict as error:
            if error.reason != _TAKEN:
                raise
        return await self._add(asker, recording_id, texts, call)

    async def _sign(
        self, asker: Asker, recording_id: UUID, based_on: int, selection: Selection
    ) -> SignedDraft:
        permission = permissions.SIGN_NOTE
        async with self._database.as_user(asker, permission.on(recording_id)) as tx:
            signing = None
            if not await store.is_signed(tx, recording_id):
                signing = await self._begin(tx, recording_id, 1, "note_draft_not_found")
            opened = await open_draft(tx, permission, recording_id, selection)
            decrypted = await anyio.to_thread.run_sync(decrypt_draft, self._keyring, opened.encrypted)
            shown = await anyio.to_thread.run_sync(partial(show_draft, opened, decrypted, is_signed=True))
            if opened.signed_from is not None:
                if opened.signed_from != based_on:
                    raise Conflict("note_signed")
                return SignedDraft(shown, (await store.list_versions(tx, recording_id))[0])
            if signing is None:
                raise Conflict("note_signed")
            if opened.encrypted.version != based_on:
                raise Conflict(CHANGED)
            _require_finished(shown)
            note = make_note(signing, opened, shown, decrypted)
            signed = await store_version(tx, signing, format_note(note), quote_count=note.quote_count)
            ciphertext = encrypt_draft(decrypted.key, recording_id, based_on + 1, decrypted.draft)
            version = await store.store_draft(tx, recording_id, based_on, ciphertext, is_signed=True)
        return SignedDraft(replace(shown, version=version), signed)

    async def _add(
        self, asker: Asker, recording_id: UUID, texts: Sequence[str], call: RepeatableCall
    ) -> SignedVersion:
        async with self._database.as_user(asker, permissions.ADD_ADDENDUM.on(recording_id)) as tx:
            versions = await store.list_versions(tx, recording_id)
            if not versions and await store.is_own_recording(tx, recording_id):
                raise Conflict("note_not_signed")
            signing = await self._begin(tx, recording_id, max(2, len(versions) + 1), "signed_note_not_found")
            earlier = await call.claim(tx)
            if earlier is not None:
                return next(one for one in versions if _id_of(one.note_id, one.version) == earlier)
            note = make_addendum(signing, _person(asker), texts, versions[-1].sha256)
            added = await store_version(tx, signing, format_note(note), quote_count=0)
            await call.settle(tx, _id_of(added.note_id, added.version))
        return added

    async def _begin(self, tx: Transaction, recording_id: UUID, version: int, missing: str) -> Signing:
        signing = await begin_signing(
            tx,
            self._keyring,
            recording_id,
            version,
            totp_max_age_seconds=self._totp_max_age_seconds,
        )
        if signing is None:
            raise NotFound(missing)
        return signing


def make_note(
    signing: Signing, opened: OpenedDraft, shown: ReadDraft, decrypted: DecryptedDraft
) -> SignedNote:
    """Return the note that a draft becomes by its signature. Without the consents to keep quotes, it has none."""
    turns = {turn.number: turn for turn in decrypted.turns}
    quotes = QuotesKept.KEPT if opened.quotes_objection is None else QuotesKept.NOT_PERMITTED
    kept_turns = turns if quotes is QuotesKept.KEPT else {}
    coverage = shown.coverage
    return SignedNote(
        kind=NoteKind.NOTE,
        version=signing.version,
        previous_sha256=None,
        recording_id=signing.recording_id,
        recording_sha256=opened.recording_sha256,
        consultation_id=signing.consultation_id,
        patient_id=signing.patient_id,
        author_id=opened.doctor_id,
        signed_at=signing.signed_at,
        writer=shown.writer,
        sections={
            section: tuple(_signed_line(line, kept_turns) for line in lines)
            for section, lines in shown.sections.items()
        },
        removed=tuple(SignedRemoval(one.section, one.flag) for one in decrypted.draft.removed),
        coverage=SignedCoverage(
            insights=opened.insights_status or "NONE",
            transcript=opened.transcript_status,
            covered_seconds=coverage.covered_ms // 1000,
            duration_seconds=None if opened.duration_seconds is None else int(opened.duration_seconds),
            is_truncated=coverage.is_truncated,
            is_interrupted=coverage.is_interrupted,
            unused_track_count=coverage.unused_track_count,
            unintelligible_turn_count=coverage.unintelligible_count,
            unknown_speaker_turn_count=coverage.unknown_speaker_count,
            uncited_turns=tuple(turn.turn_number for turn in shown.uncited),
            quotes=quotes,
        ),
    )


def make_addendum(
    signing: Signing, author_id: UUID, texts: Sequence[str], previous_sha256: str
) -> SignedNote:
    """Return the addendum with these lines."""
    return SignedNote(
        kind=NoteKind.ADDENDUM,
        version=signing.version,
        previous_sha256=previous_sha256,
        recording_id=signing.recording_id,
        recording_sha256=None,
        consultation_id=signing.consultation_id,
        patient_id=signing.patient_id,
        author_id=author_id,
        signed_at=signing.signed_at,
        sections=dict.fromkeys(Section, ()),
        addendum=tuple(texts),
    )


def _require_finished(shown: ReadDraft) -> None:
    """Raise Conflict (note_empty, note_flags_open) unless the draft can be signed."""
    if not any(shown.sections.values()):
        raise Conflict("note_empty")
    if shown.has_open_flags:
        raise Conflict("note_flags_open")


def _signed_line(checked: CheckedLine, turns: Mapping[int, Turn]) -> SignedLine:
    line = checked.line
    citations = (
        SignedCitation(turn.number, turn.start_ms, turn.end_ms, turn.speaker, one.quote)
        for one in line.citations
        if (turn := turns.get(one.turn_number)) is not None
    )
    flags = (SignedFlag(one.flag, one.resolution) for one in checked.flags if one.resolution is not None)
    return SignedLine(line.text, line.author, tuple(citations), tuple(flags))


def _id_of(note_id: UUID, version: int) -> UUID:
    """Return an id of one version of a note, by which a repeated call finds the version that the first call added."""
    return uuid5(note_id, str(version))


def _person(asker: Asker) -> UUID:
    return UUID(str(asker.person))

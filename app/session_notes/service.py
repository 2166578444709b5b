"""The service that reads and writes the session notes and the psychotherapy notes of a doctor's consultations.

The API decrypts notes in its memory only after the database has stored who requested them.
"""

from collections.abc import AsyncGenerator
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Final
from uuid import UUID, uuid4

import anyio.to_thread

from app.errors import AppError, Conflict, NotFound
from app.idempotency.service import Mutation, RepeatableCall
from app.identity import permissions
from app.identity.permissions import Permission
from app.keys.keyring import Keyring
from app.postgres.composer import Row
from app.postgres.database import Asker, Database, Transaction
from app.postgres.selection import Selection
from app.recordings.change_feed import Changes
from app.recordings.changes import Slot, Subscriptions
from app.session_notes import store
from app.session_notes.encryption import decrypt_notes, decrypt_text, encrypt_text
from app.session_notes.model import Note, NoteKind, check_text, to_milliseconds
from app.session_notes.store import OpenedNotes


@dataclass(frozen=True)
class ReadNotes:
    """The notes of a consultation in the order in which they were written. `metadata` has the selected `consultation`,
    and the `recordings` if the recording of a note is selected. `is_incomplete` is true if notes were left out because
    the deletion of their recording was requested.
    """

    consultation_id: UUID
    kind: NoteKind
    metadata: Row
    notes: tuple[Note, ...]
    is_incomplete: bool


@dataclass(frozen=True)
class ChangedNotes:
    """The note that a call wrote or edited, and the notes that the answer shows. `note` is None if the note no longer
    exists. If the call was refused because it was based on an earlier version, `refusal` is the error, and `notes` are
    the newest notes.
    """

    note: Note | None
    notes: ReadNotes
    refusal: Conflict | None = None


@dataclass(frozen=True)
class NoteSelection:
    """What the client selects of a mutation's answer. If `only_note` is true, the answer shows only the changed note.
    If `shows_newest` is true, the answer can show the newest notes besides a refusal.
    """

    selection: Selection
    only_note: bool
    shows_newest: bool


_READ: Final = {
    NoteKind.SESSION: permissions.READ_SESSION_NOTES,
    NoteKind.PSYCHOTHERAPY: permissions.READ_PSYCHOTHERAPY_NOTES,
}
_WRITE: Final = {
    NoteKind.SESSION: permissions.WRITE_SESSION_NOTE,
    NoteKind.PSYCHOTHERAPY: permissions.WRITE_PSYCHOTHERAPY_NOTE,
}
_EDIT: Final = {
    NoteKind.SESSION: permissions.EDIT_SESSION_NOTE,
    NoteKind.PSYCHOTHERAPY: permissions.EDIT_PSYCHOTHERAPY_NOTE,
}
_DELETE: Final = {
    NoteKind.SESSION: permissions.DELETE_SESSION_NOTE,
    NoteKind.PSYCHOTHERAPY: permissions.DELETE_PSYCHOTHERAPY_NOTE,
}
_MUTATIONS: Final[dict[NoteKind, Mutation]] = {
    NoteKind.SESSION: "writeSessionNote",
    NoteKind.PSYCHOTHERAPY: "writePsychotherapyNote",
}


class SessionNotes:
    """The service. Each method takes the kind of the notes, because psychotherapy notes are kept apart."""

    def __init__(self, database: Database, keyring: Keyring, subscriptions: Subscriptions) -> None:
        self._database = database
        self._keyring = keyring
        self._subscriptions = subscriptions

    async def read(
        self, asker: Asker, kind: NoteKind, consultation_id: UUID, selection: Selection
    ) -> ReadNotes:
        """Return the notes of a consultation. Raises NotFound (consultation_not_found), RateLimited (quota_pages)."""
        access = _READ[kind].on(consultation_id)
        async with self._database.as_user(asker, access) as tx:
            opened = await store.open_notes(
                tx, kind, access.action, consultation_id, selection, is_counted=True
            )
            if opened is None:
                raise NotFound("consultation_not_found")
        return await self._decrypt(kind, consultation_id, opened)

    async def write(
        self,
        asker: Asker,
        kind: NoteKind,
        recording_id: UUID,
        text: str,
        start_seconds: float | None,
        wanted: NoteSelection,
        *,
        idempotency_key: str | None = None,
    ) -> ChangedNotes:
        """Write a new line on a recording. A repeated call with the same `idempotency_key` writes no second line.

        If the text or the key is invalid, the method raises InvalidInput (session_note_..., bad_idempotency_key)
        before it reads anything. Raises NotFound (recording_not_found), InvalidInput (session_note_time), Conflict
        (session_notes_full, recording_deleted, recording_being_deleted, idempotency_key_reused), RateLimited
        (quota_pages).
        """
        line = check_text(text)
        call = RepeatableCall(
            _MUTATIONS[kind],
            idempotency_key,
            recording_id,
            line,
            None if start_seconds is None else str(start_seconds),
        )
        access = _WRITE[kind].on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            begun = await store.begin_note(tx, access.action, recording_id, self._keyring.offer_data_key())
            if begun is None:
                raise NotFound("recording_not_found")
            note_id = await call.claim(tx)
            if note_id is None:
                note_id = uuid4()
                start_ms = to_milliseconds(start_seconds, begun.duration_seconds)
                key = self._keyring.unwrap(begun.key.wrapped, begun.key.root_key_id)
                ciphertext = encrypt_text(key, kind, recording_id, note_id, 1, line)
                await store.add_note(tx, access.action, recording_id, note_id, start_ms, ciphertext)
                await call.settle(tx, note_id)
            opened = await _show(tx, kind, _WRITE[kind], begun.consultation_id, note_id, wanted)
        return _changed(note_id, await self._decrypt(kind, begun.consultation_id, opened))

    async def edit(
        self,
        asker: Asker,
        kind: NoteKind,
        note_id: UUID,
        text: str,
        start_seconds: float | None,
        based_on_version: int,
        wanted: NoteSelection,
    ) -> ChangedNotes:
        """Replace the text and the time of a line, and keep the earlier version. If the newest version already has
        them, the call changes nothing.

        If the line has a later version than `based_on_version`, the call is refused: the method raises Conflict
        (session_note_changed), or returns this error with the newest notes if the answer can show them. Raises
        InvalidInput (session_note_...), NotFound (session_note_not_found), Conflict (session_note_versions_full,
        recording_deleted, recording_being_deleted), RateLimited (quota_pages).
        """
        line = check_text(text)
        access = _EDIT[kind].on(note_id)
        consultation_id: UUID | None = None
        try:
            async with self._database.as_user(asker, access) as tx:
                begun = await store.begin_change(tx, access.action, note_id)
                if begun is None:
                    raise NotFound("session_note_not_found")
                consultation_id = begun.consultation_id
                start_ms = to_milliseconds(start_seconds, begun.duration_seconds, begun.start_ms)
                key = self._keyring.unwrap(begun.key.wrapped, begun.key.root_key_id)
                before = decrypt_text(key, kind, begun.recording_id, note_id, begun.version, begun.ciphertext)
                if (line, start_ms) != (before, begun.start_ms):
                    begun.require_version(based_on_version)
                    ciphertext = encrypt_text(
                        key, kind, begun.recording_id, note_id, based_on_version + 1, line
                    )
                    await store.change_note(
                        tx, access.action, note_id, based_on_version, start_ms, ciphertext
                    )
                opened = await _show(tx, kind, _EDIT[kind], consultation_id, note_id, wanted)
        except Conflict as error:
            return await self._show_newest(asker, kind, consultation_id, wanted, error)
        return _changed(note_id, await self._decrypt(kind, consultation_id, opened))

    async def delete(
        self, asker: Asker, kind: NoteKind, note_id: UUID, based_on_version: int, wanted: NoteSelection
    ) -> ChangedNotes:
        """Delete a line with all its versions.

        If the line has a later version than `based_on_version`, the call is refused as in `edit`. Raises NotFound
        (session_note_not_found), Conflict (recording_held, recording_deleted, recording_being_deleted), RateLimited
        (quota_pages).
        """
        access = _DELETE[kind].on(note_id)
        consultation_id: UUID | None = None
        try:
            async with self._database.as_user(asker, access) as tx:
                begun = await store.begin_change(tx, access.action, note_id)
                if begun is None:
                    raise NotFound("session_note_not_found")
                consultation_id = begun.consultation_id
                begun.require_version(based_on_version)
                await store.delete_note(tx, access.action, note_id, based_on_version)
                opened = await _show(tx, kind, _DELETE[kind], consultation_id, note_id, wanted)
        except Conflict as error:
            return await self._show_newest(asker, kind, consultation_id, wanted, error)
        return ChangedNotes(None, await self._decrypt(kind, consultation_id, opened))

    def watch(
        self, asker: Asker, consultation_id: UUID, selection: Selection, slot: Slot = nullcontext
    ) -> AsyncGenerator[ReadNotes]:
        """Yield the session notes of a consultation, and then again after each change of them. Raises NotFound
        (consultation_not_found), and the errors of `Subscriptions`.
        """
        reader = _Reader(self, asker, consultation_id, selection)
        return self._subscriptions.follow(consultation_id, reader, slot)

    async def read_watched(
        self, asker: Asker, consultation_id: UUID, selection: Selection, sent: str | None
    ) -> tuple[str | None, list[ReadNotes]]:
        """Return the version of the consultation's session notes, and the notes if their version differs from `sent`.
        `sent` is None for the first read, which counts as one page. Raises NotFound (consultation_not_found).
        """
        access = permissions.WATCH_SESSION_NOTES.on(consultation_id)
        async with self._database.as_user(asker, access) as tx:
            version = await store.read_version(tx, consultation_id)
            if version is not None and version == sent:
                return version, []
            opened = await store.open_notes(
                tx, NoteKind.SESSION, access.action, consultation_id, selection, is_counted=sent is None
            )
            if opened is None:
                raise NotFound("consultation_not_found")
        return version, [await self._decrypt(NoteKind.SESSION, consultation_id, opened)]

    async def _show_newest(
        self,
        asker: Asker,
        kind: NoteKind,
        consultation_id: UUID | None,
        wanted: NoteSelection,
        refusal: Conflict,
    ) -> ChangedNotes:
        """Return the newest notes besides a refusal, or raise the refusal if the answer cannot show them."""
        if refusal.reason != "session_note_changed" or not wanted.shows_newest or consultation_id is None:
            raise refusal
        try:
            newest = await self.read(asker, kind, consultation_id, wanted.selection)
        except AppError:
            raise refusal from None
        return ChangedNotes(None, newest, refusal)

    async def _decrypt(self, kind: NoteKind, consultation_id: UUID, opened: OpenedNotes) -> ReadNotes:
        notes = await anyio.to_thread.run_sync(decrypt_notes, self._keyring, kind, opened.keys, opened.notes)
        return ReadNotes(consultation_id, kind, opened.metadata, notes, opened.is_incomplete)


@dataclass
class _Reader:
    notes: SessionNotes
    asker: Asker
    consultation_id: UUID
    selection: Selection
    sent: str | None = None

    async def read_present(self) -> list[ReadNotes]:
        return await self._read()

    async def read_changed(self, changes: Changes) -> list[ReadNotes]:
        return await self._read()

    async def _read(self) -> list[ReadNotes]:
        self.sent, read = await self.notes.read_watched(
            self.asker, self.consultation_id, self.selection, self.sent
        )
        return read


async def _show(
    tx: Transaction,
    kind: NoteKind,
    permission: Permission,
    consultation_id: UUID,
    note_id: UUID,
    wanted: NoteSelection,
) -> OpenedNotes:
    """Return what the answer of a mutation shows, and complete the audit row of the change."""
    opened = await store.open_notes(
        tx,
        kind,
        permission.action,
        consultation_id,
        wanted.selection,
        only_note=note_id if wanted.only_note else None,
        is_counted=False,
    )
    assert opened is not None  # noqa: S101 - the transaction has changed a note of this consultation
    return opened


def _changed(note_id: UUID, notes: ReadNotes) -> ChangedNotes:
    return ChangedNotes(next((one for one in notes.notes if one.id == note_id), None), notes)

"""The service with which a doctor reads, edits and signs the note on one recording.

The API decrypts a draft in its memory only after the database has stored who requested it. Each change of a draft is
based on a version; a change that is based on an earlier version is refused, and shows the newest draft.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final
from uuid import UUID

import anyio.to_thread

from app.errors import AppError, Conflict, NotFound
from app.identity import permissions
from app.identity.permissions import Permission
from app.insights.drafts import Section
from app.insights.model import Flag, Line
from app.insights.writing.coverage import Coverage, UncitedTurn, find_uncited, measure_coverage
from app.keys.keyring import Keyring
from app.notes import section_store, store
from app.notes.editing import LineEdit, edit_section, keep_flag
from app.notes.encryption import DecryptedDraft, decrypt_draft, encrypt_draft
from app.notes.model import CheckedLine, Draft, Writer
from app.notes.store import OpenedDraft
from app.postgres.composer import Row
from app.postgres.database import Asker, Database, Transaction
from app.postgres.selection import Selection
from app.transcripts.model import Turn

CHANGED: Final = "note_draft_changed"

_Change = Callable[[DecryptedDraft], Draft]


@dataclass(frozen=True, kw_only=True)
class ReadDraft:
    """A draft as the doctor reads it: the lines of each section with their flags, the turns that they cite, what the
    transcript covers, and the turns with a number, a dose, an allergy or a medication that no line cites. `metadata`
    has the selected `recording`. `is_stale` says whether the transcript has changed since the insights were written.
    """

    recording_id: UUID
    version: int
    is_signed: bool
    sections: dict[Section, tuple[CheckedLine, ...]] = field(repr=False)
    turns: Sequence[Turn] = field(repr=False)
    metadata: Row = field(repr=False)
    writer: Writer | None
    insights_status: str | None
    coverage: Coverage
    uncited: tuple[UncitedTurn, ...] = field(repr=False)
    has_open_flags: bool
    written_sections: frozenset[Section]
    failed_sections: Mapping[Section, str]


@dataclass(frozen=True)
class ChangedDraft:
    """A changed draft. If the change was refused because it was based on an earlier version, `refusal` is the error,
    and `draft` is the newest draft.
    """

    draft: ReadDraft
    refusal: Conflict | None = None


class NoteDrafts:
    """The service that reads and edits note drafts for the API."""

    def __init__(self, database: Database, keyring: Keyring) -> None:
        self._database = database
        self._keyring = keyring

    async def read(self, asker: Asker, recording_id: UUID, selection: Selection) -> ReadDraft:
        """Return the draft of a recording. Without insights, the draft is empty.

        Raises NotFound (note_draft_not_found), Conflict (recording_deleted, recording_being_deleted), RateLimited
        (quota_pages).
        """
        access = permissions.READ_NOTE_DRAFT.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            opened = await open_draft(tx, permissions.READ_NOTE_DRAFT, recording_id, selection)
        decrypted = await anyio.to_thread.run_sync(decrypt_draft, self._keyring, opened.encrypted)
        return await anyio.to_thread.run_sync(show_draft, opened, decrypted)

    async def edit(
        self,
        asker: Asker,
        recording_id: UUID,
        section: Section,
        edits: Sequence[LineEdit],
        based_on_version: int,
        selection: Selection,
        *,
        shows_newest: bool = False,
    ) -> ChangedDraft:
        """Replace the lines of a section. If the section already has these lines, the call changes nothing.

        If the draft has another version than `based_on_version`, the method raises Conflict (note_draft_changed), or
        returns this error with the newest draft if `shows_newest` is true. Raises InvalidInput (note_line_...,
        note_too_many_lines), NotFound (note_draft_not_found, note_line_unknown), Conflict (note_signed,
        note_section_in_progress, recording_deleted, recording_being_deleted), RateLimited (quota_pages).
        """
        return await self._change(
            asker,
            permissions.EDIT_NOTE_DRAFT,
            recording_id,
            lambda before: edit_section(before.draft, section, edits, before.checker),
            based_on_version,
            selection,
            shows_newest=shows_newest,
            section=section,
        )

    async def keep_flag(
        self,
        asker: Asker,
        recording_id: UUID,
        line_number: int,
        flag: Flag,
        based_on_version: int,
        selection: Selection,
        *,
        shows_newest: bool = False,
    ) -> ChangedDraft:
        """Confirm a flagged line as it is. If the flag is already kept, the call changes nothing.

        Raises NotFound (note_line_unknown), Conflict (note_flag_gone), and the errors of `edit`.
        """
        return await self._change(
            asker,
            permissions.KEEP_NOTE_FLAG,
            recording_id,
            lambda before: keep_flag(before.draft, line_number, flag, before.checker),
            based_on_version,
            selection,
            shows_newest=shows_newest,
        )

    async def rewrite_section(
        self,
        asker: Asker,
        recording_id: UUID,
        section: Section,
        based_on_version: int,
        selection: Selection,
    ) -> ReadDraft:
        """Ask the language model to write a section again, and return the draft. A job of the worker replaces the lines
        of the section; the other sections stay as they are. If the section is being written, the call changes nothing.

        Raises NotFound (note_draft_not_found), Conflict (note_draft_changed, note_signed, note_without_transcript,
        insights_switched_off, insights_consent_withdrawn, insights_consent_text, recording_deleted,
        recording_being_deleted), RateLimited (quota_pages).
        """
        permission = permissions.REWRITE_NOTE_SECTION
        async with self._database.as_user(asker, permission.on(recording_id)) as tx:
            opened = await open_draft(tx, permission, recording_id, selection)
            await section_store.request(tx, recording_id, section, based_on_version)
        asked = replace(
            opened,
            written_sections=opened.written_sections | {section},
            failed_sections={one: why for one, why in opened.failed_sections.items() if one is not section},
        )
        decrypted = await anyio.to_thread.run_sync(decrypt_draft, self._keyring, opened.encrypted)
        return await anyio.to_thread.run_sync(show_draft, asked, decrypted)

    async def _change(
        self,
        asker: Asker,
        permission: Permission,
        recording_id: UUID,
        change: _Change,
        based_on: int,
        selection: Selection,
        *,
        shows_newest: bool,
        section: Section | None = None,
    ) -> ChangedDraft:
        try:
            async with self._database.as_user(asker, permission.on(recording_id)) as tx:
                opened = await open_draft(tx, permission, recording_id, selection)
                before = await anyio.to_thread.run_sync(decrypt_draft, self._keyring, opened.encrypted)
                after, version = await self._store(tx, opened, before, change, based_on, section)
        except Conflict as refusal:
            if refusal.reason != CHANGED or not shows_newest:
                raise
            return ChangedDraft(await self.read(asker, recording_id, selection), refusal)
        shown = partial(show_draft, opened, after, version=version)
        return ChangedDraft(await anyio.to_thread.run_sync(shown))

    async def _store(
        self,
        tx: Transaction,
        opened: OpenedDraft,
        before: DecryptedDraft,
        change: _Change,
        based_on: int,
        section: Section | None,
    ) -> tuple[DecryptedDraft, int]:
        """Store the changed draft if it differs, and return it with its version."""
        now = opened.encrypted.version
        try:
            after = await anyio.to_thread.run_sync(change, before)
        except AppError:
            if based_on != now:
                raise Conflict(CHANGED) from None
            raise
        if after.sections == before.draft.sections:
            return before, now
        if opened.signed_from is not None:
            raise Conflict("note_signed")
        if based_on != now:
            raise Conflict(CHANGED)
        if section in opened.written_sections:
            raise Conflict("note_section_in_progress")
        recording_id = opened.encrypted.recording_id
        ciphertext = encrypt_draft(before.key, recording_id, now + 1, after)
        version = await store.store_draft(tx, recording_id, now, ciphertext)
        return DecryptedDraft(after, before.turns, before.checker, before.key), version


async def open_draft(
    tx: Transaction, permission: Permission, recording_id: UUID, selection: Selection
) -> OpenedDraft:
    """Return the encrypted draft. Raises the errors of `store.open_draft`, and NotFound (note_draft_not_found)."""
    opened = await store.open_draft(tx, permission.action, recording_id, selection)
    if opened is None:
        raise NotFound("note_draft_not_found")
    return opened


def show_draft(
    opened: OpenedDraft,
    decrypted: DecryptedDraft,
    *,
    version: int | None = None,
    is_signed: bool | None = None,
) -> ReadDraft:
    """Return the draft as the doctor reads it. `version` and `is_signed` are those after a change."""
    draft, checker = decrypted.draft, decrypted.checker
    duration = opened.duration_seconds
    lines = [Line(line.text, line.citations) for line in draft.lines]
    return ReadDraft(
        recording_id=opened.encrypted.recording_id,
        version=opened.encrypted.version if version is None else version,
        is_signed=opened.signed_from is not None if is_signed is None else is_signed,
        sections={section: tuple(map(checker.check, draft.of(section))) for section in Section},
        turns=decrypted.turns,
        metadata=opened.metadata,
        writer=draft.writer,
        insights_status=opened.insights_status,
        coverage=measure_coverage(
            decrypted.turns,
            duration_ms=None if duration is None else int(duration * 1000),
            is_truncated=opened.is_truncated,
            is_interrupted=opened.is_interrupted,
            unused_track_count=opened.unused_track_count,
        ),
        uncited=find_uncited(decrypted.turns, lines),
        has_open_flags=checker.has_open_flags(draft),
        written_sections=opened.written_sections,
        failed_sections=opened.failed_sections,
    )

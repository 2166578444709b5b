"""Tests that the database contains no transcript text unencrypted, that each encrypted value can be decrypted only
in its own row, and that keys can be rotated while the system runs.
"""

import base64
import subprocess
import unicodedata
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from urllib.parse import unquote, urlsplit
from uuid import UUID

import anyio.to_thread
import pytest

from app.certificates.signing import check
from app.errors import Conflict, InvalidInput, RateLimited
from app.keys import service
from app.keys.keyring import FieldKey, Keyring, new_key_line
from app.media.sound_plans import Cut
from app.transcripts import encryption
from app.transcripts.encryption import decrypt_transcript
from app.transcripts.search.word_index import IndexKey, hash_text
from app.transcripts.store import EncryptedTranscript
from devstack.object_store import ObjectStore
from devstack.postgres import binaries_directory
from tests.databases import Database
from tests.integration.retention_harness import KEYRING, SIGNER
from tests.integration.transcription_setup import SAID, TranscriptionPractice, open_transcription_practice

pytestmark = pytest.mark.anyio

TURNS = 10
NEWER = Keyring({**Keyring.parse(new_key_line("newer"))._keys, **KEYRING._keys})
NEWER_ALONE = Keyring({"newer": NEWER._keys["newer"]})


@pytest.fixture
async def practice(
    database: Database, emptied_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[TranscriptionPractice]:
    async with open_transcription_practice(database, emptied_store, monkeypatch, TURNS) as practice:
        await practice.harness.adopt()
        yield practice


async def _sealed(practice: TranscriptionPractice, video: UUID) -> EncryptedTranscript:
    [row] = await practice.harness.rows(
        "select w.ciphertext, k.wrapped_key, k.root_key_id from private.transcript_texts as w"
        " inner join private.recording_keys as k on k.recording_id = w.recording_id where w.recording_id = %s",
        video,
    )
    return EncryptedTranscript(video, row["ciphertext"], (), row["wrapped_key"], row["root_key_id"])


async def _key_of(practice: TranscriptionPractice, video: UUID, keyring: Keyring = KEYRING) -> FieldKey:
    [row] = await practice.harness.rows(
        "select wrapped_key, root_key_id from private.recording_keys where recording_id = %s", video
    )
    return keyring.unwrap(row["wrapped_key"], row["root_key_id"])


async def _correct(practice: TranscriptionPractice, video: UUID) -> None:
    """Insert a correction in which a doctor replaces a turn's text by words that nobody said in the recording."""
    place = encryption.correction_field(video, 1)
    sealed = (await _key_of(practice, video)).encrypt(place, "corregído encefalitis".encode())
    await practice.harness.rows(
        "insert into private.transcript_corrections (recording_id, number, ciphertext, corrected_by)"
        " values (%s, 1, %s, %s)",
        video,
        sealed,
        practice.harness.doctor,
    )


# No clear text anywhere


def _dumped(database: Database, *options: str) -> bytes:
    """Dump the whole database with pg_dump as a superuser, and return the dump."""
    url = urlsplit(database.superuser_url)
    environment = {
        "PGHOST": url.hostname or "",
        "PGPORT": str(url.port),
        "PGUSER": url.username or "",
        "PGPASSWORD": unquote(url.password or ""),
        "PGDATABASE": url.path.lstrip("/"),
    }
    done = subprocess.run(
        [binaries_directory() / "pg_dump", "--format=plain", *options],
        env=environment,
        capture_output=True,
        check=True,
    )
    return done.stdout


def _written(word: str) -> Iterator[bytes]:
    """Yield every form in which the database could contain a word unencrypted: in composed or decomposed Unicode,
    in hex, and in base64 at any offset.
    """
    for form in ("NFC", "NFD"):
        for variant in {word, word.lower(), word.upper(), word.title()}:
            for encoding in ("utf-8", "utf-16-le", "latin-1"):
                spelt = unicodedata.normalize(form, variant).encode(encoding, "replace")
                yield spelt
                yield spelt.hex().encode()
                yield from (base64.b64encode(bytes(pad) + spelt)[-(-pad * 4 // 3) : -4] for pad in range(3))
    yield "".join(one for one in unicodedata.normalize("NFD", word.lower()) if one.isascii()).encode()
    yield word.encode("unicode_escape")


def _found(dump: bytes, said: list[str]) -> set[str]:
    lowered = dump.lower()
    return {
        word
        for word in said
        for spelt in _written(word)
        if len(spelt) > 5 and (spelt in dump or spelt.lower() in lowered)
    }


def _said() -> list[str]:
    texts = [SAID.format(number=number) for number in range(TURNS)]
    return [*" ".join(texts).split(), "corregído", "encefalitis"]


async def test_full_dump_has_no_word_in_any_encoding(
    practice: TranscriptionPractice,
) -> None:
    async def fails(number: int, before: int) -> None:
        if number == TURNS - 1 and not before:
            raise RateLimited("speech_busy")

    practice.speech.script = fails
    video = await practice.recorded()
    with pytest.raises(RateLimited):
        await practice.transcriber().transcribe(video)
    half_way = await anyio.to_thread.run_sync(_dumped, practice.harness.database)
    await practice.transcriber().transcribe(video)
    await _correct(practice, video)
    for options in ((), ("--inserts",)):
        dump = await anyio.to_thread.run_sync(_dumped, practice.harness.database, *options)
        for table in (b"private.transcript_texts", b"private.transcript_corrections", b"audit.events"):
            assert table in dump
        assert str(video).encode() in dump
        assert _found(dump, _said()) == set()
    assert b"transcript_chunks" in half_way
    assert _found(half_way, _said()) == set()


@pytest.mark.parametrize(
    "expression",
    [
        "%s",
        "upper(%s)",
        "encode(convert_to(%s, 'UTF8'), 'hex')",
        "encode(convert_to('x' || %s || 'yz', 'UTF8'), 'base64')",
        "normalize(%s, NFD)",
    ],
)
async def test_clear_text_in_a_dump_would_be_found(practice: TranscriptionPractice, expression: str) -> None:
    word = _said()[0]
    query = f"create table private.planted as select {expression} as word"
    await practice.harness.superuser.execute(query.replace("%s", f"'{word}'::text").encode())
    dump = await anyio.to_thread.run_sync(_dumped, practice.harness.database)
    assert word in _found(dump, _said())


# Decryption only in its own row


async def test_moved_ciphertext_cannot_be_decrypted(practice: TranscriptionPractice) -> None:
    one, other = await practice.recorded(), await practice.recorded()
    for video in (one, other):
        await practice.transcriber().transcribe(video)
    sealed, key = (await _sealed(practice, one)).text, await _key_of(practice, one)
    assert key.decrypt(encryption.transcript_field(one), sealed)
    for place in (
        encryption.transcript_field(other),
        encryption.chunk_field(one, 0),
        encryption.correction_field(one, 1),
    ):
        with pytest.raises(Conflict, match="field_unreadable"):
            key.decrypt(place, sealed)
    with pytest.raises(Conflict, match="field_unreadable"):
        (await _key_of(practice, other)).decrypt(encryption.transcript_field(other), sealed)
    await practice.harness.rows(
        "update private.transcript_texts as w set ciphertext = o.ciphertext from private.transcript_texts as o"
        " where w.recording_id = %s and o.recording_id = %s",
        other,
        one,
    )
    with pytest.raises(Conflict, match="field_unreadable"):
        decrypt_transcript(KEYRING, await _sealed(practice, other))
    await practice.harness.rows(
        "update private.recording_keys as w set wrapped_key = o.wrapped_key from private.recording_keys as o"
        " where w.recording_id = %s and o.recording_id = %s",
        other,
        one,
    )
    with pytest.raises(Conflict, match="field_unreadable"):
        decrypt_transcript(KEYRING, await _sealed(practice, other))


@pytest.mark.parametrize(
    ("keyring", "reason"),
    [
        (NEWER_ALONE, "root_key_unknown"),
        (Keyring.parse(new_key_line(KEYRING.current_id)), "data_key_wrong"),
    ],
)
async def test_transcript_without_its_root_key_raises_root_key_unknown(
    practice: TranscriptionPractice, keyring: Keyring, reason: str
) -> None:
    video = await practice.recorded()
    await practice.transcriber().transcribe(video)
    with pytest.raises(Conflict, match=reason):
        decrypt_transcript(keyring, await _sealed(practice, video))


# Rotated keys


async def _index_numbers(practice: TranscriptionPractice, keyring: Keyring, text: str) -> frozenset[int]:
    [row] = await practice.harness.rows("select wrapped_key, root_key_id from private.word_index_key")
    return hash_text(IndexKey(keyring.unwrap_secret(row["wrapped_key"], row["root_key_id"])), text)


async def _terms(practice: TranscriptionPractice, video: UUID) -> set[int]:
    query = "select terms from private.transcript_texts where recording_id = %s"
    return set(await practice.harness.value(query, video))


async def _counted(practice: TranscriptionPractice) -> dict[tuple[str, str], int]:
    found = await service.count_keys(practice.harness.worker)
    return {(one.kind, one.root_key_id): one.count for one in found}


async def test_rotation_during_transcription_and_search_keeps_transcripts_readable(
    practice: TranscriptionPractice,
) -> None:
    before, during = await practice.recorded(), await practice.recorded()
    await practice.transcriber().transcribe(before)
    text = SAID.format(number=2)
    looked_for = await _index_numbers(practice, KEYRING, text)
    seen = []

    async def script(number: int, asked: int) -> None:
        if number == 4:
            assert (await service.rotate(practice.harness.worker, NEWER, batch=1)).is_complete
        seen.append(await _index_numbers(practice, NEWER, text))

    practice.speech.how, practice.speech.script = Cut.WINDOWS, script
    await practice.transcriber(keyring=NEWER).transcribe(during)
    assert await practice.state_of(during) == ("READY", None, TURNS, TURNS)
    assert set(seen) == {looked_for}, "the rotation changed the search terms"
    for video in (before, during):
        assert looked_for <= await _terms(practice, video)
        assert (await practice.transcript_of(video, NEWER_ALONE)).turns[2].text == text
    assert await _counted(practice) == {("recording", "newer"): 2, ("word_index", "newer"): 1}
    await service.require_root_keys(practice.harness.worker, NEWER_ALONE)


async def test_rotation_killed_after_the_index_continues(practice: TranscriptionPractice) -> None:
    videos = [await practice.recorded() for _ in range(3)]
    await practice.transcriber().transcribe(videos[0])

    def killed(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        await service.rotate(practice.harness.worker, NEWER, on_progress=killed)
    assert await _counted(practice) == {("recording", "tests-1"): 3, ("word_index", "newer"): 1}
    with pytest.raises(Conflict, match="root_key_missing"):
        await service.require_root_keys(practice.harness.worker, NEWER_ALONE)
    assert (await service.rotate(practice.harness.worker, NEWER)).rewrapped == 3
    assert await _counted(practice) == {("recording", "newer"): 3, ("word_index", "newer"): 1}
    assert (await practice.transcript_of(videos[0], NEWER_ALONE)).turns


async def test_unreadable_index_key_is_reported_and_the_other_keys_are_wrapped_again(
    practice: TranscriptionPractice,
) -> None:
    video = await practice.recorded()
    await practice.transcriber().transcribe(video)
    await practice.harness.rows("update private.word_index_key set wrapped_key = %s", bytes(40))
    done = await service.rotate(practice.harness.worker, NEWER)
    assert (done.rewrapped, done.is_word_index_unreadable, done.is_complete) == (1, True, False)
    assert await _counted(practice) == {("recording", "newer"): 1, ("word_index", "tests-1"): 1}


async def test_index_key_alone_requires_the_old_root_key(practice: TranscriptionPractice) -> None:
    await practice.harness.rows(
        "insert into private.word_index_key (wrapped_key, root_key_id) values (%s, %s)",
        KEYRING.new_data_key().wrapped,
        KEYRING.current_id,
    )
    with pytest.raises(Conflict, match="root_key_missing"):
        await service.register_root_key(practice.harness.worker, NEWER_ALONE)
    [counted] = await service.count_keys(practice.harness.worker)
    assert counted.root_key_id == "tests-1"


# Destroyed keys


async def test_certificate_counts_the_rows_of_transcripts_and_is_checked_offline(
    practice: TranscriptionPractice,
) -> None:
    finished, half = await practice.recorded(), await practice.recorded()
    await practice.transcriber().transcribe(finished)
    await _correct(practice, finished)
    await practice.harness.rows(
        "insert into private.subtitle_links (secret_sha256, recording_id, claims, expires_at)"
        " values (sha256('x'), %s, '{}', private.now())",
        finished,
    )

    async def fails(number: int, before: int) -> None:
        raise RateLimited("speech_busy")

    practice.speech.script = fails
    with pytest.raises(RateLimited):
        await practice.transcriber().transcribe(half)
    await practice.harness.move_to(practice.harness.time + timedelta(days=400))
    assert (await practice.harness.destroyer().run_once()).destroyed == 2
    cleared = {}
    for video in (finished, half):
        document = await practice.harness.value(
            "select document from resguardo.certificates where recording_id = %s", video
        )
        certificate = check(document.encode(), SIGNER.public_key)
        cleared[video] = {(one.table, one.rows) for one in certificate.text_rows_cleared}
        spoilt = document.replace('"rows":1', '"rows":2').replace('"rows":10', '"rows":11')
        with pytest.raises(InvalidInput, match="certificate_signature"):
            check(spoilt.encode(), SIGNER.public_key)
    assert cleared[finished] == {
        ("subtitle_links", 1),
        ("transcript_corrections", 1),
        ("transcript_texts", 1),
    }
    assert cleared[half] == {("transcript_chunks", TURNS)}
    assert {(await practice.state_of(video))[:2] for video in (finished, half)} == {
        ("OFF", "recording_destroyed")
    }

"""The service for thumbnails in the API: a doctor requests a link, and a browser opens the link."""

import secrets
from typing import Final
from uuid import UUID

from app.errors import NotFound
from app.identity import permissions
from app.keys.keyring import Keyring
from app.postgres.database import Asker, Database
from app.thumbnails import store
from app.thumbnails.model import ThumbnailLink, thumbnail_field

_SECRET_BYTES: Final = 32


class Thumbnails:
    """The service that issues and opens thumbnail links."""

    def __init__(self, database: Database, keyring: Keyring, *, url_lifetime_seconds: int) -> None:
        self._database = database
        self._keyring = keyring
        self._lifetime_seconds = url_lifetime_seconds

    async def issue_link(self, asker: Asker, recording_id: UUID) -> ThumbnailLink:
        """Create a link with which a browser reads the thumbnail with the caller's rights, and return the secret of the
        link. A thumbnail link is valid for a few minutes, and only while the caller's session lasts.

        Raises NotFound (thumbnail_not_found), Conflict (recording_being_deleted), RateLimited (quota_pages).
        """
        access = permissions.ISSUE_THUMBNAIL_URL.on(recording_id)
        secret = secrets.token_bytes(_SECRET_BYTES)
        async with self._database.as_user(asker, access) as tx:
            stored = await store.store_link(tx, recording_id, secret, lifetime_seconds=self._lifetime_seconds)
        if stored is None:
            raise NotFound("thumbnail_not_found")
        return ThumbnailLink(secret.hex(), *stored)

    async def find_link(self, secret: str) -> tuple[dict[str, object], UUID]:
        """Return the claims of the person who created a thumbnail link, and the recording whose thumbnail the link
        reads. Raises NotFound (thumbnail_not_found).
        """
        if len(secret) != 2 * _SECRET_BYTES or not set(secret) <= set("0123456789abcdef"):
            raise NotFound("thumbnail_not_found")
        async with self._database.as_service("thumbnails") as tx:
            link = await store.read_link(tx, bytes.fromhex(secret))
        if link is None:
            raise NotFound("thumbnail_not_found")
        return link

    async def read(self, asker: Asker, recording_id: UUID) -> bytes:
        """Return the JPEG of a recording's thumbnail.

        Raises NotFound (thumbnail_not_found), Conflict (recording_being_deleted), RateLimited (quota_pages).
        """
        access = permissions.READ_THUMBNAIL.on(recording_id)
        async with self._database.as_user(asker, access) as tx:
            found = await store.open_thumbnail(tx, recording_id)
        if found is None:
            raise NotFound("thumbnail_not_found")
        key = self._keyring.unwrap(found.wrapped, found.root_key_id)
        return key.decrypt(thumbnail_field(recording_id), found.ciphertext)

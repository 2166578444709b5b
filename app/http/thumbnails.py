"""`GET /thumbnails/<secret>.jpg`: the thumbnail of a recording for an `<img>` element, which cannot send a token.

The secret in the address is valid for a few minutes. The route reads the thumbnail with the access rights of the person
who requested the link, and only while the session of that person lasts.
"""

from uuid import UUID, uuid4

from starlette.requests import Request
from starlette.responses import Response

from app.concurrency import network_of
from app.errors import NotFound
from app.http.client_address import find_client_address
from app.http.error_responses import request_id
from app.http.rejection_counts import Rejections
from app.http.subtitles import LINK_HEADERS
from app.postgres.database import Asker
from app.settings import Network
from app.thumbnails.service import Thumbnails
from graphql_schema.context import OperationLimits


class ThumbnailImages:
    """The HTTP route that serves the thumbnail of a recording."""

    def __init__(
        self,
        thumbnails: Thumbnails,
        limits: OperationLimits,
        rejections: Rejections,
        trusted_proxies: tuple[Network, ...],
    ) -> None:
        self._thumbnails = thumbnails
        self._limits = limits
        self._rejections = rejections
        self._trusted_proxies = trusted_proxies

    async def __call__(self, request: Request) -> Response:
        """Answer 200 with the JPEG, or 404 for a link that is not valid.

        The route answers 401 if the session of the person who requested the link has ended, and 429 or 503 if too many
        operations run at once.
        """
        address = find_client_address(request.scope, self._trusted_proxies)
        try:
            async with self._limits.guests.slot(network_of(address)):
                claims, recording_id = await self._thumbnails.find_link(request.path_params["secret"])
        except NotFound:
            self._rejections.count("request.reject", address)
            raise
        asker = Asker(claims, UUID(request_id(request.scope) or str(uuid4())), address)
        reader = ("thumbnails", asker.person)  # so that a leaked link does not use up the person's own slots
        async with self._limits.people.slot(reader):
            jpeg = await self._thumbnails.read(asker, recording_id)
        return Response(jpeg, media_type="image/jpeg", headers=LINK_HEADERS)

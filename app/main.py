"""Composes the API: builds an ASGI application from the settings, and keeps its clients open while it runs."""

import socket
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from uuid import UUID

import httpx
from starlette.applications import Starlette
from starlette.requests import HTTPConnection, Request
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket

from app.access_requests.service import AccessRequests
from app.access_reviews.service import AccessReviews
from app.accountings.service import Accountings
from app.alerts.service import AlertReads
from app.amendments.service import Amendments
from app.attestations.service import Attestations
from app.audit.service import Audit
from app.audit_exports.service import AuditExports
from app.breaches.service import Breaches
from app.clips.service import Clips
from app.concurrency import Bounds, ConcurrencyLimit
from app.consents.service import Consents
from app.consultations.labels import LabelReader
from app.consultations.service import Consultations
from app.costs.model import CostPrices
from app.costs.service import Costs
from app.deletions.service import Deletions
from app.deployment import require_own_bucket, require_own_database
from app.disclosures.released_copies import ReleasedCopies
from app.disclosures.service import Disclosures
from app.emergency_access.service import EmergencyAccess
from app.fetches.service import FetchReports
from app.holds.service import LegalHolds
from app.http import health
from app.http.address_limit import connecting_limit
from app.http.client_address import find_client_address
from app.http.error_responses import request_id
from app.http.graphql import GraphQLEndpoint
from app.http.language import pick_language
from app.http.metrics import serve_metrics
from app.http.middleware import EXCEPTION_HANDLERS, edge_middleware
from app.http.rejection_counts import Rejections
from app.http.subtitles import Subtitles
from app.http.thumbnails import ThumbnailImages
from app.http.webhook import LiveKitWebhook
from app.http.websocket_connections import SubscriptionEndpoint
from app.http.websocket_messages import read_authorization
from app.http.websocket_sessions import Connected, SocketLimits
from app.identity import permissions
from app.identity.admission import Admission
from app.identity.tokens import TokenVerifier
from app.insights.asking.service import Asking
from app.insights.language_choice import OpenLanguage, make_language
from app.insights.service import InsightsReads
from app.insights.topics import TopicReader
from app.integrations import vendor_clients
from app.integrations.language.port import EXTRACT_VENDOR
from app.integrations.livekit.client import LiveKit, WebhookVerifier
from app.integrations.storage.client import Storage
from app.jobs.leader_watch import LeaderWatch
from app.keys.service import require_root_keys
from app.notes.service import NoteDrafts
from app.notes.signed_notes import SignedNotes
from app.notes.signing import NoteSigning
from app.officer_proposals.service import OfficerProposals
from app.outgoing_webhooks.service import OutgoingWebhooks
from app.patient_reports.service import PatientReports
from app.postgres.database import Database
from app.recording_imports.service import Imports
from app.recordings.change_feed import ChangeFeed
from app.recordings.changes import Subscriptions
from app.recordings.service import Recordings
from app.retention.service import Retention
from app.retention.storage_report import Prices
from app.review.service import ReviewCases, ReviewRules
from app.session_notes.service import SessionNotes
from app.settings import ApiSettings
from app.shares.service import Shares
from app.staff.service import Staff
from app.thumbnails.service import Thumbnails
from app.transcripts.search.service import TranscriptSearch
from app.transcripts.service import Transcripts
from app.vendor_agreements.service import VendorAgreements, require_agreements
from graphql_schema.context import Context, OperationLimits, Services
from graphql_schema.schema import make_schema

WAITING_PER_OPERATION = 15

REQUEST_SECONDS = 15.0
"""The time limit of a request's transaction, including the wait for its connection."""

LISTENING_CONNECTIONS = 1


@dataclass(frozen=True)
class _Parts:
    """The clients that the API's services share, opened at the start of the process and closed at its end."""

    database: Database
    livekit: LiveKit
    storage: Storage
    http: httpx.AsyncClient
    verifier: TokenVerifier
    audit: Audit
    rejections: Rejections
    limits: OperationLimits
    feed: ChangeFeed
    leader: LeaderWatch
    language: OpenLanguage | None


def create_app(
    settings: ApiSettings,
    *,
    only_webhooks: bool = False,
    socket_limits: SocketLimits | None = None,
    on_open: Callable[[], None] = lambda: None,
    metrics_listener: socket.socket | None = None,
) -> Starlette:
    """Return the API. The API's start raises AppError if the database or the bucket is unreachable or belongs to
    another deployment.

    `only_webhooks` leaves out GraphQL. `on_open` is called when all clients are open, before the first request. The API
    serves its metrics on `metrics_listener`, and not on the port of its requests.
    """
    parts = _parts(settings)
    services = _services(settings, parts)
    webhook = LiveKitWebhook(services.recordings, parts.rejections, settings.trusted_proxies)
    app = Starlette(
        routes=[
            *(() if only_webhooks else _graphql(settings, parts, services, socket_limits)),
            *(() if only_webhooks else _links(settings, parts, services)),
            Route("/webhooks/livekit", webhook.__call__, methods=["POST"]),
            Route("/health/live", health.live),
            Route("/health/ready", health.Ready(parts.database).__call__),
        ],
        middleware=edge_middleware(
            allowed_origins=settings.allowed_origins,
            body_limit_bytes=settings.body_limit_bytes,
            is_production=settings.is_production,
            requests_per_address=settings.requests_per_address,
            trusted_proxies=settings.trusted_proxies,
        ),
        lifespan=partial(
            _open,
            settings,
            parts,
            [
                parts.rejections,
                parts.leader,
                *([] if only_webhooks else [parts.feed]),
                *(
                    []
                    if metrics_listener is None
                    else [serve_metrics(parts.leader, parts.database, metrics_listener)]
                ),
            ],
            on_open,
        ),
        exception_handlers=EXCEPTION_HANDLERS,
    )
    app.router.redirect_slashes = (
        False  # behind a proxy that ends TLS, Starlette would redirect to plain HTTP
    )
    return app


def _links(settings: ApiSettings, parts: _Parts, services: Services) -> tuple[Route, ...]:
    """Return the routes of links that contain a secret instead of a token."""
    common = (parts.limits, parts.rejections, settings.trusted_proxies)
    subtitles = Subtitles(services.transcripts, *common)
    thumbnails = ThumbnailImages(services.thumbnails, *common)
    return (
        Route("/subtitles/{secret}.{form}", subtitles.__call__, methods=["GET"]),
        Route("/thumbnails/{secret}.jpg", thumbnails.__call__, methods=["GET"]),
    )


def _graphql(
    settings: ApiSettings, parts: _Parts, services: Services, socket_limits: SocketLimits | None
) -> tuple[Route, WebSocketRoute]:
    schema = make_schema(is_production=settings.is_production)
    endpoint = GraphQLEndpoint(
        schema,
        build_context=partial(_request_context, settings, parts, services),
        graphql_ide=None if settings.is_production else "graphiql",
    )
    subscriptions = SubscriptionEndpoint(
        schema,
        connect=partial(_connect, settings, parts, services),
        allowed_origins=settings.allowed_origins,
        limits=socket_limits,
        connecting=connecting_limit(settings.trusted_proxies),
    )
    return Route("/graphql", endpoint), WebSocketRoute("/graphql", subscriptions)


def _parts(settings: ApiSettings) -> _Parts:
    database = Database(
        settings.api_database_url.get_secret_value(),
        application="resguardo-api",
        max_size=settings.api_database_connections - LISTENING_CONNECTIONS,
        seconds=REQUEST_SECONDS,
    )
    http = httpx.AsyncClient()
    audit = Audit(database)
    return _Parts(
        database=database,
        livekit=vendor_clients.make_livekit(settings),
        storage=vendor_clients.make_reader_storage(settings),
        http=http,
        verifier=TokenVerifier(issuer=settings.issuer, jwks_url=settings.jwks_url, http=http),
        audit=audit,
        rejections=Rejections(audit.record_rejections, clock=time.monotonic, interval_seconds=60),
        limits=_limits(settings),
        feed=ChangeFeed(database.dedicated.listen),
        leader=LeaderWatch(database, clock=time.monotonic),
        language=make_language(settings),
    )


def _limits(settings: ApiSettings) -> OperationLimits:
    """Return the limits of concurrent operations. More operations may wait than may run at once, so a web page with
    many requests is slow but not refused.
    """
    people, guests = settings.operations_per_person, settings.guest_operations
    return OperationLimits(
        people=ConcurrencyLimit(
            "too_many_at_once", Bounds(running_per_key=people, waiting_per_key=people * WAITING_PER_OPERATION)
        ),
        guests=ConcurrencyLimit(
            "too_many_at_once",
            Bounds(
                running=guests,
                running_per_key=max(1, guests // 2),
                waiting=guests * WAITING_PER_OPERATION,
                waiting_per_key=guests * 2,
            ),
        ),
    )


def _services(settings: ApiSettings, parts: _Parts) -> Services:
    subscriptions = Subscriptions(parts.database, parts.feed)
    return Services(
        admission=Admission(parts.database),
        consultations=Consultations(
            parts.database,
            parts.livekit,
            settings.keyring,
            livekit_url=settings.livekit_url,
            deployment=settings.deployment,
        ),
        recordings=Recordings(
            parts.database,
            parts.storage,
            WebhookVerifier({settings.livekit_api_key: settings.livekit_api_secret.get_secret_value()}),
            url_lifetime_seconds=settings.url_lifetime_seconds,
            totp_max_age_seconds=settings.totp_max_age_seconds,
            has_routes=settings.livekit_egress_routes,
        ),
        subscriptions=subscriptions,
        imports=Imports(parts.database),
        consents=Consents(parts.database),
        access_requests=AccessRequests(
            parts.database,
            parts.storage,
            url_lifetime_seconds=settings.url_lifetime_seconds,
        ),
        deletions=Deletions(parts.database),
        thumbnails=Thumbnails(
            parts.database, settings.keyring, url_lifetime_seconds=settings.url_lifetime_seconds
        ),
        clips=Clips(parts.database, totp_max_age_seconds=settings.totp_max_age_seconds),
        staff=Staff(parts.database),
        access_reviews=AccessReviews(parts.database, totp_max_age_seconds=settings.totp_max_age_seconds),
        officer_proposals=OfficerProposals(
            parts.database, totp_max_age_seconds=settings.totp_max_age_seconds
        ),
        holds=LegalHolds(parts.database),
        shares=Shares(parts.database),
        emergency_access=EmergencyAccess(parts.database),
        retention=Retention(
            parts.database,
            prices=Prices(
                settings.r2_price_gb_month,
                settings.r2_price_class_a_million,
                settings.r2_price_class_b_million,
                settings.r2_prices_as_of,
            ),
        ),
        costs=Costs(parts.database, _prices(settings), has_language_model=_has_language_model(parts)),
        transcripts=Transcripts(
            parts.database,
            settings.keyring,
            url_lifetime_seconds=settings.url_lifetime_seconds,
        ),
        signed_notes=SignedNotes(parts.database, settings.keyring),
        note_drafts=NoteDrafts(parts.database, settings.keyring),
        note_signing=NoteSigning(
            parts.database, settings.keyring, totp_max_age_seconds=settings.totp_max_age_seconds
        ),
        transcript_search=TranscriptSearch(parts.database, settings.keyring),
        session_notes=SessionNotes(parts.database, settings.keyring, subscriptions),
        insights=InsightsReads(parts.database, settings.keyring),
        topics=TopicReader(settings.keyring),
        labels=LabelReader(settings.keyring),
        asking=Asking(parts.database, settings.keyring, parts.language),
        patient_reports=PatientReports(parts.database, with_names=settings.patient_report_names == "name"),
        audit=parts.audit,
        alerts=AlertReads(parts.database),
        fetches=FetchReports(parts.database),
        outgoing_webhooks=OutgoingWebhooks(parts.database),
        vendor_agreements=VendorAgreements(parts.database),
        breaches=Breaches(parts.database),
        attestations=Attestations(parts.database, totp_max_age_seconds=settings.totp_max_age_seconds),
        audit_exports=AuditExports(
            parts.database,
            parts.storage,
            url_lifetime_seconds=settings.url_lifetime_seconds,
            totp_max_age_seconds=settings.totp_max_age_seconds,
        ),
        disclosures=Disclosures(parts.database, settings.keyring),
        released_copies=ReleasedCopies(parts.database),
        review_cases=ReviewCases(parts.database),
        accountings=Accountings(parts.database, settings.keyring),
        amendments=Amendments(parts.database, settings.keyring),
        review_rules=ReviewRules(parts.database),
    )


def _prices(settings: ApiSettings) -> CostPrices:
    return CostPrices(
        egress_minute=settings.livekit_price_egress_minute,
        speech_minute=settings.speech_price_minute,
        gb_month=settings.r2_price_gb_month,
        million_input_tokens=settings.language_price_input_million,
        million_cached_tokens=settings.language_price_cached_million,
        million_output_tokens=settings.language_price_output_million,
        as_of=settings.prices_as_of,
        storage_as_of=settings.r2_prices_as_of,
    )


def _has_language_model(parts: _Parts) -> bool:
    return parts.language is not None and parts.language.vendor != EXTRACT_VENDOR


@asynccontextmanager
async def _open(
    settings: ApiSettings,
    parts: _Parts,
    running: Sequence[AbstractAsyncContextManager[object]],
    on_open: Callable[[], None],
    _: Starlette,
) -> AsyncIterator[None]:
    async with AsyncExitStack() as stack:
        await parts.database.open()
        stack.push_async_callback(parts.database.close)
        await stack.enter_async_context(parts.http)
        stack.push_async_callback(parts.verifier.aclose)
        stack.push_async_callback(parts.livekit.aclose)
        if parts.language is not None:
            stack.push_async_callback(parts.language.aclose)
        stack.callback(parts.storage.close)
        await require_own_database(parts.database, settings.deployment)
        await require_own_bucket(parts.storage, settings.deployment)
        await require_root_keys(parts.database, settings.keyring)
        if settings.is_production:
            await require_agreements(parts.database, settings.agreement_services)
        for each in running:
            await stack.enter_async_context(each)
        on_open()
        yield


async def _request_context(
    settings: ApiSettings, parts: _Parts, services: Services, request: Request
) -> Context:
    headers = request.headers
    return _context(
        settings, parts, services, request, headers.get("Authorization"), headers.get("Accept-Language")
    )


async def _connect(
    settings: ApiSettings,
    parts: _Parts,
    services: Services,
    websocket: WebSocket,
    payload: Mapping[str, object],
) -> Connected:
    """Accept a WebSocket connection. The client sends the authorization and `acceptLanguage` in the connection
    payload, because a browser cannot set headers for a WebSocket.
    """
    language = payload.get("acceptLanguage")
    context = _context(
        settings,
        parts,
        services,
        websocket,
        read_authorization(payload),
        language if isinstance(language, str) else websocket.headers.get("Accept-Language"),
    )
    principal = await context.principal()
    recheck = partial(services.admission.require, await context.asker(), permissions.CONNECT)
    return Connected(
        context,
        person=principal.user_id,
        expires_at=principal.expires_at.timestamp(),
        language=context.language,
        recheck=recheck,
        is_unchecked=True,
    )


def _context(
    settings: ApiSettings,
    parts: _Parts,
    services: Services,
    connection: HTTPConnection,
    authorization: str | None,
    accept_language: str | None,
) -> Context:
    address = find_client_address(connection.scope, settings.trusted_proxies)
    return Context(
        services,
        parts.verifier,
        parts.limits,
        authorization=authorization,
        request_id=UUID(request_id(connection.scope)),
        address=address,
        language=pick_language(accept_language),
        on_rejected=lambda kind: parts.rejections.count(kind, address),
    )

"""Reads and writes the lifecycle and CORS rules of a bucket.

The lifecycle and CORS rules need a separate key, because R2 lets only "Admin Read & Write" tokens change the
configuration of a bucket, and only those and "Admin Read only" tokens read the configuration. The keys with which
the API and the worker access objects may neither read nor change the bucket's configuration (Cloudflare,
"Authentication", checked 2026-11-21). This module does not decide which lifecycle and CORS rules must exist.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from app.errors import InvalidInput
from app.integrations.storage import refusals
from app.integrations.storage.caller import Credentials, S3Caller

if TYPE_CHECKING:
    from mypy_boto3_s3.type_defs import CORSRuleTypeDef, LifecycleRuleTypeDef

MAX_LIFECYCLE_RULES: Final = 1000
"""The limit for one bucket. Source: Cloudflare, "Object lifecycles", checked 2026-11-21."""

_KNOWN: Final = frozenset(
    {"ID", "Prefix", "Filter", "Status", "Expiration", "AbortIncompleteMultipartUpload"}
)


@dataclass(frozen=True)
class LifecycleRule:
    """A rule that deletes objects under the prefix ("" means all) after a number of days, or aborts unfinished
    uploads.

    `other` contains S3's names of those actions and conditions of the lifecycle rule that no other field contains.
    `raw` is the rule as the store returned it, which the client writes back unchanged.
    """

    id: str
    prefix: str
    enabled: bool = True
    delete_after_days: int | None = None
    abort_uploads_after_days: int | None = None
    other: tuple[str, ...] = ()
    raw: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class CorsRule:
    """A CORS rule: the origins, methods and headers that browsers may use with the bucket. The names of HTTP
    headers in a CORS rule are in lower case. Each list of a CORS rule is either sorted or in the order in which S3
    returned its values.
    """

    id: str
    origins: tuple[str, ...]
    methods: tuple[str, ...]
    headers: tuple[str, ...] = ()
    exposed: tuple[str, ...] = ()
    max_age_seconds: int | None = None
    raw: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)


class StorageRules:
    """The client of one bucket's rules, with the administrator's key. The methods raise the errors of
    `S3Caller.call`. boto3 is configured to send no optional checksums. S3's API model requires a checksum in two
    operations: PutBucketLifecycleConfiguration and PutBucketCors. For PutBucketLifecycleConfiguration and
    PutBucketCors, botocore sends `x-amz-checksum-crc32` with `x-amz-sdk-checksum-algorithm: CRC32`, and no
    Content-MD5 (botocore 1.44, httpchecksum.py and boto/botocore#3415). A test checks that botocore sends these
    checksum headers. According to reports, R2 has supported CRC32 checksums since 2025. The CRC32 checksum was not
    tested with a live R2 bucket (2026-11-21).
    """

    def __init__(
        self,
        *,
        endpoint_url: str,
        bucket: str,
        credentials: Credentials,
        region: str = "auto",
        force_path_style: bool = True,
    ) -> None:
        self._s3 = S3Caller(
            endpoint_url=endpoint_url,
            bucket=bucket,
            credentials=credentials,
            region=region,
            force_path_style=force_path_style,
        )

    def close(self) -> None:
        """Close the pooled connections."""
        self._s3.close()

    async def read_lifecycle(self) -> tuple[LifecycleRule, ...]:
        """Return all lifecycle rules. A new R2 bucket has one lifecycle rule, which aborts unfinished uploads after
        seven days.
        """

        def ask() -> tuple[LifecycleRule, ...]:
            try:
                answer = self._s3.client.get_bucket_lifecycle_configuration(Bucket=self._s3.bucket)
            except ClientError as error:
                if refusals.code_of(error) == "NoSuchLifecycleConfiguration":
                    return ()
                raise
            return tuple(_lifecycle_rule(one) for one in answer.get("Rules", ()))

        return await self._s3.call("read_lifecycle", ask)

    async def replace_lifecycle(self, rules: Sequence[LifecycleRule]) -> None:
        """Replace all lifecycle rules. Raises InvalidInput("lifecycle_rules_limit") for more than 1,000 lifecycle
        rules.
        """
        if len(rules) > MAX_LIFECYCLE_RULES:
            raise InvalidInput("lifecycle_rules_limit", limit=MAX_LIFECYCLE_RULES)

        def put() -> None:
            if not rules:
                self._s3.client.delete_bucket_lifecycle(Bucket=self._s3.bucket)
                return
            self._s3.client.put_bucket_lifecycle_configuration(
                Bucket=self._s3.bucket,
                LifecycleConfiguration={"Rules": [_lifecycle_to_wire(rule) for rule in rules]},
            )

        await self._s3.call("replace_lifecycle", put)

    async def read_cors(self) -> tuple[CorsRule, ...]:
        """Return all CORS rules. If a bucket has no CORS rule, no web page may use the bucket."""

        def ask() -> tuple[CorsRule, ...]:
            try:
                answer = self._s3.client.get_bucket_cors(Bucket=self._s3.bucket)
            except ClientError as error:
                if refusals.code_of(error) == "NoSuchCORSConfiguration":
                    return ()
                raise
            return tuple(_cors_rule(one) for one in answer.get("CORSRules", ()))

        return await self._s3.call("read_cors", ask)

    async def replace_cors(self, rules: Sequence[CorsRule]) -> None:
        """Replace all CORS rules. Without a CORS rule, no web page may use the bucket."""

        def put() -> None:
            if not rules:
                self._s3.client.delete_bucket_cors(Bucket=self._s3.bucket)
                return
            self._s3.client.put_bucket_cors(
                Bucket=self._s3.bucket,
                CORSConfiguration={"CORSRules": [_cors_to_wire(rule) for rule in rules]},
            )

        await self._s3.call("replace_cors", put)


def _lifecycle_rule(one: "Mapping[str, Any]") -> LifecycleRule:
    """Parse a lifecycle rule in either of S3's two forms: the prefix is in `Filter`, or, in the older form, at the
    top level.
    """
    scope = one.get("Filter") or {}
    expiration = one.get("Expiration") or {}
    days, ends = expiration.get("Days"), one.get("AbortIncompleteMultipartUpload") or {}
    other = {name for name in one if name not in _KNOWN}
    other |= {f"Filter.{name}" for name in scope if name != "Prefix"}
    other |= {f"Expiration.{name}" for name in expiration if name != "Days"}
    return LifecycleRule(
        id=one.get("ID", ""),
        prefix=scope.get("Prefix") or one.get("Prefix") or "",
        enabled=one.get("Status") == "Enabled",
        delete_after_days=days,
        abort_uploads_after_days=ends.get("DaysAfterInitiation"),
        other=tuple(sorted(other)),
        raw=dict(one),
    )


def _lifecycle_to_wire(rule: LifecycleRule) -> "LifecycleRuleTypeDef":
    if rule.raw is not None:
        return rule.raw  # type: ignore[return-value] # what S3 gave, S3 gets
    wire: LifecycleRuleTypeDef = {
        "ID": rule.id,
        "Filter": {"Prefix": rule.prefix},
        "Status": "Enabled" if rule.enabled else "Disabled",
    }
    if rule.delete_after_days is not None:
        wire["Expiration"] = {"Days": rule.delete_after_days}
    if rule.abort_uploads_after_days is not None:
        wire["AbortIncompleteMultipartUpload"] = {"DaysAfterInitiation": rule.abort_uploads_after_days}
    return wire


def _cors_rule(one: "Mapping[str, Any]") -> CorsRule:
    return CorsRule(
        id=one.get("ID", ""),
        origins=tuple(sorted(one.get("AllowedOrigins", ()))),
        methods=tuple(sorted(one.get("AllowedMethods", ()))),
        headers=_lowered(one.get("AllowedHeaders", ())),
        exposed=_lowered(one.get("ExposeHeaders", ())),
        max_age_seconds=one.get("MaxAgeSeconds"),
        raw=dict(one),
    )


def _cors_to_wire(rule: CorsRule) -> "CORSRuleTypeDef":
    if rule.raw is not None:
        return rule.raw  # type: ignore[return-value] # what S3 gave, S3 gets
    wire: CORSRuleTypeDef = {
        "ID": rule.id,
        "AllowedOrigins": list(rule.origins),
        "AllowedMethods": list(rule.methods),
        "AllowedHeaders": list(rule.headers),
        "ExposeHeaders": list(rule.exposed),
    }
    if rule.max_age_seconds is not None:
        wire["MaxAgeSeconds"] = rule.max_age_seconds
    return wire


def _lowered(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(name.lower() for name in names))

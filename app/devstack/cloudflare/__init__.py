"""A stand-in for the part of Cloudflare's API that R2's buckets need, as strict as its documentation."""

from app.devstack.cloudflare.app import create_cloudflare_app
from app.devstack.cloudflare.bucket import Bucket
from app.devstack.cloudflare.config import CloudflareConfig

__all__ = ["Bucket", "CloudflareConfig", "create_cloudflare_app"]

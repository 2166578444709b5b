"""A stand-in for the part of Cloudflare's API that concerns R2 buckets. The stand-in for Cloudflare refuses every
request that Cloudflare's documentation does not allow.
"""

from devstack.cloudflare.app import create_cloudflare_app
from devstack.cloudflare.bucket import Bucket
from devstack.cloudflare.config import CloudflareConfig

__all__ = ["Bucket", "CloudflareConfig", "create_cloudflare_app"]

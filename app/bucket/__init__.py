"""The bucket as code: what `policies/bucket/` means, how the bucket differs from it, and how it is brought to it."""

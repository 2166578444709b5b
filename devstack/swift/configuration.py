"""Writes the files that OpenStack Swift reads: swift.conf, one paste configuration for each server, and the rings.

The store has one device, one replica and no encryption. The store is for development and tests, never for patients'
recordings. The files contain the secrets of the three users, so the process that writes them runs with umask 077.
"""

from dataclasses import dataclass
from pathlib import Path

ACCOUNT = "resguardo"
"""The tempauth account. Access key ids have the form `resguardo:<user>`."""

REGION = "auto"
"""The region for which S3 clients sign, the same word that R2 expects."""

RULES_FILE = "cors.json"

RING_PART_POWER = 4
BACKENDS = ("account", "container", "object")

_SWIFT_CONF = """\
[swift-hash]
swift_hash_path_suffix = {hash_suffix}
[swift-constraints]
max_header_size = 16384
[storage-policy:0]
name = one
default = yes
"""

_BACKEND_CONF = """\
[DEFAULT]
swift_dir = {directory}
devices = {devices}
mount_check = false
fallocate_reserve = 0
log_level = WARNING
[pipeline:main]
pipeline = {kind}-server
[app:{kind}-server]
use = egg:swift#{kind}
replication_server = false
"""

# `memory`, `cors`, `door` and `guard` are our own filters, in the modules of these names (`door` is in guard.py).
_PROXY_CONF = """\
[DEFAULT]
swift_dir = {directory}
log_level = WARNING
[pipeline:main]
pipeline = catch_errors gatekeeper memory cors door listing_formats s3api guard tempauth copy slo proxy-server
[filter:catch_errors]
use = egg:swift#catch_errors
[filter:gatekeeper]
use = egg:swift#gatekeeper
[filter:memory]
paste.filter_factory = devstack.swift.memory:memory_factory
[filter:cors]
paste.filter_factory = devstack.swift.cors:cors_factory
bucket = {bucket}
rules = {rules}
[filter:door]
paste.filter_factory = devstack.swift.guard:door_factory
[filter:listing_formats]
use = egg:swift#listing_formats
[filter:s3api]
use = egg:swift#s3api
location = {region}
s3_acl = false
[filter:guard]
paste.filter_factory = devstack.swift.guard:guard_factory
reader = {account}:reader
recorder = {account}:recorder
[filter:tempauth]
use = egg:swift#tempauth
user_{account}_reader = {reader}
user_{account}_writer = {writer} .admin
user_{account}_keeper = {writer} .admin
user_{account}_recorder = {recorder}
[filter:copy]
use = egg:swift#copy
[filter:slo]
use = egg:swift#slo
[app:proxy-server]
use = egg:swift#proxy
account_autocreate = true
"""


@dataclass(frozen=True)
class Secrets:
    """The secrets of the store's three users and its hash suffix, created once for each data directory. The hash
    suffix determines the place of every object on the disk, so it must never change.
    """

    hash_suffix: str
    reader: str
    writer: str
    recorder: str


def write_configuration(directory: Path, devices: Path, bucket: str, secrets: Secrets) -> dict[str, Path]:
    """Write swift.conf and the configuration files of Swift's servers. Return the path of each server's
    configuration file, by the kind of the server.

    The store reads the CORS rules of `bucket` from `RULES_FILE` in the parent of this directory.
    """
    (directory / "swift.conf").write_text(_SWIFT_CONF.format(hash_suffix=secrets.hash_suffix))
    proxy = _PROXY_CONF.format(
        directory=directory,
        bucket=bucket,
        rules=directory.parent / RULES_FILE,
        account=ACCOUNT,
        region=REGION,
        reader=secrets.reader,
        writer=secrets.writer,
        recorder=secrets.recorder,
    )
    texts = {"proxy": proxy} | {
        kind: _BACKEND_CONF.format(kind=kind, directory=directory, devices=devices) for kind in BACKENDS
    }
    paths = {kind: directory / f"{kind}-server.conf" for kind in texts}
    for kind, text in texts.items():
        paths[kind].write_text(text)
    return paths

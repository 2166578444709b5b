"""`python -m devstack.cloudflare --config FILE`: serve the stand-in until a signal ends it."""

import argparse
from pathlib import Path

import uvicorn

from devstack.cloudflare.app import create_cloudflare_app
from devstack.cloudflare.bucket import Bucket
from devstack.cloudflare.config import load_config


def main() -> None:
    """Serve the stand-in for Cloudflare on the configured loopback address. The stand-in logs neither bodies nor
    headers of requests.
    """
    parser = argparse.ArgumentParser(prog="cloudflare")
    parser.add_argument("--config", type=Path, required=True)
    config = load_config(parser.parse_args().config)
    uvicorn.run(
        create_cloudflare_app(config, Bucket()),
        host=config.host,
        port=config.port,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()

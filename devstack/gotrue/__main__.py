"""`python -m devstack.gotrue --config FILE`: serve the stand-in until a signal ends it."""

import argparse
from pathlib import Path

import uvicorn

from devstack.gotrue.app import create_gotrue_app
from devstack.gotrue.config import load_config


def main() -> None:
    """Serve the stand-in for Supabase Auth on the configured loopback address. The stand-in logs neither bodies nor
    addresses of requests.
    """
    parser = argparse.ArgumentParser(prog="gotrue")
    parser.add_argument("--config", type=Path, required=True)
    config = load_config(parser.parse_args().config)
    uvicorn.run(
        create_gotrue_app(config), host=config.host, port=config.port, access_log=False, log_level="warning"
    )


if __name__ == "__main__":
    main()

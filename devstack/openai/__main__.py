"""`python -m devstack.openai --config FILE`: serve the stand-in until a signal ends it."""

import argparse
from pathlib import Path

import uvicorn

from devstack.openai.app import create_openai_app
from devstack.openai.config import load_config


def main() -> None:
    """Serve on the configured loopback address; logs neither bodies nor headers."""
    parser = argparse.ArgumentParser(prog="openai")
    parser.add_argument("--config", type=Path, required=True)
    config = load_config(parser.parse_args().config)
    uvicorn.run(
        create_openai_app(config.api_key),
        host=config.host,
        port=config.port,
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()

"""`python -m devstack.witness --config FILE`: serve the test witness until a signal ends it."""

import argparse
import json
from pathlib import Path

import uvicorn

from devstack.witness.app import create_witness_app
from devstack.witness.witness import make_witness


def main() -> None:
    """Serve the test witness on the configured port of the loopback address."""
    parser = argparse.ArgumentParser(prog="witness")
    parser.add_argument("--config", type=Path, required=True)
    config = json.loads(parser.parse_args().config.read_text())
    uvicorn.run(
        create_witness_app(make_witness(config)),
        host="127.0.0.1",
        port=config["port"],
        access_log=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main()

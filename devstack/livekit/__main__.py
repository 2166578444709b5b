"""`python -m devstack.livekit --config FILE`: serve the stand-in until a signal ends it."""

import argparse
from pathlib import Path

import uvicorn

from devstack.livekit.config import load_config
from devstack.livekit.pace import Pace
from devstack.livekit.server import create_livekit_app


def main() -> None:
    """Serve the stand-in for LiveKit on the configured loopback address. The stand-in logs neither bodies nor
    addresses of requests.
    """
    parser = argparse.ArgumentParser(prog="livekit")
    parser.add_argument("--config", type=Path, required=True)
    config = load_config(parser.parse_args().config)
    app = create_livekit_app(
        config.api_key,
        config.api_secret.get_secret_value(),
        config.webhook_url,
        config.media,
        audio=config.audio,
        pace=Pace(
            start_delay_seconds=config.start_delay_seconds,
            record_seconds=config.record_seconds,
            scale=config.scale,
        ),
    )
    uvicorn.run(app, host=config.host, port=config.port, access_log=False, log_level="warning")


if __name__ == "__main__":
    main()

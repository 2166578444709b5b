"""`python -m devstack.openai --config FILE`: serve the stand-in until a signal ends it."""

import argparse
from pathlib import Path

import uvicorn

from devstack.openai.app import create_openai_app
from devstack.openai.config import RecogniserName, load_config
from devstack.openai.recogniser import Recogniser, SpeechRecogniser
from devstack.openai.whisper import Whisper


def main() -> None:
    """Serve the stand-in for OpenAI on the configured loopback address. The stand-in logs neither bodies nor
    headers of requests.
    """
    parser = argparse.ArgumentParser(prog="openai")
    parser.add_argument("--config", type=Path, required=True)
    config = load_config(parser.parse_args().config)
    uvicorn.run(
        create_openai_app(config.api_key, _recogniser(config.recogniser)),
        host=config.host,
        port=config.port,
        access_log=False,
        log_level="warning",
    )


def _recogniser(name: RecogniserName) -> SpeechRecogniser:
    """Return the loaded recogniser. Raises ChangedWeightsError if the hashes of Whisper's files differ from the
    pinned hashes.
    """
    if name == "pocketsphinx":
        return Recogniser()
    whisper = Whisper()
    whisper.load()
    return whisper


if __name__ == "__main__":
    main()

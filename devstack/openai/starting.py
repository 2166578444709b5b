"""Runs the stand-in for OpenAI as a child process of the dev stack."""

import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from devstack.children import free_port, starting
from devstack.openai import whisper
from devstack.openai.config import OpenAIConfig, RecogniserName, save_config


def openai_environment() -> dict[str, str]:
    """Return the settings with which the product uses the stand-in in place of OpenAI, and the extractive writer in
    place of a language model. The function creates a new API key at each start of the dev stack.
    """
    return {
        "LANGUAGE_API": "extract",
        "OPENAI_API_KEY": f"sk-{secrets.token_urlsafe(24)}",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{free_port()}/v1",
    }


@contextmanager
def running(environment: Mapping[str, str], data_dir: Path) -> Iterator[None]:
    """Run the stand-in at the address and with the key of this environment until the block ends. The stand-in for
    OpenAI uses Whisper if Whisper is installed, and otherwise pocketsphinx.
    """
    url, key = environment["OPENAI_BASE_URL"], environment["OPENAI_API_KEY"]
    port = int(url.removesuffix("/v1").rpartition(":")[2])
    recogniser: RecogniserName = "whisper" if whisper.is_installed() else "pocketsphinx"
    save_config(OpenAIConfig(api_key=key, port=port, recogniser=recogniser), data_dir / "openai.json")
    with starting(
        "devstack.openai",
        ["--config", str(data_dir / "openai.json")],
        log=data_dir / "openai.log",
        environment={},
        ready_url=f"{url}/models",
        headers={"Authorization": f"Bearer {key}"},
    ) as child:
        child.wait_until_ready()
        yield

"""Whether the Hugging Face hub can be reached, asked once and shortly."""

from __future__ import annotations

from huggingface_hub import constants, get_session

TIMEOUT = 5.0  # seconds


def hub_answers() -> bool:
    """One short question, because the hub's own clients ask an unreachable hub six times in 23 seconds."""
    if constants.HF_HUB_OFFLINE:
        return False
    try:
        get_session().head(constants.ENDPOINT, timeout=TIMEOUT)
    except Exception:  # of httpx, httpx2 or requests, depending on the version of huggingface_hub
        return False
    return True

"""Which paths are calls of the API, and which are asked all the time."""

API_PATH_END = "/ImageClassification"

QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""Asked every few seconds by whoever watches; logged at debug level."""


def is_api_path(path: str) -> bool:
    """Whether a path is that of the API, of any deploy name."""
    return path.rstrip("/").removesuffix("/batch").endswith(API_PATH_END)

"""What the paths of requests mean."""

API_END = "/ImageClassification"
API_BATCH_END = f"{API_END}/batch"
API_HEATMAP_END = f"{API_END}/heatmap"
PREVIEW_START = "/console/preview/"

QUIET_PATHS = frozenset({"/healthz", "/readyz", "/metrics", "/console/status"})
"""Requested every few seconds by monitors and open consoles; logged at debug level."""


def is_api_path(path: str) -> bool:
    """Whether a path is that of the API, of any deploy name."""
    return path.rstrip("/").endswith((API_END, API_BATCH_END, API_HEATMAP_END))


def is_batch(path: str) -> bool:
    """Whether a path is that of a batch."""
    return path.rstrip("/").endswith(API_BATCH_END)


def takes_many_inferences(path: str) -> bool:
    """Whether a call of the API is the work of many ordinary ones."""
    return path.rstrip("/").endswith((API_BATCH_END, API_HEATMAP_END))


def takes_image(method: str, path: str) -> bool:
    """Whether a request is expected to have images in its body."""
    return method == "POST" and (is_api_path(path) or path.startswith(PREVIEW_START))


def deploy_name_of(path: str) -> str:
    """The deploy name in the path of an API call."""
    return path.lstrip("/").partition("/")[0]

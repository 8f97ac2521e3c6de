"""Where files are that no setting names: in a checkout, or outside it by the XDG specification.

https://specifications.freedesktop.org/basedir-spec/latest/ for the account of a person; root and
accounts without a home folder have the folders of ``deploy/install.sh``.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

PROJECT_ROOT = Path(__file__).resolve().parent.parent
"""The folder that contains ``app/``: a checkout, a release of a bundle, or site-packages."""

IS_CHECKOUT = (PROJECT_ROOT / "deploy/classifydctl").is_file()
"""A release of a bundle counts too; a wheel does not contain that file."""

MANUAL = PROJECT_ROOT / "app/manual"
PHOTOS = PROJECT_ROOT / "app/packages/photos"
"""The photos that come with the program: the builder's golden samples, for trying a server too."""


@dataclass(frozen=True)
class Folders:
    """The default folders.

    Attributes:
        config: contains classifyd.toml, ``licences`` and ``trusted-keys``.
        weights: contains the model packages.
        state: what must survive a restart.
        output: what a command writes that is no part of the installation.
    """

    config: Path
    weights: Path
    state: Path
    output: Path


def default_folders(environment: Mapping[str, str], is_checkout: bool = IS_CHECKOUT) -> Folders:
    """Choose the default folders; none of them needs to exist."""
    if is_checkout:
        root = PROJECT_ROOT
        return Folders(root, root / "weights", root / "var", root / "dist")
    output = Path("dist").absolute()
    home = None if os.geteuid() == 0 else _writable_home()
    if home is None:
        data = Path("/var/lib/classifyd")
        return Folders(Path("/etc/classifyd"), data / "weights", data / "state", output)
    data = _xdg(environment, "XDG_DATA_HOME", home / ".local/share")
    state = _xdg(environment, "XDG_STATE_HOME", home / ".local/state")
    config = _xdg(environment, "XDG_CONFIG_HOME", home / ".config")
    return Folders(config, data / "weights", state, output)


def _xdg(environment: Mapping[str, str], name: str, default: Path) -> Path:
    named = Path(environment.get(name, ""))
    # The specification has relative paths ignored.
    return (named if named.is_absolute() else default) / "classifyd"


def _writable_home() -> Path | None:
    """The home folder; None for an account that has none, as those of services."""
    try:
        home = Path.home()
    except RuntimeError:  # a user ID without an account
        return None
    return home if os.access(home, os.W_OK | os.X_OK) else None


FOLDERS = default_folders(os.environ)

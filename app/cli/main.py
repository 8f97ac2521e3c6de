"""The classifyd command."""

import os
import sys

from app.errors import OperatorError
from app.folders import PROJECT_ROOT
from app.system.fips import require_usable_opencv

USE_SUDO = "; use sudo or the service's account"


def main() -> None:
    """Run the command; a failure that the user can fix ends with one line and status 2."""
    try:
        if os.getcwd() != str(PROJECT_ROOT):
            # Python processes started from here import nothing from the current folder.
            os.environ["PYTHONSAFEPATH"] = "1"
        require_usable_opencv()
        # Imported here, because it imports OpenCV.
        from app.cli.commands import cli

        cli()
    except OperatorError as exc:
        hint = USE_SUDO if isinstance(exc.__cause__, PermissionError) else ""
        print(f"classifyd: {exc}{hint}", file=sys.stderr)
        sys.exit(2)
    except BrokenPipeError:
        # The reader of the output, such as head, has exited.
        sys.exit(141)
    except OSError as exc:
        # Handled by no command: usually a folder that this account cannot enter.
        hint = USE_SUDO if isinstance(exc, PermissionError) else ""
        print(f"classifyd: {exc.filename or 'input/output'}: {exc.strerror}{hint}", file=sys.stderr)
        sys.exit(2)

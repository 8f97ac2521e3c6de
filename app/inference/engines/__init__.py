"""The engines that can run a package's model."""

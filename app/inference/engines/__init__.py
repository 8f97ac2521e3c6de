"""The engines that can run a package's TorchScript file."""

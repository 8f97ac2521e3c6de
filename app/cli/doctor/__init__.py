"""The command classifyd doctor."""

"""The command classifyd doctor, and its checks."""

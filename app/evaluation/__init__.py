"""How good a package is on images whose labels are known."""

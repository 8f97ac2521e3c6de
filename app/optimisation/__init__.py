"""``classifyd package optimise``: a faster version of a package, within a drop of accuracy."""

"""Evaluation of a package on labelled images."""

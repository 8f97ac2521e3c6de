"""From a folder of photos to a package: ``classifyd train``."""

"""classifyd: a local REST server for a trained image classifier."""

"""The offline licence: fingerprint of a machine, issue, check."""

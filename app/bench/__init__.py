"""Load for a server of this API, and the report on how it did."""

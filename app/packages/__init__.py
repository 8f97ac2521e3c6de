"""The self-describing model package: manifest, checks, versions, builders."""

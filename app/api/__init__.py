"""Flask blueprints, schemas and error handlers."""

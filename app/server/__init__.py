"""What runs in gunicorn: the worker class, the front before Flask, checks before a start."""

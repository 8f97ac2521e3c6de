"""``front``, which each worker calls, under the name ``wsgi:front``; app/wsgi.py creates it."""

from app.wsgi import front as front

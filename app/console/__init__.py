"""The pages for people: static files and templates, no code."""

"""Which models a worker serves, and the watcher that keeps them current."""

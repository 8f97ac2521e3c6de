"""Building a package from what people have: a model, a checkpoint, labels, transforms."""

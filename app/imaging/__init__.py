"""Bytes of an image file to the array that the model was trained on."""

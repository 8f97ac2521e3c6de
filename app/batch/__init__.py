"""``classifyd batch``: every photo of a source becomes a row of a results folder."""

"""How figures are written for people: charts, pages, counts."""

"""How well the voice model speaks and converts: words, likeness, speed."""

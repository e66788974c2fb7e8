"""From a picture to candidates, the kanji's picture and its strokes."""

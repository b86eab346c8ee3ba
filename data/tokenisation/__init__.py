"""Text as numbers: words and subwords, vocabularies, pretrained vectors; `data/text.py` is the door."""

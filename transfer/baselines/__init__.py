"""Classifiers of single characters, as in the other half of the paper (arXiv 1812.01718, section
4.1): MNIST, Kuzushiji-MNIST, -49 and -Kanji."""

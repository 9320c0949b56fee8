"""The specification as a book: a static site made from the registry, with the walks and the machines' diagrams."""

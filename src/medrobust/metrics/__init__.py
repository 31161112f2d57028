"""Counts, scores, similarity and statistics: numbers from arrays, without any file or network."""

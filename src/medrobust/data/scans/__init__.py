"""Scans: from volumes to slices, boxes and patches on one grid."""

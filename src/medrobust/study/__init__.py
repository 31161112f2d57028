"""What a study may say: its file, the rules for it, and templates."""

"""Tables, JSON and paths that come with data, none of them trusted."""

"""Children: how they are started, what they do, how they end."""

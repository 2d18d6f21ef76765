"""How fast models run here, how much memory they take, and how soon they answer; in turns, each in its own process."""

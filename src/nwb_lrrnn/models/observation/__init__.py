"""What a bin tells about what is observed in it: ln p(y | .) and all that follows from it."""

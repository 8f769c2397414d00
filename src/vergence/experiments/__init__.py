"""Questions: each module holds one, its runs, and what is made of their results."""

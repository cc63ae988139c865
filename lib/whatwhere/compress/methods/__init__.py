"""Published methods, each written from its paper, a file for those that look at the same things.

They keep an exact number of tokens, also where the paper lets a threshold decide: only so can they
be compared. What else is otherwise than in the paper, the docstring of each says.
"""

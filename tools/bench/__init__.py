"""How fast the book's machinery is, beside what a reader might take instead and beside the least
that the work could cost.

make bench  # every part, an hour; fails where a ratio is worse by a fifth than on record
make bench PARTS="lens scaling" # some of them
make bench SAVE=1               # and write the figures down, as the page on performance quotes them
"""

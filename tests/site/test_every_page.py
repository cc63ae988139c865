"""Every page of the book, on a phone, a tablet and a desktop; on the desktop in the dark theme too,
which changes no layout."""

import checks
import pytest
from visits import WIDTHS, nothing, pages

# axe-core's rules: all of them at the width at which the side bars are there too, elsewhere those
# whose answer may differ
RULES = {(1440, "light"): None, (1440, "dark"): checks.OF_COLOUR, (390, "light"): checks.OF_WIDTH}


@pytest.mark.parametrize("width, theme", [*((width, "light") for width in WIDTHS), (1440, "dark")])
@pytest.mark.parametrize("name", pages())
def test_a_page_is_whole(name, width, theme, book, visit):
    here = visit(book + name, width, theme)
    found = [
        *here.wrong,
        *checks.overflow(here.page),
        *checks.images(here.page),
        *checks.maths(here.page),
        *checks.shifts(here.page),
        *checks.theme(here.page, theme),
        *checks.flash(here.page),
        *checks.not_to_copy(here.page),
    ]
    if (width, theme) in RULES:
        found += checks.barriers(here.page, RULES[width, theme])
    if width == 1440:
        found += checks.contrasts(here.page)[0]
    nothing(found, f"{name}, {width} pixels wide, {theme}")

"""Every page of the book, on a phone, a tablet and a desktop, in the light and in the dark theme."""

import checks
import pytest
from visits import THEMES, WIDTHS, nothing, pages

AXE_AT = 1440  # the one width at which the side bars are there too


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("width", WIDTHS)
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
    ]
    if width == AXE_AT:  # a theme changes colours, nothing else
        found += checks.barriers(here.page, checks.OF_COLOUR if theme == "dark" else None)
    nothing(found, f"{name}, {width} pixels wide, {theme}")


def test_the_front_door_leads_to_the_introduction(book, visit):
    here = visit(book + "index.html")
    here.page.wait_for_url(book + "book/intro.html")
    nothing(here.wrong, "index.html")

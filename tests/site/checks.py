"""What is looked at in every page. Each check takes a page in a browser, and returns complaints: a
list of sentences.

`test_the_checks.py` shows of each that it finds what it is for.
"""

from axe_playwright_python.sync_playwright import Axe

MOST_SHIFT = 0.1  # beyond it, web.dev calls a page's layout unstable
# the luminance of a dark ground at most; WCAG's contrast for text at least
DARK, READABLE = 0.05, 4.5
# the rules of axe-core whose answer a theme can change, beside `contrasts`
OF_COLOUR = ("link-in-text-block",)
# and those whose answer a width can
OF_WIDTH = ("scrollable-region-focusable", "aria-hidden-focus")

OVERFLOW = """() => {
    const view = document.scrollingElement, width = view.clientWidth;
    if (view.scrollWidth <= width) return [];
    const scrolls = each => ['auto', 'scroll', 'hidden', 'clip'].includes(getComputedStyle(each).overflowX);
    const clipped = each => {
        for (let up = each.parentElement; up && up !== document.body; up = up.parentElement) if (scrolls(up)) return true;
        return false;
    };
    const beyond = each => Math.round(each.getBoundingClientRect().right + scrollX - width);
    const name = each => each.tagName.toLowerCase() + (each.id ? '#' + each.id : '')
        + [...each.classList].map(word => '.' + word).join('');
    const widest = [...document.body.querySelectorAll('*')].filter(each => beyond(each) > 0 && !clipped(each))
        .sort((one, other) => beyond(other) - beyond(one)).slice(0, 4);
    return ['the page is ' + view.scrollWidth + ' pixels wide and its window ' + width + '; too wide: '
        + widest.map(each => name(each) + ' (' + beyond(each) + ' too many, "' + each.textContent.trim().slice(0, 30) + '")')
            .join(', ')];
}"""

IMAGES = """() => [...document.images].flatMap(image => {
    const source = image.getAttribute('src') ?? '', alt = image.getAttribute('alt')?.trim() ?? '', found = [];
    const file = decodeURIComponent(source.split('/').pop().split('?')[0]);
    const short = source.slice(0, 60);
    if (!image.complete || !image.naturalWidth) found.push('an image has not loaded: ' + short);
    const decoration = image.closest('[aria-hidden=true]') || ['presentation', 'none'].includes(image.getAttribute('role'));
    if (!decoration && (!alt || alt === source || alt === file || alt === file.replace(/\\.\\w+$/, '')))
        found.push('an image has no alt text that tells anything ("' + alt + '"): ' + short);
    return found;
})"""

MATHS = """() => {
    const found = [], article = document.querySelector('article') ?? document.body;
    for (const each of document.querySelectorAll('.katex-error'))
        found.push('a formula is wrong: ' + each.textContent.slice(0, 80));
    for (const each of document.querySelectorAll('.math'))
        if (!each.querySelector('.katex')) found.push('a formula is not set: ' + each.textContent.slice(0, 80));
    const texts = document.createTreeWalker(article, NodeFilter.SHOW_TEXT);
    while (texts.nextNode()) {
        const text = texts.currentNode;
        if (!/\\$\\$|\\\\[([]/.test(text.data)) continue;
        if (text.parentElement.closest('code, pre, script, style, noscript, textarea, .katex')) continue;
        found.push('a formula was left as it is typed: ' + text.data.trim().slice(0, 80));
    }
    const fonts = [...document.fonts].filter(each => each.family.startsWith('KaTeX'));
    if (document.querySelector('.katex') && !fonts.some(each => each.status === 'loaded'))
        found.push('the fonts for mathematics are not loaded');
    for (const each of fonts) if (each.status === 'error') found.push('a font cannot be loaded: ' + each.family);
    return found;
}"""

SHIFTS = """most => {
    const sum = window.shifts.reduce((sum, each) => sum + each.value, 0);
    const name = node => node?.nodeType === 1 ? node.tagName.toLowerCase() + (node.id ? '#' + node.id : '')
        + [...node.classList].map(word => '.' + word).join('') : node?.nodeName;
    const largest = [...window.shifts].sort((one, other) => other.value - one.value)[0];
    return sum <= most ? [] : ['the layout shifts by ' + sum.toFixed(3) + ', first of all at '
        + largest.sources.map(source => name(source.node)).join(', ')];
}"""

# relative luminance as WCAG defines it, of what lies behind an element and of its text
THEME = """([theme, dark, readable]) => {
    const found = [], on = document.documentElement.dataset.theme;
    if (on !== theme) found.push('the page is in the theme "' + on + '", not in "' + theme + '"');
    const numbers = colour => colour.match(/[\\d.]+/g).map(Number);
    const luminance = colour => {
        const [r, g, b] = numbers(colour).map(n => n / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const opaque = colour => (numbers(colour)[3] ?? 1) > 0.99;
    const ground = each => {
        for (; each; each = each.parentElement) {
            const colour = getComputedStyle(each).backgroundColor;
            if (opaque(colour)) return luminance(colour);
        }
        return 1;
    };
    const article = document.querySelector('article') ?? document.body, behind = ground(article);
    if (theme === 'dark' ? behind > dark : behind < 1 - dark)
        found.push('the ground of the page has luminance ' + behind.toFixed(2) + ' in the ' + theme + ' theme');
    for (const each of [article, ...article.querySelectorAll('h1, h2, p')].filter(each => each.checkVisibility())) {
        const [low, high] = [ground(each), luminance(getComputedStyle(each).color)].sort((a, b) => a - b);
        const contrast = (high + 0.05) / (low + 0.05);
        if (contrast >= readable) continue;
        found.push('the text "' + each.textContent.trim().slice(0, 40) + '" has contrast ' + contrast.toFixed(1));
    }
    return found;
}"""

# every text that is seen, with WCAG's contrast to what lies behind it: colours are laid over each
# other from the first opaque ground on, and where a picture is that ground, the worse of a white
# and a black one counts; letters with an opaque shadow lie on that
CONTRASTS = """([readable, within]) => {
    const canvas = Object.assign(document.createElement('canvas'), { width: 1, height: 1 });
    const pen = canvas.getContext('2d', { willReadFrequently: true });
    const numbers = colour => {  // of any notation, by having it painted
        pen.clearRect(0, 0, 1, 1);
        pen.fillStyle = colour;
        pen.fillRect(0, 0, 1, 1);
        const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
        return [r, g, b, a / 255];
    };
    const over = ([r, g, b, a], below) => [r, g, b].map((c, n) => a * c + (1 - a) * below[n]);
    const luminance = colour => {
        const [r, g, b] = colour.map(n => n / 255).map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const grounds = each => {
        const veils = [];
        for (; each; each = each.parentElement) {
            const { backgroundColor, backgroundImage } = getComputedStyle(each), colour = numbers(backgroundColor);
            if (backgroundImage.includes('url(')) return [[255, 255, 255], [0, 0, 0]].map(
                below => veils.reduceRight((below, veil) => over(veil, below), below));
            veils.push(colour);
            if (colour[3] > 0.99) break;
        }
        return [veils.reduceRight((below, veil) => over(veil, below), [255, 255, 255])];
    };
    const found = new Set(), root = within ? document.querySelector(within) : document.body;
    const texts = document.createTreeWalker(root, NodeFilter.SHOW_TEXT);
    let looked = 0;
    while (texts.nextNode()) {
        const text = texts.currentNode, each = text.parentElement, style = getComputedStyle(each);
        if (!text.data.trim() || each.closest('style, script, noscript')) continue;
        if (!each.checkVisibility({ visibilityProperty: true })) continue;
        looked += 1;
        const shadow = style.textShadow === 'none' ? [0, 0, 0, 0] : numbers(style.textShadow.match(/.*?\\)/)[0]);
        for (const ground of shadow[3] > 0.99 ? [shadow.slice(0, 3)] : grounds(each)) {
            const ink = over(numbers(each.closest('svg') ? style.fill : style.color), ground);
            const [low, high] = [luminance(ground), luminance(ink)].sort((a, b) => a - b);
            const contrast = (high + 0.05) / (low + 0.05);
            if (contrast >= readable) continue;
            found.add('"' + text.data.trim().slice(0, 30) + '" (' + each.tagName.toLowerCase() + ') has contrast '
                + contrast.toFixed(1) + ': rgb(' + ink.map(Math.round) + ') on rgb(' + ground.map(Math.round) + ')');
        }
    }
    return [[...found], looked];
}"""

BARRIERS = """async only => {
    const rules = { 'color-contrast': { enabled: false } };
    const options = { resultTypes: ['violations'], preload: false, rules, ...(only ? { runOnly: { type: 'rule', values: only } } : {}) };
    const { violations } = await axe.run(document, options);
    return violations.filter(each => ['serious', 'critical'].includes(each.impact)).map(each =>
        each.id + ' (' + each.impact + ', ' + each.help + '): ' + each.nodes.length + ' times, first at '
        + each.nodes.slice(0, 3).map(node => node.target.join(' ') + ' [' + node.html.slice(0, 90) + '] '
            + (node.any[0] ?? node.all[0] ?? node.none[0])?.message).join('; '));
}"""

QUIZ = """() => {
    const quiz = document.querySelector('section#quiz'), questions = [];
    if (!quiz) return ['there is no quiz'];
    for (const child of quiz.children) {
        if (child.matches('p') && child.querySelector(':scope > strong'))
            questions.push({ text: child.textContent.trim(), answers: [] });
        if (child.matches('details')) {
            if (!questions.length) return ['an option comes before the first question'];
            questions.at(-1).answers.push(child.querySelector(':scope > :not(summary)')?.textContent.trim() ?? '');
        }
    }
    const found = questions.length ? [] : ['the quiz has no question'];
    questions.forEach(({ text, answers }, n) => {
        const rights = answers.filter(answer => answer.startsWith('Yes.')).length;
        if (!text.startsWith((n + 1) + '. ')) found.push('question ' + (n + 1) + ' has another number: ' + text);
        if (answers.length < 2) found.push(answers.length + ' options are too few: ' + text);
        if (rights !== 1) found.push(rights + ' options are right, and one should be: ' + text);
        if (answers.some(answer => !/^(Yes|No)\\./.test(answer))) found.push('an answer says neither Yes nor No: ' + text);
    });
    return found;
}"""

PRINTED = """left_out => {
    const name = each => each.tagName.toLowerCase() + [...each.classList].map(word => '.' + word).join('');
    const found = [...document.querySelectorAll(left_out)].filter(each => each.checkVisibility())
        .map(each => 'this belongs to the screen and is printed: ' + name(each));
    for (const part of document.querySelectorAll('article details')) {
        const text = part.querySelector(':scope > :not(summary)');
        if (!text?.checkVisibility() || !text.getBoundingClientRect().height)
            found.push('what is folded is not printed: ' + part.textContent.trim().slice(0, 60));
    }
    return [...new Set(found)];
}"""

NOT_TO_COPY = """() => [...document.querySelectorAll('article div.cell_input div.highlight')]
    .filter(cell => !cell.querySelector('button.copybtn'))
    .map(cell => 'a code cell has no button to copy it: ' + cell.textContent.trim().slice(0, 40))"""


def overflow(page):
    """The page as a whole scrolls sideways. What scrolls by itself may."""
    return page.evaluate(OVERFLOW)


def images(page):
    """An image is missing, or says nothing to those who do not see it."""
    return page.evaluate(IMAGES)


def maths(page):
    """A formula is wrong, was not set while the book was built, or lacks its font."""
    return page.evaluate(MATHS)


def shifts(page):
    """What has been read moves while the rest of the page comes."""
    return page.evaluate(SHIFTS, MOST_SHIFT)


def theme(page, name):
    """The page is in another theme, on a wrong ground, or its text cannot be told from the
    ground."""
    return page.evaluate(THEME, [name, DARK, READABLE])


def contrasts(page, within=""):
    """([complaints], how many texts were looked at): texts that cannot be told from their ground.
    within: a selector."""
    return page.evaluate(CONTRASTS, [READABLE, within])


def flash(page):
    """At first the page is drawn in another theme than in the end, and code is not coloured before
    it has one."""
    drawn = page.evaluate("[...new Set([...window.drawn, document.documentElement.dataset.theme])]")
    return (
        []
        if len(drawn) < 2
        else [f"the page is drawn in the theme {drawn[0]!r} first, then in {drawn[-1]!r}"]
    )


def barriers(page, only=None):
    """What axe-core calls a serious or critical barrier, but for contrast: `contrasts` looks at it,
    and takes seconds of a page for which axe takes half a minute. only: these rules instead of
    all."""
    page.evaluate(Axe().axe_script)
    return page.evaluate(BARRIERS, only)


def not_to_copy(page):
    """A code cell of a notebook has no button that copies it."""
    return page.evaluate(NOT_TO_COPY)


def quiz(page):
    """A question of the quiz has no right answer or several, or its answers do not begin with Yes
    or No."""
    return page.evaluate(QUIZ)


def printed(page, left_out):
    """Paper shows what is for screens, or not what is folded. left_out: a selector of what no paper
    shows."""
    return page.evaluate(PRINTED, left_out)

"What is mended in the finished pages, where Sphinx and its theme leave no other way."
import re
from pathlib import Path

VIEWPORT = '<meta name="viewport" content="width=device-width, initial-scale=1" />'

def mended(html: str) -> str:
    "A page with one viewport, pictures that lead to themselves in full size, and no program that draws icons: the font of the theme has them, a second font for one more is not worth its weight"
    html = re.sub(r'\s*<script[^>]*fontawesome\.js[^>]*></script>', '', html)
    html = html.replace('fab fa-github', 'fas fa-code-branch')
    html = re.sub(r'\s*<meta name="viewport"[^>]*>', '', html)
    html = re.sub(r'<img [^>]*src="(_(?:images|static)/[^"]+)"[^>]*/>', r'<a href="\1">\g<0></a>', html)
    html = re.sub(r'(<button class="btn search-button-field[^>]*?) aria-label="Search"', r'\1', html) # it says so itself
    html = html.replace('<summary aria-label="Toggle hidden content">', '<summary>') # likewise
    return html.replace('<meta charset="utf-8" />', f'<meta charset="utf-8" />\n    {VIEWPORT}', 1)

def mend(site: Path):
    "All pages, in place; what no page loads goes"
    for page in site.glob('*.html'): page.write_text(mended(page.read_text(encoding='utf-8')), encoding='utf-8')
    for pattern in '*.map', 'fontawesome.js*':
        for path in (site/'_static').rglob(pattern): path.unlink()

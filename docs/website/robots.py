"What a site has besides its pages: the list of them and the rules for robots, and a page for addresses that lead nowhere."
from html import escape
from pathlib import Path
from .project import settings, site

APART = 'genindex py-modindex search'.split() # pages that nobody looks for

def sitemap(folder: Path) -> str:
    "The addresses of all pages in `folder`"
    pages = sorted(o.stem for o in folder.glob('*.html') if o.stem not in APART)
    urls = ''.join(f'<url><loc>{site(settings())}{o}.html</loc></url>\n' for o in pages)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<urlset xmlns="http://www.sitemaps.org/schemas/sitemap/0.9">\n{urls}</urlset>\n'

def robots() -> str: return f'User-agent: *\nAllow: /\nSitemap: {site(settings())}sitemap.xml\n'

def not_found() -> str:
    "A page that needs no other file, for it is shown at any address"
    cfg = settings()
    links = ' · '.join(f'<a href="{site(cfg)}{page}.html">{words}</a>' for page,words in dict(index='Home', **{'00_start': 'The first lesson'}, search='Search', genindex='All names and words').items())
    return f'''<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8" />
<meta name="viewport" content="width=device-width, initial-scale=1" />
<title>Not found - {escape(cfg['repo'])}</title>
<style>
:root {{ color-scheme: light dark; }}
a {{ color: light-dark(#0f56b3, #7ab0ff); }}
body {{ max-width: 40rem; margin: 15vh auto; padding: 0 1rem; font: 1.1rem/1.6 system-ui, sans-serif; color: light-dark(#222, #eee); background: light-dark(#fff, #121212); }}
</style>
</head>
<body>
<main>
<h1>There is no such page</h1>
<p>It may have moved as the course grew. From here you can go on:</p>
<p>{links}</p>
</main>
</body>
</html>
'''

"The line of text under the title of a page: where one can run it, have it, read it as it was written, and report what is wrong with it."
from html import escape
from .project import colab, report, settings, source

def bar(name: str) -> str:
    "The links of the notebook `name`"
    cfg = settings()
    links = {'Open in Colab': colab(cfg, name), 'Download': f'_sources/{name}.ipynb', 'Source': source(cfg, name), 'Report a problem on this page': report(cfg, name)}
    return '<p class="bar">' + ' · '.join(f'<a href="{escape(url)}"{" download" if words=="Download" else ""}>{words}</a>' for words,url in links.items()) + '</p>'

"What a learner may type into the search, and the page that answers: entries of the index, which the search looks at first."
import re
from functools import cache
from .project import ROOT

@cache
def phrases() -> dict:
    "Page -> the phrases that lead there, as they stand in `docs/search.txt`"
    lines = (ROOT/'docs'/'search.txt').read_text(encoding='utf-8').splitlines()
    return {page: words.split(', ') for page,words in (o.split(': ') for o in lines if not o.startswith('#'))}

def findable(text: str, page: str) -> str:
    "The Markdown of a page, its first sentence found by the phrases that belong to it"
    entries = ', '.join(f'! {o}' for o in phrases().get(page, ()))
    return re.sub(r'^> ', f'```{{index}} {entries}\n```\n\n> ', text, count=1, flags=re.M) if entries else text

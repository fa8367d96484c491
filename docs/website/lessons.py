"Notebooks as pages: what a reader of the site shall see of them, in the Markdown of MyST."
import base64, re
from io import BytesIO
from pathlib import Path
import nbformat
from PIL import Image
from .bar import bar
from .links import lesson_of, link, modules
from .project import ROOT
from .search import findable

PARTS = {'build BYOL': r'0[0-8]', 'understand it': r'09|1[01]', 'use it': r'1[2-9]'} # by the beginning of the file's name

def in_order(path: Path) -> tuple:
    "What to sort notebooks by: the path, then the workshop, each by number and letter"
    workshop,number,letter = re.match(r'(w?)(\d+)([a-z]?)_', path.stem).groups()
    return workshop, int(number), letter

def lessons() -> list:
    "All notebooks of the course, in order: the path, then the workshop"
    return sorted((ROOT/'nbs').glob('[0-9w][0-9]*_*.ipynb'), key=in_order)

def in_workshop(path: Path) -> bool: return path.stem[0]=='w'

def short_titles() -> dict:
    "How the map of the course in the index calls its lessons"
    text = '\n'.join(c.source for c in nbformat.read(ROOT/'nbs'/'index.ipynb', 4).cells)
    return {file: title for title,file in re.findall(r'\[([\dw]\d\w? [^\]]+)\]\((\w+)\.ipynb\)', text)}

def short_title(path: Path) -> str:
    "Title for the sidebar: from the map of the course, else the number and the first words of the notebook's own title"
    title = re.search(r'^# (.+)$', nbformat.read(path, 4).cells[0].source, re.M)[1]
    return short_titles().get(path.stem) or f"{path.stem.split('_')[0]} {title.split(':')[0]}"

def parts() -> dict:
    "The parts of the path that have lessons, counted without a gap, and the workshop: caption -> notebooks"
    made = [(name, found) for name,numbers in PARTS.items() if (found := [p for p in lessons() if re.match(numbers, p.stem)])]
    return {f'Part {"I"*i}: {name}': found for i,(name,found) in enumerate(made, 1)} | {'Workshop': [p for p in lessons() if in_workshop(p)]}

def toctrees(more: dict) -> str:
    "The sidebar: the course in its parts, then `more`"
    trees = {caption: [f'{short_title(p)} <{p.stem}>' for p in found] for caption,found in parts().items()}
    return '\n\n'.join('\n'.join(['```{toctree}', ':hidden:', f':caption: "{caption}"', '', *pages, '```']) for caption,pages in (trees | more).items())

# --- markdown

def dropdowns(text: str) -> str:
    "Folded answers, in the theme's own form"
    text = re.sub(r'<details><summary>(.*?)</summary>', r'::::{dropdown} \1\n', text)
    return text.replace('</details>', '\n::::')

def prose(text: str, seen: set) -> str:
    "A cell of text: no badges and comments, answers that unfold, everything linked that can be"
    text = re.sub(r'<!-- badges -->(\n\[!\[.*)?\n?', '', text).replace('](../docs/_static/', '](_static/')
    text,references,papers = re.sub(r'(?s)<!--.*?-->', '', text).partition('## References\n')
    return dropdowns(link(text, seen) + references + link(papers))

def builds(path: Path) -> str:
    "What leads from a lesson to the reference of its module"
    module = next((m for m in modules() if lesson_of(m)==path), None)
    return f' **Builds** {{py:mod}}`byol_fastai.{module}`.' if module else ''

def anchors(path: Path, source: str) -> list:
    "Names that a cell of the workshop exports, as targets: nbdev's index of names leads to the notebook's own page, for it knows of no other"
    if not in_workshop(path) or 'export' not in ' '.join(directives(source)): return []
    made = re.findall(r'^(?:class|def) ([A-Za-z]\w*)|^([A-Za-z]\w*) *=', source, re.M)
    return [nbformat.v4.new_markdown_cell(' '.join(f'<a id="{(a or b).lower()}"></a>' for a,b in made))] if made else []

# --- code

def directives(source: str) -> list: return re.findall(r'^#\|\s*(.+?)\s*$', source, re.M)

TAGS = {'echo: false': 'remove-input', 'output: false': 'remove-output', 'code-fold: true': 'hide-input'}

def shown(cell) -> bool:
    "Not what is hidden, and what is only exported"
    first = {o.split()[0] for o in directives(cell.source)}
    return bool(cell.source.strip()) and not first & {'hide', 'export', 'default_exp'}

PIXELS = 'image/png', 'image/jpeg'

def width(data: dict) -> int | None:
    "How wide the picture among the forms of an output is meant to be, in pixels of the page: its density is 96 an inch, or twice that"
    content = next((data[k] for k in PIXELS if k in data), None)
    if content is None: return None
    im = Image.open(BytesIO(base64.b64decode(content)))
    return im.width // max(1, round(im.info.get('dpi', (96,))[0]/96))

def pictures(cell) -> list:
    "The width of each picture that a cell shows"
    return [w for o in cell.get('outputs', ()) if (w := width(o.get('data', {})))]

def alt(cell) -> str:
    "The words that stand for the pictures of a cell"
    return next((o.removeprefix('fig-alt: ') for o in directives(cell.source) if o.startswith('fig-alt: ')), '')

def undescribed() -> list:
    "Every cell of the course whose pictures nothing stands for, as notebook and first line"
    paths = [ROOT/'nbs'/'index.ipynb', *lessons()]
    return [f'{p.name}: {c.source.splitlines()[0]}' for p in paths for c in nbformat.read(p, 4).cells if c.cell_type=='code' and pictures(c) and not alt(c)]

def blank(output) -> bool:
    "Whether all that an output brings is a style, or nothing: the theme would draw a grey bar for it"
    html = ''.join(output.get('data', {}).get('text/html', 'x'))
    return not re.sub(r'(?s)<style.*?</style>|</?div>|\s', '', html)

WIDE = 560 # pixels: charts and grids that are meant to fill the column

def code(cell):
    "A cell of code without directives, which become tags"
    cell.metadata['tags'] = [TAGS[o] for o in directives(cell.source) if o in TAGS]
    shape = {'classes': 'wide'} if max(pictures(cell), default=0) > WIDE else {}
    cell.metadata['mystnb'] = {'image': shape | ({'alt': alt(cell)} if alt(cell) else {})}
    cell.source = re.sub(r'^#\|.*\n?', '', cell.source, flags=re.M).strip('\n')
    cell.outputs = [o for o in cell.outputs if not blank(o)]
    for o in cell.outputs:
        if (w := width(o.get('data', {}))) and w <= WIDE: o.metadata = {kind: {'width': w} for kind in o.data}
    for data in (o['data'] for o in cell.outputs if 'text/html' in o.get('data', {})): # the theme knows the tables of pandas
        data['text/html'] = ''.join(data['text/html']).replace('class="fastprogress"', 'class="dataframe"')
    return cell

def page(path: Path):
    "The notebook as the site shows it"
    nb,seen = nbformat.read(path, 4), set()
    nb.cells = [o for c in nb.cells for o in [*(anchors(path, c.source) if c.cell_type=='code' else []), *([c] if c.cell_type=='markdown' or shown(c) else [])]]
    for c in nb.cells:
        if c.cell_type=='markdown': c.source = prose(c.source, seen)
        else: code(c)
    first = re.sub(r'^\*\*Needs\*\* .+', lambda m: m[0]+builds(path), nb.cells[0].source, flags=re.M)
    nb.cells[0].source = re.sub(r'\A# .+\n', lambda m: f'{m[0]}\n{bar(path.stem)}\n', findable(first, path.stem))
    nb.metadata = nbformat.from_dict({**({'nosearch': True} if path.stem=='all' else {}), 'language_info': {'name': 'python', 'pygments_lexer': 'ipython3'}, 'kernelspec': {'name': 'python3', 'display_name': 'Python 3', 'language': 'python'}})
    return nb

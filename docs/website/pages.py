"Pages that no notebook holds: the results from the ledger, and the papers that the lessons name."
import json, re
import nbformat
from byol_fastai.course import ledger, results_table
from .lessons import lessons, short_title
from .links import link_papers
from .project import ROOT, repository, settings
from .tables import tables

LEDGER = ROOT/'byol_fastai'/'results'

# --- results

def compared() -> list:
    "Every table that compares: where it stands, its rows `(what, ours, theirs)`, and whether they are percentages"
    res = []
    for path in [ROOT/'nbs'/'index.ipynb', *lessons()]:
        section = ''
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type!='code': section = (re.findall(r'^#{1,2} (.+)$', cell.source, re.M) or [section])[-1]
            else:
                place = f'[Home page: {section}](index.ipynb)' if path.stem=='index' else f'[Lesson {short_title(path)}]({path.name})'
                res += [(place, *o) for o in tables(cell.source, path.name)]
    return res

def comparison(rows: list, percent: bool) -> str:
    "The table of the lesson, and where each of its rows comes from"
    lines = results_table(rows, percent).data.splitlines()
    def origin(ours): return f'[{ours}](#{ours})' if ledger(ours) and ours!='published' else ''
    sources = [', '.join(filter(None, (origin(ours.split('/')[0]), '[published](#published)' if theirs else ''))) for _,ours,theirs in rows]
    return '\n'.join(f'{line} {source} |' for line,source in zip(lines, ['source', '---', *sources]))

def flat(figures: dict, above: str = '') -> list:
    "Nested figures as rows; the runs of single seeds with their histories, hundreds of rows, stay in the ledger"
    return [row for k,v in figures.items() if k!='runs' for row in (flat(v, f'{above}{k} / ') if isinstance(v, dict) else [(above+k, v)])]

def shown(value) -> str:
    if isinstance(value, list): return ', '.join(map(shown, value))
    return f'{value:.4g}' if isinstance(value, float) else str(value)

def provenance(entry: dict) -> str:
    "What was run, on what, and when"
    commit = f"[{entry['commit']}]({repository(settings())}/commit/{entry['commit']})"
    rows = {'command': f"`{entry['command']}`", 'device': entry['device'], 'date': entry['date'], 'commit': commit, 'versions': ', '.join(f'{k} {v}' for k,v in entry['versions'].items()),
            'settings': ', '.join(f'{k} {shown(v)}' for k,v in entry['config'].items())}
    return '\n'.join(f':{k}: {v}' for k,v in rows.items() if v)

def table(figures: dict) -> str:
    rows = [f"| {k} | {shown(v).replace('|', chr(92)+'|')} |" for k,v in flat(figures)]
    return '\n'.join(['| figure | value |', '|---|---:|', *rows])

def results() -> str:
    "The ledger as a page"
    parts = ['# Results', '> What we measured beside what others published, and how each figure came about.',
        'Nobody types a figure here. The program that measured it wrote it into the ledger, `byol_fastai/results`, together with what it ran, on what, and when; this page is made from there. What was not run says so. Our runs are smaller than those of the papers, so read a difference as a comparison of whole set-ups, not of implementations, unless data, network and length are the same.',
        '## Beside the papers and the peers']
    for place,rows,percent in compared(): parts += [f'### {place}', comparison(rows, percent)]
    parts.append('## Every measurement')
    for path in sorted(LEDGER.glob('*.json')):
        entry = json.loads(path.read_text(encoding='utf-8'))
        if path.stem!='published': parts += [f'({path.stem})=\n### {path.stem}', entry['what'].rstrip('.')+'.', provenance(entry), '````{dropdown} The figures\n'+table(entry['figures'])+'\n````']
    published = ledger('published')
    parts += ['(published)=\n## Published figures', published['what'].rstrip('.')+'.', '\n'.join(f'- {k}: {link_papers(v)}' for k,v in published['sources'].items()), '````{dropdown} The figures\n'+table(published['figures'])+'\n````']
    return '\n\n'.join(parts)

# --- papers

ARXIV = re.compile(r'\b\d{4}\.\d{5}\b')

def entries(path) -> list:
    "The items of the section *References* of a notebook"
    text = '\n'.join(c.source for c in nbformat.read(path, 4).cells if c.cell_type=='markdown')
    section = re.split(r'^## ', re.split(r'^## References\n', text, flags=re.M)[-1], flags=re.M)[0] if '\n## References' in text else ''
    return [' '.join(o.split()) for o in re.findall(r'^- (.+(?:\n  .+)*)', section, re.M)]

def parts(entry: str) -> tuple:
    "Authors, year, title and the rest of an entry, in whichever of the lessons' styles it is written"
    who,year,after = re.match(r'(.+?)[ ,.]*\(?\b((?:19|20)\d\d)\b\)?[.,:]* *(.*)', entry).groups()
    title,rest = re.match(r'\*(.+?)\*(.*)' if after.startswith('*') else r'(.+?[?.])(?: +|$)(.*)', after).groups()
    return who, year, title.strip(' .,'), rest.strip(' .,')

def key(entry: str) -> str:
    "What makes two entries the same paper: the arXiv id, else the title"
    return (ARXIV.findall(entry) or [re.sub(r'\W', '', parts(entry)[2]).lower()])[0]

def papers() -> dict:
    "Every paper: the fullest entry that a lesson gives, and the lessons that name it"
    res = {}
    for path in [*lessons(), *(ROOT/'nbs'/f'{o}.ipynb' for o in ('questions', 'worth_it', 'index'))]:
        for entry in entries(path):
            best,where = res.get(key(entry), (entry, []))
            res[key(entry)] = (max(best, entry, key=lambda o: len(parts(o)[0])), [*where, path])
    return res

def named() -> set:
    "The arXiv numbers that notebooks and library name anywhere"
    texts = [*(ROOT/'nbs').glob('*.ipynb'), *(ROOT/'byol_fastai').glob('*.py')]
    return {o for f in texts for o in re.findall(r'arXiv[: ](\d{4}\.\d{5})', f.read_text(encoding='utf-8'))}

def surname(who: str) -> str: return re.split(r',| and | et al', who)[0].split()[-1].lower()

def references() -> str:
    "The page of all papers"
    lines = ['# References', '', '> Every paper that the course names, and the lessons that name it.', '']
    for entry,where in sorted(papers().values(), key=lambda o: (surname(parts(o[0])[0]), parts(o[0])[1])):
        who,year,title,rest = parts(entry)
        arxiv = next(iter(ARXIV.findall(entry)), None)
        place = f'[arXiv {arxiv}](https://arxiv.org/abs/{arxiv})' if arxiv else re.split(r'\. (?=[A-Z])', rest)[0].strip('. ')
        named_in = ', '.join(f"[{'home' if p.stem=='index' else p.stem.split('_')[0]}]({p.name})" for p in dict.fromkeys(where))
        who = who + '.' if who.endswith('et al') else who
        lines.append(f"- {who} ({year}). *{title if title.endswith('?') else title+'.'}* {place}. Named in {named_in}.")
    return '\n'.join(lines)

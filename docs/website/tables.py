"The tables in the notebooks that show the ledger, brought up to date with it without running the lessons."
import ast, inspect, json, re
from pathlib import Path
from byol_fastai.course import results_table, seeds_table

MAKERS = dict(results_table=results_table, seeds_table=seeds_table) # what makes a table out of the ledger alone

def calls(source: str, name: str) -> list:
    "The tables that the code cell `source` of the notebook `name` shows: who makes each, and from which arguments"
    if not any(f'{o}(' in source for o in MAKERS) or re.search(r'^#\| export|%|\bassert\b', source, re.M): return []
    code,made = ast.parse(source),[]
    code.body = [o for o in code.body if not isinstance(o, (ast.Import, ast.ImportFrom))]
    def stand_in(maker): return lambda *args, **kwargs: made.append((maker, inspect.signature(MAKERS[maker]).bind(*args, **kwargs)))
    try: exec(compile(code, name, 'exec'), {o: stand_in(o) for o in MAKERS})
    except NameError as e: raise ValueError(f"{name}: {e}. Make what `{'` and `'.join(MAKERS)}` are given in the cell itself: the table is made without running the lesson.") from e
    return made

def tables(source: str, name: str) -> list:
    "Rows `(what, ours, theirs)` of each `results_table` that the code cell `source` of the notebook `name` shows, and whether they are percentages"
    given = [o for maker,o in calls(source, name) if maker=='results_table']
    return [(o.arguments['rows'], o.arguments.get('percent', True)) for o in given]

def refresh(nb: dict, name: str) -> dict:
    "The notebook `nb` with every stored table as the ledger has it now"
    for cell in nb['cells']:
        if cell['cell_type']!='code': continue
        shown = [o['data'] for o in cell['outputs'] if 'text/markdown' in o.get('data', {})]
        for data,(maker,o) in zip(shown, calls(''.join(cell['source']), name)): data['text/markdown'] = MAKERS[maker](*o.args, **o.kwargs).data.splitlines(True)
    return nb

def refresh_notebook(path: Path) -> bool:
    "Refresh one notebook in place; True where something changed"
    before = json.loads(path.read_text(encoding='utf-8'))
    after = refresh(json.loads(path.read_text(encoding='utf-8')), path.name)
    if after!=before: path.write_text(json.dumps(after, ensure_ascii=False, indent=1, sort_keys=True)+'\n', encoding='utf-8')
    return after!=before

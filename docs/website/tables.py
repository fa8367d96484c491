"The tables in the notebooks that show the ledger, brought up to date with it without running the lessons."
import ast, inspect, json, re
from pathlib import Path
from byol_fastai.course import results_table, seeds_table

MAKERS = dict(results_table=results_table, seeds_table=seeds_table) # what makes a table out of the ledger alone

def shows_table(statement) -> bool:
    "Does a statement of a cell show what a maker makes?"
    call = statement.value if isinstance(statement, ast.Expr) else None
    return isinstance(call, ast.Call) and getattr(call.func, 'id', None) in MAKERS

def calls(source: str, name: str) -> list:
    "The tables that the code cell `source` of the notebook `name` shows: who makes each, and from which arguments"
    if not any(f'{o}(' in source for o in MAKERS) or re.search(r'^#\| export|%', source, re.M): return []
    made = []
    def stand_in(maker): return lambda *args, **kwargs: made.append((maker, inspect.signature(MAKERS[maker]).bind(*args, **kwargs)))
    known = {o: stand_in(o) for o in MAKERS}
    for o in ast.parse(source).body:
        if not (shows_table(o) or isinstance(o, ast.Assign) and not any(f'{maker}(' in ast.unparse(o) for maker in MAKERS)): continue
        try: exec(compile(ast.Module([o], []), name, 'exec'), known)
        except Exception as e: # what a table is given stands in its cell, what the rest of a cell needs does not
            if shows_table(o): raise ValueError(f"{name}: {e}. Make what `{'` and `'.join(MAKERS)}` are given in the cell itself: the table is made without running the lesson.") from e
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

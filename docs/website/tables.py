"The tables in the notebooks that show the ledger, brought up to date with it without running the lessons."
import ast, json, re
from pathlib import Path
from byol_fastai.course import results_table

def tables(source: str, name: str) -> list:
    "Rows `(what, ours, theirs)` of each table that the code cell `source` of the notebook `name` shows, and whether they are percentages"
    if 'results_table(' not in source or re.search(r'^#\| export|%|\bassert\b', source, re.M): return []
    code,shown = ast.parse(source),[]
    code.body = [o for o in code.body if not isinstance(o, (ast.Import, ast.ImportFrom))]
    try: exec(compile(code, name, 'exec'), dict(results_table=lambda rows, percent=True: shown.append((rows, percent))))
    except NameError as e: raise ValueError(f"{name}: {e}. Make the rows of `results_table` in the cell itself: the table is made without running the lesson.") from e
    return shown

def refresh(nb: dict, name: str) -> dict:
    "The notebook `nb` with every stored table as the ledger has it now"
    for cell in nb['cells']:
        if cell['cell_type']!='code': continue
        shown = [o['data'] for o in cell['outputs'] if 'text/markdown' in o.get('data', {})]
        for data,(rows,percent) in zip(shown, tables(''.join(cell['source']), name)): data['text/markdown'] = results_table(rows, percent).data.splitlines(True)
    return nb

def refresh_notebook(path: Path) -> bool:
    "Refresh one notebook in place; True where something changed"
    before = json.loads(path.read_text(encoding='utf-8'))
    after = refresh(json.loads(path.read_text(encoding='utf-8')), path.name)
    if after!=before: path.write_text(json.dumps(after, ensure_ascii=False, indent=1, sort_keys=True)+'\n', encoding='utf-8')
    return after!=before

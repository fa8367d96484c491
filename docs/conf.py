"Settings of Sphinx; `docs/build.py` writes the sources that it renders."
import re
from docutils import nodes
from website.links import external, own
from website.project import repository, settings, site
from website.reference import source_url

cfg = settings()
project, author, copyright, release = cfg['repo'], cfg['author'], cfg['author'], cfg['version']
extensions = ['myst_nb', 'sphinx.ext.mathjax', 'sphinx.ext.linkcode', 'sphinx_design', 'sphinx_copybutton']
nitpicky = True
add_module_names = False
python_maximum_signature_line_length = 90
python_display_short_literal_types = True
toc_object_entries_show_parents = 'hide'

nb_execution_mode = 'off'
nb_merge_streams = True
nb_render_markdown_format = 'myst' # tables too
myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence', 'fieldlist', 'attrs_inline', 'deflist']
myst_heading_anchors = 3
mathjax_path = 'mathjax/tex-svg.js'
copybutton_exclude = '.linenos, .gp, .go'

html_theme = 'sphinx_book_theme'
html_title = project
html_baseurl = site(cfg)
html_static_path = ['_static']
html_css_files = ['site.css']
html_favicon = '_static/favicon.svg'
html_show_sphinx = False
html_show_search_summary = False
html_copy_source = True
html_context = {'default_mode': 'auto'}
html_theme_options = dict(repository_url=repository(cfg), repository_branch=cfg['branch'], path_to_docs='nbs', use_repository_button=True, use_source_button=True,
    use_download_button=True, navbar_persistent=[], show_toc_level=2, launch_buttons=dict(colab_url='https://colab.research.google.com'))

def linkcode_resolve(domain: str, info: dict) -> str | None:
    "What `[source]` beside a name leads to"
    return source_url(f"{info['module']}.{info['fullname']}")

def elsewhere(app, env, node, content):
    "A name that the page's own module does not have: one of another module, or of another project"
    name = node['reftarget']
    if name in own(): return env.get_domain('py').resolve_xref(env, node['refdoc'], app.builder, 'obj', own()[name], node, content)
    url = external(name)
    return nodes.reference('', '', content, internal=False, refuri=url, reftitle=name) if url else None

def notebook(app, page: str) -> bool: return page in app.env.found_docs and app.env.doc2path(page).suffix=='.ipynb'

def head(app, page, template, context, doctree):
    "What search engines and social networks show; buttons that only a notebook can have"
    says = next((o.astext() for o in doctree.findall(nodes.block_quote)), cfg['description']) if doctree else cfg['description']
    title = re.sub('<.*?>', '', context.get('title') or project)
    for name,value in (('og:title', title), ('og:description', says), ('og:image', f'{site(cfg)}_static/social.png'), ('og:url', f'{site(cfg)}{page}.html'), ('og:type', 'website')):
        context['metatags'] = context.get('metatags', '') + f'<meta property="{name}" content="{app.builder.templates.environment.filters["e"](value)}" />\n'
    if not notebook(app, page): context['header_buttons'] = [o for o in context.get('header_buttons', []) if o.get('label')!='download-buttons']
    for group in (o for o in context.get('header_buttons', []) if o['type']=='group'):
        group['buttons'] = [o for o in group['buttons'] if notebook(app, page) or o['label']!='source-file-button']
        for o in group['buttons']:
            if 'url' in o: o['url'] = o['url'].removesuffix('?plain=1') # GitHub shall show the notebook, not its JSON

def setup(app):
    app.connect('missing-reference', elsewhere)
    app.connect('html-page-context', head, priority=900)

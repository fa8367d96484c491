"Settings of Sphinx; `docs/build.py` writes the sources that it renders."
import re
from html import escape, unescape
from docutils import nodes
from website.links import external, own
from website.project import ROOT, repository, settings, site
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
html_search_scorer = str(ROOT/'docs'/'scorer.js')
html_copy_source = True
html_scaled_image_link = False # `website.mend` makes every picture a link
html_context = {'default_mode': 'auto'}
html_theme_options = dict(repository_url=repository(cfg), use_repository_button=True, use_download_button=False, use_fullscreen_button=False, navbar_persistent=[], show_toc_level=2)

def linkcode_resolve(domain: str, info: dict) -> str | None:
    "What `[source]` beside a name leads to"
    return source_url(f"{info['module']}.{info['fullname']}")

def elsewhere(app, env, node, content):
    "A name that the page's own module does not have: one of another module, or of another project"
    name = node['reftarget']
    if name in own(): return env.get_domain('py').resolve_xref(env, node['refdoc'], app.builder, 'obj', own()[name], node, content)
    url = external(name)
    return nodes.reference('', '', content, internal=False, refuri=url, reftitle=name) if url else None

def head(app, page, template, context, doctree):
    "What search engines and social networks show"
    says = next((o.astext() for o in doctree.findall(nodes.block_quote)), cfg['description']) if doctree else cfg['description']
    title = unescape(re.sub('<.*?>', '', context.get('title') or project))
    tags = [('name', 'description', says), ('property', 'og:title', title), ('property', 'og:description', says), ('property', 'og:type', 'website'),
        ('property', 'og:url', f'{site(cfg)}{page}.html'), ('property', 'og:image', f'{site(cfg)}_static/social.png'), ('property', 'og:image:alt', cfg['description']), ('name', 'twitter:card', 'summary_large_image')]
    context['metatags'] = context.get('metatags', '') + ''.join(f'<meta {kind}="{name}" content="{escape(text)}" />\n' for kind,name,text in tags)

def setup(app):
    app.connect('missing-reference', elsewhere)
    app.connect('html-page-context', head)

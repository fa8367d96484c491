"Settings of Sphinx; `docs/build.py` writes the sources that it renders."
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from stamp import repository, settings, site

cfg = settings()
project, author, copyright, release = cfg['repo'], cfg['author'], cfg['author'], cfg['version']
extensions = ['myst_nb', 'sphinx.ext.mathjax', 'sphinx_design', 'sphinx_copybutton']
exclude_patterns = ['_build']
nitpicky = True
nitpick_ignore_regex = [('py:class', r'.*')]  # annotations name classes of libraries that publish no inventory we may fetch
python_use_unqualified_type_names = True
add_module_names = False

nb_execution_mode = 'off'
nb_merge_streams = True
myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence', 'fieldlist', 'attrs_inline', 'deflist']
myst_heading_anchors = 3
mathjax_path = 'mathjax/tex-svg.js'

html_theme = 'sphinx_book_theme'
html_title = project
html_baseurl = site(cfg)
html_static_path = ['_static']
html_favicon = '_static/favicon.svg'
html_show_sphinx = False
html_show_search_summary = False
html_copy_source = True
html_show_sourcelink = False
html_context = {'default_mode': 'auto'}
html_theme_options = dict(repository_url=repository(cfg), repository_branch=cfg['branch'], path_to_docs='nbs', use_repository_button=True,
    use_download_button=True, use_source_button=False, navbar_persistent=[], show_toc_level=2, launch_buttons=dict(colab_url='https://colab.research.google.com'))

"What makes the site, the README and what is stamped into the notebooks, out of the notebooks, the package and the ledger."

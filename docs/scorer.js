// What stands first among the results of a search: what the page is about before what it merely says, and lessons before glossary, workshop and reference.
const bonus = page => /^\d/.test(page) ? 30 : page == 'glossary' ? 15 : /^(index|cheatsheet|results|cite|references)$/.test(page) ? 10 : /^w\d/.test(page) ? 5 : 0
var Scorer = {
  objNameMatch: 70, objPartialMatch: 5, objPrio: {0: 5, 1: 5, 2: -5}, objPrioDefault: 0,
  title: 40, partialTitle: 15, term: 5, partialTerm: 2,
  score: ([page, title, anchor, about, score, file, kind]) => kind == 'object' ? score : score + bonus(page),
}

'use strict'
const data = JSON.parse(document.getElementById('data').textContent)
const at = id => document.getElementById(id)
const bytes = text => Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer
const place = new Uint16Array(bytes(data.place)), near = new Uint32Array(bytes(data.near))
const cosine = new Uint16Array(bytes(data.cosine)), alone = new Uint16Array(bytes(data.alone))
const {n, k, side, labels, classes, apart} = data
// signs that turn the direction of writing could make a name look like another: they are shown as what they are
const names = data.names.map(o => o.replace(/[\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]/g, c => `\\u${c.charCodeAt(0).toString(16)}`))
const tile = new Int32Array(n).fill(-1)
data.shown.forEach((row, i) => { tile[row] = i })
const x = i => place[2*i]/65535, y = i => place[2*i + 1]/65535
const PER_ROW = data.per_row, PER_SHEET = PER_ROW*PER_ROW

// every text goes through here: a name is never read as markup
function element(kind, text, attributes = {}, ...children) {
  const o = document.createElement(kind)
  if (text !== '') o.textContent = text
  for (const [key, value] of Object.entries(attributes)) o.setAttribute(key, value)
  o.append(...children)
  return o
}
const className = label => label < 0 ? 'no label' : String(classes[label] || label)
function words(i) {
  const said = []
  if (classes.length > 1) said.push(className(labels[i]))
  if (apart) said.push(apart[i] ? 'kept apart' : 'trained on')
  return said.join(', ')
}

// --- thumbnails

const sheets = data.sheets.map(source => { const o = new Image(); o.src = source; return o })
function paint(context, i, left, top, size) {
  const t = tile[i], sheet = sheets[Math.floor(t/PER_SHEET)], j = t % PER_SHEET
  context.drawImage(sheet, (j % PER_ROW)*side, Math.floor(j/PER_ROW)*side, side, side, left, top, size, size)
}
function thumbnail(i) {
  if (tile[i] < 0) return element('span', 'point', {class: 'nothing'})
  const o = element('canvas', '', {class: 'thumb', width: side, height: side})
  paint(o.getContext('2d'), i, 0, 0, side)
  return o
}
function imageButton(i, ...captions) {
  const says = captions.filter(Boolean)
  const o = element('button', '', {type: 'button', title: names[i], 'data-row': i, 'aria-label': [names[i], words(i), ...says].filter(Boolean).join(', ')})
  o.append(thumbnail(i), ...says.map(s => element('span', s, {class: 'name'})), element('span', names[i], {class: 'name soft'}))
  o.addEventListener('click', () => { pick(i, true); at('picked').scrollIntoView({block: 'nearest'}) })
  return o
}
const images = (rows, caption = () => '') => element('div', '', {class: 'images'}, ...rows.map((i, j) => imageButton(i, caption(i, j))))

// --- the map

const map = at('map'), pen = map.getContext('2d')
const COLOURS = ['#0072b2', '#e69f00', '#009e73', '#d55e00', '#cc79a7', '#56b4e9', '#8c6d31', '#7b61c9', '#5b8a00', '#a0522d']
let view = {x: .5, y: .5, zoom: 1}, picked = -1, hits = null, drawing = false
const tint = (i, of) => of <= COLOURS.length ? COLOURS[i] : `hsl(${(i*137.508) % 360} 65% 50%)`
const style = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim()
const dark = matchMedia('(prefers-color-scheme: dark)')

const SHADES = 8, shade = j => `hsl(${dark.matches ? 45 : 20} 85% ${dark.matches ? 25 + 7*j : 80 - 7*j}%)`
const kinds = { // what the colour says: how many there are, which one an image is, the name and the colour of each
  none: {says: 'nothing', count: () => 1, of: () => 0, name: () => 'image', colour: () => dark.matches ? '#9aa0a6' : '#6b7075'},
  label: {says: 'label', count: () => classes.length + 1, of: i => labels[i] < 0 ? classes.length : labels[i],
    name: j => j === classes.length ? 'no label' : className(j), colour: j => j === classes.length ? '#808080' : tint(j, classes.length)},
  apart: {says: 'trained on or kept apart', count: () => 2, of: i => apart[i], name: j => j ? 'kept apart' : 'trained on', colour: j => ['#009e73', '#cc79a7'][j]},
  alone: {says: 'how unusual', count: () => SHADES, of: i => Math.min(SHADES - 1, Math.floor(alone[i]/65536*SHADES)),
    name: j => j === 0 ? 'usual' : j === SHADES - 1 ? 'most unusual' : '', colour: shade},
}
const offered = ['none', ...(classes.length > 1 ? ['label'] : []), ...(apart ? ['apart'] : []), 'alone']
let kind = kinds[classes.length > 1 ? 'label' : 'none'], filter = () => true

function frame() {
  const scale = devicePixelRatio || 1, w = map.clientWidth, h = map.clientHeight
  if (map.width !== Math.round(w*scale) || map.height !== Math.round(h*scale)) { map.width = Math.round(w*scale); map.height = Math.round(h*scale) }
  pen.setTransform(scale, 0, 0, scale, 0, 0)
  return {w, h, unit: .92*Math.min(w, h)*view.zoom}
}
const onScreen = (i, f) => [(x(i) - view.x)*f.unit + f.w/2, (y(i) - view.y)*f.unit + f.h/2]
function shownRows(f, margin = 20) {
  const rows = []
  for (let i = 0; i < n; i++) {
    const [sx, sy] = onScreen(i, f)
    if (sx > -margin && sy > -margin && sx < f.w + margin && sy < f.h + margin && filter(i)) rows.push(i)
  }
  return rows
}
function circle(i, f, radius, colour) {
  const [sx, sy] = onScreen(i, f)
  pen.beginPath(); pen.arc(sx, sy, radius, 0, 7); pen.lineWidth = 2.5; pen.strokeStyle = colour; pen.stroke()
}
function draw() {
  drawing = false
  const f = frame(), rows = shownRows(f), dot = Math.max(2.5, Math.min(7, 160/Math.sqrt(rows.length + 1)))
  pen.fillStyle = style('--paper'); pen.fillRect(0, 0, f.w, f.h)
  const groups = Array.from({length: kind.count()}, () => [])
  for (const i of rows) groups[kind.of(i)].push(i)
  groups.forEach((group, j) => {
    pen.fillStyle = kind.colour(j)
    for (const i of group) { const [sx, sy] = onScreen(i, f); pen.fillRect(sx - dot/2, sy - dot/2, dot, dot) }
  })
  if (rows.length <= 250) for (const i of rows) if (tile[i] >= 0) {
    const [sx, sy] = onScreen(i, f), size = Math.min(44, 24 + 1000/rows.length)
    pen.fillStyle = kind.colour(kind.of(i)); pen.fillRect(sx - size/2 - 2, sy - size/2 - 2, size + 4, size + 4)
    paint(pen, i, sx - size/2, sy - size/2, size)
  }
  if (hits) for (const i of hits) circle(i, f, 7, style('--ink'))
  if (picked >= 0) {
    for (let j = 0; j < k; j++) circle(near[picked*k + j], f, 8, style('--soft'))
    circle(picked, f, 11, style('--mark'))
  }
}
function redraw() { if (!drawing) { drawing = true; requestAnimationFrame(draw) } }
function zoomAt(factor, sx, sy) {
  const f = frame(), px = (sx - f.w/2)/f.unit + view.x, py = (sy - f.h/2)/f.unit + view.y
  view.zoom = Math.min(2000, Math.max(.5, view.zoom*factor))
  const unit = .92*Math.min(f.w, f.h)*view.zoom
  view.x = px - (sx - f.w/2)/unit; view.y = py - (sy - f.h/2)/unit
  redraw()
}
const zoom = factor => zoomAt(factor, map.clientWidth/2, map.clientHeight/2)
const whole = () => { view = {x: .5, y: .5, zoom: 1}; redraw() }
function nearestTo(sx, sy, reach = Infinity) {
  const f = frame()
  let best = -1, least = reach*reach
  for (const i of shownRows(f)) {
    const [ax, ay] = onScreen(i, f), d = (ax - sx)**2 + (ay - sy)**2
    if (d < least) { least = d; best = i }
  }
  return best
}

// --- what the pointers and the keys do

const pointers = new Map()
let moved = 0
map.addEventListener('pointerdown', e => { map.setPointerCapture(e.pointerId); pointers.set(e.pointerId, [e.offsetX, e.offsetY]); if (pointers.size === 1) moved = 0 })
map.addEventListener('pointermove', e => {
  const was = pointers.get(e.pointerId)
  if (!was) return
  const now = [e.offsetX, e.offsetY], other = [...pointers].find(([id]) => id !== e.pointerId)
  moved += Math.hypot(now[0] - was[0], now[1] - was[1])
  if (other) {
    const o = other[1], far = a => Math.hypot(a[0] - o[0], a[1] - o[1])
    if (far(was) > 0) zoomAt(far(now)/far(was), o[0], o[1])
  } else { const f = frame(); view.x -= (now[0] - was[0])/f.unit; view.y -= (now[1] - was[1])/f.unit; redraw() }
  pointers.set(e.pointerId, now)
})
map.addEventListener('pointerup', e => {
  if (pointers.size === 1 && moved < 6) { const i = nearestTo(e.offsetX, e.offsetY, 24); if (i >= 0) pick(i, false) }
  pointers.delete(e.pointerId)
})
map.addEventListener('pointercancel', e => pointers.delete(e.pointerId))
map.addEventListener('wheel', e => { e.preventDefault(); zoomAt(Math.exp(-e.deltaY*.0015), e.offsetX, e.offsetY) }, {passive: false})
const steps = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}
map.addEventListener('keydown', e => {
  if (e.ctrlKey || e.metaKey || e.altKey) return
  if (steps[e.key]) { const f = frame(); view.x += steps[e.key][0]*60/f.unit; view.y += steps[e.key][1]*60/f.unit; redraw() }
  else if (e.key === '+' || e.key === '=') zoom(1.4)
  else if (e.key === '-') zoom(1/1.4)
  else if (e.key === '0') whole()
  else if (e.key === 'Enter') { const i = nearestTo(map.clientWidth/2, map.clientHeight/2); if (i >= 0) pick(i, false) }
  else if (e.key === 'n' && picked >= 0 && k) pick(near[picked*k], true)
  else return
  e.preventDefault()
})
at('closer').addEventListener('click', () => zoom(1.4))
at('farther').addEventListener('click', () => zoom(1/1.4))
at('whole').addEventListener('click', whole)

// --- the image that was picked

function pick(i, follow) {
  picked = i
  if (follow) { const f = frame(), [sx, sy] = onScreen(i, f); if (sx < 0 || sy < 0 || sx > f.w || sy > f.h) { view.x = x(i); view.y = y(i) } }
  const large = thumbnail(i), rows = Array.from(near.subarray(i*k, i*k + k))
  large.id = 'large'
  at('picked').replaceChildren(element('h2', names[i]), element('p', words(i), {class: 'soft'}), large,
    element('h3', 'Nearest neighbours, by cosine'), images(rows, (_, j) => (cosine[i*k + j]/65535*2 - 1).toFixed(3)))
  for (const o of document.querySelectorAll('[data-row]')) o.setAttribute('aria-current', o.dataset.row === String(i))
  redraw()
}

// --- finding, colours, what is shown

at('find').addEventListener('input', e => {
  const text = e.target.value.trim().toLowerCase()
  hits = null
  if (text) { hits = []; for (let i = 0; i < n; i++) if (names[i].toLowerCase().includes(text)) hits.push(i) }
  at('hits').textContent = hits ? `${hits.length.toLocaleString('en')} of ${n.toLocaleString('en')} names have it${hits.length > 24 ? ', the first 24:' : ''}` : ''
  at('results').replaceChildren(...(hits || []).slice(0, 24).map(i => imageButton(i)))
  redraw()
})
function legend() {
  const rows = []
  for (let j = 0; j < kind.count() && rows.length < 40; j++) {
    if (!kind.name(j) || (kind === kinds.label && j === classes.length && !labels.some(o => o < 0))) continue
    const swatch = element('span', '', {class: 'swatch'})
    swatch.style.background = kind.colour(j)
    rows.push(element('li', '', {}, swatch, kind.name(j)))
  }
  at('legend').replaceChildren(...(kind === kinds.none ? [] : rows))
}
function choices(select, pairs) { for (const [value, text] of pairs) select.append(element('option', text, {value})) }
choices(at('colour'), offered.map(o => [o, kinds[o].says]))
at('colour').value = classes.length > 1 ? 'label' : 'none'
at('colour').addEventListener('change', e => { kind = kinds[e.target.value]; legend(); redraw() })
choices(at('show'), [['all', 'all images'], ...(apart ? [['0', 'trained on'], ['1', 'kept apart']] : []), ...(classes.length > 1 ? classes.map((o, j) => [`class ${j}`, className(j)]) : [])])
at('show').addEventListener('change', e => {
  const v = e.target.value
  filter = v === 'all' ? () => true : v.startsWith('class ') ? i => labels[i] === Number(v.slice(6)) : i => apart[i] === Number(v)
  redraw()
})

// --- the three lists

function list(title, says, parts, show) {
  const box = element('div', ''), more = element('button', 'Show more', {type: 'button'})
  let done = 0
  function go() {
    box.append(...parts.slice(done, done + show.step).map(show.part))
    done = Math.min(done + show.step, parts.length)
    more.hidden = done >= parts.length
  }
  if (show.grid) box.className = 'images'
  more.addEventListener('click', go)
  go()
  at('lists').append(element('section', '', {'aria-label': title}, element('h2', title), element('p', says, {class: 'soft'}), box, more))
}
function lists() {
  list('Near-duplicates', data.says.duplicates, data.duplicates, {step: 10, part: group => element('div', '', {class: 'group'}, images(group))})
  list('Unusual images', data.says.outliers, data.outliers, {step: 24, grid: true, part: ([i, far]) => imageButton(i, `${far.toFixed(3)} away`)})
  if (data.errors) list('Likely label errors', data.says.errors, data.errors, {step: 24, grid: true,
    part: ([i, other, share]) => imageButton(i, `${className(labels[i])} → ${className(other)}?`, `${Math.round(100*share)} % of the vote`)})
}

at('title').textContent = data.title
at('about').textContent = data.says.about
at('picked').replaceChildren(element('h2', 'Pick an image'), element('p', 'Click a point of the map, or any image on this page, to see what the encoder finds most alike.', {class: 'soft'}))
new ResizeObserver(redraw).observe(map)
dark.addEventListener('change', () => { legend(); redraw() })
Promise.all(sheets.map(o => o.decode())).then(() => { legend(); lists(); redraw(); document.documentElement.dataset.ready = 'true' })

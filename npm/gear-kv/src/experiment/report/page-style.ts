// How the page looks: dark and light, narrow and wide, on paper.

/** The style sheet of report.html. */
export const STYLE = `
:root { color-scheme: light dark; --ink: #1f2328; --faint: #59636e; --line: #d8dee4; --paper: #ffffff; --band: #f6f8fa; --link: #0969da; --best: #116329; --theirs: #9a6700; --theirs-band: #fff8e5; }
@media screen and (prefers-color-scheme: dark) {
  :root { --ink: #e6edf3; --faint: #9aa4af; --line: #30363d; --paper: #0d1117; --band: #161b22; --link: #58a6ff; --best: #56d364; --theirs: #e3b341; --theirs-band: #1f1a0d; }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 62rem; padding: 2.5rem 1.25rem 4rem; background: var(--paper); color: var(--ink); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
h1, h2, h3 { line-height: 1.25; text-wrap: balance; }
h1 { font-size: 1.9rem; margin: 0 0 .75rem; letter-spacing: -.015em; }
h2 { font-size: 1.3rem; margin: 3rem 0 1rem; padding-bottom: .35rem; border-bottom: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 2rem 0 .5rem; }
p { margin: .5rem 0; max-width: 46rem; }
a { color: var(--link); }
.kind { margin: 0 0 .35rem; color: var(--faint); font-size: .875rem; }
.kind code { background: none; padding: 0; }
.question { font-size: 1.125rem; color: var(--faint); }
.summary { max-width: 46rem; margin: 1.5rem 0 0; padding: .9rem 1.25rem .9rem 2.25rem; background: var(--band); border: 1px solid var(--line); border-radius: 8px; }
.summary li + li { margin-top: .4rem; }
.note { color: var(--faint); font-size: .9375rem; }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .875em; }
code { background: var(--band); padding: .1em .3em; border-radius: 4px; }
.scroll { overflow-x: auto; margin: .75rem 0; border: 1px solid var(--line); border-radius: 8px; }
.scroll:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: .9375rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .8rem; text-align: left; vertical-align: baseline; border-bottom: 1px solid var(--line); overflow-wrap: normal; }
thead th { background: var(--band); font-weight: 600; font-size: .875rem; vertical-align: bottom; }
tbody tr:last-child > * { border-bottom: 0; }
tbody th { font-weight: 500; }
.figure { text-align: right; white-space: nowrap; }
thead .figure { white-space: normal; }
.words { min-width: 7rem; max-width: 26rem; overflow-wrap: break-word; }
.name { white-space: nowrap; }
thead tr > :first-child, tbody th { position: sticky; left: 0; background: var(--paper); }
thead tr > :first-child { background: var(--band); }
tbody tr:hover > * { background: var(--band); }
.best { color: var(--best); font-weight: 700; }
.none { color: var(--faint); }
.theirs { border-left: 4px solid var(--theirs); padding-left: 1rem; }
.badge { display: inline-block; margin-left: .5rem; padding: .05rem .5rem; border-radius: 1rem; border: 1px solid var(--theirs); color: var(--theirs); font-size: .75rem; font-weight: 600; vertical-align: .1em; white-space: nowrap; }
.theirs .scroll { border-style: dashed; border-color: var(--theirs); }
.theirs thead th, .theirs thead tr > :first-child { background: var(--theirs-band); }
figure { margin: 1.75rem 0; }
figure svg { display: block; max-width: 100%; height: auto; }
figcaption { font-weight: 600; margin-bottom: .5rem; }
.narrow { display: none; }
dl { display: grid; grid-template-columns: minmax(7rem, max-content) 1fr; gap: .3rem 1.25rem; margin: .5rem 0; font-size: .9375rem; }
dt { color: var(--faint); }
dd { margin: 0; min-width: 0; }
.command { position: relative; margin: .75rem 0; }
pre { margin: 0; padding: .9rem 5.5rem .9rem 1rem; background: var(--band); border: 1px solid var(--line); border-radius: 8px; white-space: pre-wrap; line-height: 1.5; }
pre span { display: inline-block; max-width: 100%; vertical-align: top; }
pre code { background: none; padding: 0; font-size: 1em; }
button { position: absolute; top: .55rem; right: .55rem; padding: .25rem .7rem; font: 500 .8125rem/1.4 system-ui, sans-serif; color: var(--ink); background: var(--paper); border: 1px solid var(--line); border-radius: 6px; cursor: pointer; }
button:hover { border-color: var(--faint); }
button:focus-visible { outline: 2px solid var(--link); outline-offset: 1px; }
@media screen and (max-width: 44rem) {
  body { padding: 1.5rem 1rem 3rem; }
  h1 { font-size: 1.5rem; }
  h2 { margin-top: 2.25rem; }
  th, td { padding: .35rem .6rem; }
  .words { max-width: 11rem; }
  .wide { display: none; }
  .narrow { display: block; }
  dl { grid-template-columns: 1fr; gap: 0; }
  dd { margin-bottom: .5rem; }
  .theirs { padding-left: .7rem; }
}
@media print {
  html { font-size: 10pt; }
  body { max-width: none; padding: 0; }
  button { display: none; }
  .scroll { overflow: visible; }
  table { font-size: 9pt; }
  th, td { padding: .2rem .4rem; }
  figure, tr, .summary, .command { break-inside: avoid; }
  h2, h3, figcaption { break-after: avoid; }
  thead tr > :first-child, tbody th { position: static; }
  a { color: inherit; }
}
`;

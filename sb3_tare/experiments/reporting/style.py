"""The style of a report's page: light and dark by the reader's choice, in one column that fits a phone."""

STYLE = """
:root { color-scheme: light dark; --ink: #1a1a1a; --paper: #fff; --soft: #444; --line: #d0d0d0; --box: #f4f4f4; }
:root { --link: #0b57a4; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e8e8e8; --paper: #14171a; --soft: #b8bcc0; --line: #41464b; --box: #1f2428; --link: #8ab8f0; }
}
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper); }
body { max-width: 64rem; margin: 1.5rem auto; padding: 0 1rem; overflow-wrap: break-word; }
h1 { font-size: 1.5rem; line-height: 1.25; margin: 0 0 1rem; } h2 { font-size: 1.25rem; margin-top: 2.2rem; }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .4rem; }
a { color: var(--link); } :focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.study { color: var(--soft); margin: 0; } .answer { font-size: 1.2rem; }
nav ul, .legend { display: flex; flex-wrap: wrap; gap: .4rem 1.2rem; list-style: none; padding: 0; }
figure { margin: 1rem 0; } figcaption { color: var(--soft); font-size: .92rem; }
.panels { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 18.5rem), 1fr)); }
figure svg { fill: currentColor; height: auto; width: 100%; }
figure svg * { stroke-linejoin: round; stroke-linecap: butt; }
.legend svg { width: 2.6rem; height: .8rem; vertical-align: middle; margin-right: .4rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { white-space: nowrap; text-align: right; padding: .25rem .7rem; border-bottom: 1px solid var(--line); }
thead th { border-bottom: 2px solid var(--soft); vertical-align: bottom; } th[scope=row] { font-weight: normal; }
.text { text-align: left; }
pre { background: var(--box); padding: .7rem; overflow-x: auto; font-size: .85rem; }
@media print { nav { display: none; } }
"""

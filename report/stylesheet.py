"""The page's style: light, sober, printable; no external font, no script."""

from __future__ import annotations

CSS = """
:root { --ink: #1b1f24; --soft: #57606a; --line: #d5dae0; --tint: #f4f6f8; --mark: #dcebf7; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; padding: 28px 32px 64px; max-width: 1180px; background: #fff;
  color: var(--ink); font: 15px/1.5 system-ui, "Segoe UI", "Helvetica Neue", Arial, sans-serif;
  font-variant-numeric: tabular-nums lining-nums; }
h1 { font-size: 27px; line-height: 1.25; margin: 0 0 4px; }
h2 { font-size: 20px; margin: 44px 0 12px; padding-bottom: 5px;
  border-bottom: 2px solid var(--ink); }
h3 { font-size: 14px; margin: 18px 0 6px; }
p { margin: 0 0 12px; max-width: 92ch; }
a { color: #0b5394; }
.meta, .note, figcaption, small { color: var(--soft); }
.meta { font-size: 13.5px; }
.note, figcaption { font-size: 13px; line-height: 1.45; max-width: 115ch; }
.summary { font-size: 16px; } .meta + .summary { margin-top: 16px; }
.banner { border: 1px solid #b58900; border-left-width: 6px; background: #fff8e1;
  padding: 10px 16px; margin: 16px 0; max-width: none; }
.data { border-left: 4px solid var(--line); padding-left: 12px; }
.remark { font-size: 13px; border-left: 4px solid #b58900; padding: 1px 0 1px 10px;
  margin: 0 0 24px; }
nav { font-size: 13.5px; margin-top: 14px; }
nav a { margin-right: 16px; white-space: nowrap; }
.wide { overflow-x: auto; margin: 0 0 20px; }
table { border-collapse: collapse; }
caption { text-align: left; caption-side: top; padding: 0 0 6px; font-size: 14px;
  color: var(--soft); }
caption b, figcaption b { color: var(--ink); }
.numbers { width: 100%; border-bottom: 1.5px solid var(--ink); font-size: 14px; }
.numbers thead { border-top: 1.5px solid var(--ink); border-bottom: 1px solid var(--ink); }
.numbers th, .numbers td { padding: 4px 10px; text-align: right; white-space: nowrap; }
.numbers thead th { font-weight: 600; vertical-align: bottom; }
.long th, .long td { padding-top: 2.5px; padding-bottom: 2.5px; }
.numbers.long tr.group th { padding-top: 8px; }
.even { table-layout: fixed; min-width: 640px; }
.even thead th:first-child { width: 18%; }
.even thead th { white-space: normal; overflow-wrap: anywhere; }
.numbers thead small { display: block; font-weight: 400; }
.numbers th:first-child { text-align: left; font-weight: 500; padding-left: 2px; }
.numbers tbody tr + tr { border-top: 1px solid #eceff2; }
.numbers .text { text-align: left; white-space: normal; }
.numbers .divided { border-left: 1px solid var(--line); }
.numbers tr.source { color: var(--soft); }
.numbers tr.group th { font-size: 12.5px; font-weight: 600; color: var(--soft); padding-top: 10px;
  border-top: 1px solid var(--line); }
.numbers tbody th { white-space: normal; }
.numbers tbody th small { display: block; font-weight: 400; line-height: 1.3; }
.actions { font-size: 13px; }
.actions th, .actions td { padding: 4px 7px; vertical-align: top; }
.actions thead th { white-space: normal; vertical-align: bottom; }
.actions tbody th { min-width: 190px; }
.actions td.text { white-space: nowrap; }
.actions td:last-child { padding-left: 8px; }
.actions td small { color: var(--soft); }
.best { background: var(--mark); font-weight: 700; }
.strong { font-weight: 700; }
.heat { width: auto; min-width: 60%; border-collapse: separate; border-spacing: 2px; border: 0; }
.heat caption { white-space: nowrap; }
.heat td { text-align: center; padding: 6px 14px; }
.heat thead th { text-align: center; border: 0; }
.heat thead { border: 0; }
.heat.long { font-size: 13px; border-spacing: 1px; }
.heat.long td { padding: 2px 14px; } .heat.long tbody th { padding: 2px 10px 2px 2px; }
.heat td.own { outline: 2.5px solid #D55E00; outline-offset: -2.5px; font-weight: 700; }
details { margin: 10px 0 18px; border: 1px solid var(--line); border-radius: 4px; }
summary { cursor: pointer; padding: 7px 14px; background: var(--tint); font-weight: 600;
  font-size: 14px; }
details { padding: 0 14px 4px; }
summary { margin: 0 -14px -4px; }
details[open] summary { margin-bottom: 14px; }
figure { margin: 0 0 28px; }
figcaption { margin: 6px 0 8px; }
.plot { display: block; max-width: 100%; height: auto; }
.pictures { width: 100%; table-layout: fixed; min-width: 720px; font-size: 13px; }
.pictures thead th { font-weight: 600; padding: 4px 2px; vertical-align: bottom;
  overflow-wrap: anywhere; }
.pictures th:first-child { width: 96px; text-align: left; font-weight: 400; line-height: 1.35;
  padding-right: 8px; overflow-wrap: anywhere; }
.pictures tbody { border-top: 1px solid var(--line); break-inside: avoid; }
.pictures tbody tr:first-child > * { padding-top: 10px; }
.pictures tbody tr:last-child > * { padding-bottom: 10px; }
.pictures td { padding: 2px; text-align: center; vertical-align: top; }
.pictures td > img { display: block; width: 100%; height: auto; }
.pictures td > span { display: block; font-size: 11.5px; color: var(--soft); white-space: nowrap;
  }
.pictures .none { color: var(--soft); vertical-align: middle; font-size: 12px;
  background: var(--tint); }
.bar { display: flex; justify-content: center; gap: 6px; padding-top: 8px; height: 150px; }
.bar img { width: 14px; height: 100%; border: 1px solid #999; }
.bar span { display: flex; flex-direction: column; justify-content: space-between;
  text-align: left;
  font-size: 12px; color: var(--soft); }
.bar i { font-style: normal; }
dl { display: grid; grid-template-columns: max-content minmax(0, 1fr); gap: 1px 16px;
  margin: 0 0 14px;
  font-size: 13.5px; }
dt { color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
.hash dd { font: 12px/1.7 ui-monospace, "DejaVu Sans Mono", Consolas, monospace; }
.columns { columns: 3 280px; column-gap: 32px; }
.columns > div { break-inside: avoid; }
.columns h3 { margin-top: 0; }
@media print {
  @page { size: A4; margin: 12mm; }
  body { padding: 0; max-width: none; font-size: 10pt; }
  h1 { font-size: 17pt; }
  .summary { font-size: 10pt; }
  caption { font-size: 9.5pt; } .note, figcaption, .remark { font-size: 8.5pt; }
  p, .note, figcaption { max-width: none; }
  nav { display: none; }
  h2, h3, caption, figcaption { break-after: avoid; break-inside: avoid; }
  summary { break-after: avoid; list-style: none; }
  details summary { margin-bottom: 10px; }
  .curves, details:has(> .curves) { break-inside: avoid; }
  .curves figcaption { break-before: avoid; break-after: auto; }
  .numbers, .heat, .plot, tr { break-inside: avoid; }
  .numbers { font-size: 9pt; } .numbers th, .numbers td { padding: 3px 5px; }
  .numbers.long { font-size: 7.2pt; min-width: 0; }
  .numbers.long th, .numbers.long td { padding: 0.7px 3px; line-height: 1.32; }
  .numbers.long tr.group th { font-size: 7pt; padding-top: 3px; }
  .numbers.long thead small, .numbers.long td small { font-size: 6.2pt; }
  .long.even thead th:first-child { width: 21%; }
  .numbers.actions { font-size: 7.5pt; break-inside: auto; }
  .numbers.actions th, .numbers.actions td { padding: 2px 3px; }
  .actions tbody th { min-width: 122px; }
  .wide { overflow: visible; margin-bottom: 12px; } .pictures { min-width: 0; font-size: 8pt; }
  .pictures th:first-child { width: 62px; } .pictures td > span { font-size: 6.5pt; }
  .bar { height: 90px; }
  details::details-content { content-visibility: visible; height: auto; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
}
"""

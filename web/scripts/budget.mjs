// Checks the build against the weights of ../../shared/reference/ui.md A4: what
// a browser must load before it shows something, and before it shows a chat.
// All figures are Brotli bytes. Exit 1 when one is over.
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { brotliCompressSync } from "node:zlib";

const dist = new URL("../dist/", import.meta.url).pathname;
const weigh = (file) => brotliCompressSync(readFileSync(join(dist, file))).length;
const assets = readdirSync(join(dist, "assets")).filter((f) => /\.(js|css)$/.test(f));
const named = (name, ext) => assets.filter((f) => f.startsWith(`${name}-`) && f.endsWith(ext)).map((f) => `assets/${f}`);

/** What a chunk imports statically, itself included. */
function closure(files) {
  const seen = new Set();
  const visit = (file) => {
    if (seen.has(file)) return;
    seen.add(file);
    const code = readFileSync(join(dist, file), "utf8");
    for (const m of code.matchAll(/(?:from|import)\s*["']\.\/([^"']+\.js)["']/g)) visit(`assets/${m[1]}`);
  };
  files.forEach(visit);
  return [...seen];
}

const html = readFileSync(join(dist, "index.html"), "utf8");
const refs = (re) => [...html.matchAll(re)].map((m) => m[1]);
const largest = (files) => files.toSorted((a, b) => weigh(b) - weigh(a)).slice(0, 1);
const locale = largest([...named("zh-CN", ".js"), ...named("en", ".js")]);
const start = closure([...refs(/(?:src|href)="\/(assets\/[^"]+\.js)"/g), ...locale]);
const css = refs(/href="\/(assets\/[^"]+\.css)"/g);
const chat = closure([...start, ...named("chat", ".js"), ...named("renderer", ".js")]);
for (const name of ["chat", "renderer"]) {
  if (named(name, ".js").length !== 1) throw new Error(`the build has no chunk "${name}"; the budget cannot be checked`);
}
if (locale.length === 0 || css.length === 0) throw new Error("the build lacks a locale or its style sheet");

const sum = (files) => [...new Set(files)].reduce((n, f) => n + weigh(f), 0);
const KB = 1024;
const rows = [
  ["start JavaScript (with one language)", sum(start), 20 * KB],
  ["start CSS", sum(css), 8 * KB],
  ["chat route JavaScript, Markdown included", sum(chat), 60 * KB],
];
const files = new Set([...chat, ...css]).size + 1; // and index.html
let over = files > 8;
console.log(`${over ? "OVER" : "ok  "} ${String(files).padStart(6)} of 8     files before a chat is shown`);
for (const [what, got, max] of rows) {
  over ||= got > max;
  console.log(`${got > max ? "OVER" : "ok  "} ${(got / KB).toFixed(1).padStart(6)} of ${max / KB} KB  ${what}`);
}
process.exit(over ? 1 : 0);

// The browser of the tests, with a watch on everything a page may do wrong.
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const executable = process.env.JIMU_CHROMIUM ?? "/usr/bin/chromium";
export const shots = fileURLToPath(new URL("./shots/", import.meta.url));
const axe = readFileSync(createRequire(import.meta.url).resolve("axe-core/axe.min.js"), "utf8");
const flags = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking --disable-component-update --disable-sync --force-device-scale-factor=1";

export const available = () => existsSync(executable);

/** open starts a browser; faults collects what pages did wrong, allow() what they may. */
export async function open() {
  mkdirSync(shots, { recursive: true });
  const browser = await chromium.launch({ executablePath: executable, headless: true, args: flags.split(" ") });
  const faults = [];
  const allowed = [];

  async function context(options) {
    const ctx = await browser.newContext({ viewport: { width: 1280, height: 800 }, locale: "zh-CN", timezoneId: "Asia/Shanghai", ...options });
    ctx.setDefaultTimeout(15_000);
    await ctx.exposeBinding("jimuViolation", (_, text) => faults.push(`CSP: ${text}`));
    await ctx.addInitScript(() => {
      document.addEventListener("securitypolicyviolation", (e) => window.jimuViolation(`${e.violatedDirective} ${e.blockedURI} ${e.sourceFile}:${e.lineNumber}`));
    });
    ctx.on("console", (m) => {
      if (m.type() !== "error" && m.type() !== "warning") return;
      const text = `${m.text()} @ ${m.location().url}`;
      if (!allowed.some((re) => re.test(text))) faults.push(`console: ${text}`);
    });
    ctx.on("weberror", (e) => faults.push(`page: ${e.error().stack ?? e.error()}`));
    return ctx;
  }

  /** audit runs axe; the page's policy lets no script in, so it is evaluated. */
  async function audit(page, name) {
    await page.evaluate(axe);
    const found = await page.evaluate(async () => {
      const out = await globalThis.axe.run(document, { runOnly: ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"] });
      return out.violations.map((v) => `${v.id}: ${v.nodes.map((n) => `${n.target.join(" ")} (${n.any[0]?.message ?? n.failureSummary})`).join("; ")}`);
    });
    for (const v of found) faults.push(`axe ${name}: ${v}`);
  }

  return {
    faults,
    allow: (re) => allowed.push(re),
    context,
    audit,
    shot: (page, name) => page.screenshot({ path: join(shots, `${name}.png`) }),
    close: async () => {
      await browser.close();
    },
  };
}

import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import type { Plugin } from "vite";

/**
 * bootScript puts a tiny classic script at the top of the page's head: it sets
 * theme and language before the first paint. The page's policy allows no
 * inline script, and a module would run too late.
 */
export function bootScript(path: string): Plugin {
  let build = false;
  const read = () =>
    readFileSync(path, "utf8")
      .replace(/^\s*\/\/.*\n/gm, "")
      .replace(/\n\s*/g, "\n")
      .trim();
  const name = () => `assets/boot-${createHash("sha256").update(read()).digest("hex").slice(0, 8)}.js`;
  return {
    name: "jimu-boot",
    config: (_, env) => {
      build = env.command === "build";
    },
    generateBundle() {
      this.emitFile({ type: "asset", fileName: name(), source: read() });
    },
    transformIndexHtml: {
      order: "post",
      handler: () => [{ tag: "script", attrs: { src: build ? `/${name()}` : "/src/boot.js" }, injectTo: "head-prepend" }],
    },
  };
}
